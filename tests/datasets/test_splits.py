"""Nothing leaks from one split into another, whatever units, calls, times and sources there are."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datasets import Plan, Split, parse_split
from gateway.datasets.splits import Hasher, Splitter, UnitSet
from gateway.errors import DataSetError
from tests.datasets.making import DAY_US, SALT, calls, feedback, made, opened, review, write

HOUR_US = 3_600_000_000

Row = tuple[int | None, bytes, int]
"""Unit, decision, time of the call."""

calls_of_units = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 5)),
        st.integers(0, 1000),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=60,
)


def rows_of(drawn: list[tuple[int | None, int, int]]) -> list[Row]:
    """Calls of 1 to 3 labels each; all labels of a call have its unit and time, as the ledger's reader gives them."""
    rows: list[Row] = []
    for number, (unit, hour, size) in enumerate(drawn):
        rows += [(unit, number.to_bytes(16, "big"), hour * HOUR_US)] * size
    return rows


def assigned(plan: Plan, rows: list[Row], cuts_us: tuple[int, ...] = (), salt: str = SALT) -> list[int]:
    later = []
    if cuts_us:
        later = [UnitSet() for _ in plan.splits[1:]]
        side = Splitter(plan, salt, cuts_us).side(np.array([at for _, _, at in rows]))
        for index, there in enumerate(later):
            there.add(
                np.array(
                    [row[0] for row, of in zip(rows, side, strict=True) if of > index and row[0] is not None]
                )
            )
    splitter = Splitter(plan, salt, cuts_us, later)
    return [int(one) for one in splitter.assign(*zip(*rows, strict=True))]


def leaks(rows: list[Row], split: list[int]) -> list[tuple[Row, Row]]:
    """Pairs of rows in two splits that share their unit or their call."""
    kept = [(row, of) for row, of in zip(rows, split, strict=True) if of >= 0]
    return [
        (one, other)
        for (one, of), (other, its) in itertools.combinations(kept, 2)
        if of != its and (one[1] == other[1] or (one[0] is not None and one[0] == other[0]))
    ]


@given(
    calls_of_units,
    st.sampled_from(["unit:0.5", "unit:0.8", "unit:0.4,0.3"]),
    st.sampled_from(["drop", "call"]),
)
def test_by_unit_nobody_is_in_two_splits(
    drawn: list[tuple[int | None, int, int]], text: str, unknown: str
) -> None:
    """A unit, a call and all that was said about it stay together."""
    rows = rows_of(drawn)
    found = assigned(Plan(split=parse_split(text), unknown_units=unknown), rows)  # type: ignore[arg-type]
    assert leaks(rows, found) == []
    assert all(
        (of < 0) == (unit is None and unknown == "drop") for (unit, *_), of in zip(rows, found, strict=True)
    )


@given(
    calls_of_units,
    st.lists(st.integers(0, 1000), min_size=1, max_size=2, unique=True),
    st.integers(0, 50),
    st.sampled_from(["drop", "call"]),
)
def test_by_time_nobody_is_in_two_splits(
    drawn: list[tuple[int | None, int, int]], cuts: list[int], gap: int, unknown: str
) -> None:
    """And what is earlier by time is in an earlier split; the gap is empty."""
    rows = rows_of(drawn)
    cuts_us = tuple(sorted(cut * HOUR_US for cut in cuts))
    split = Split("time", (0.5, 0.8)[: len(cuts)], gap_us=gap * HOUR_US)
    found = assigned(Plan(split=split, unknown_units=unknown), rows, cuts_us)  # type: ignore[arg-type]
    assert leaks(rows, found) == []
    for (_, _, at), of in zip(rows, found, strict=True):
        if of >= 0:
            assert of == sum(at >= cut for cut in cuts_us)
            assert not any(cut <= at < cut + gap * HOUR_US for cut in cuts_us)


@given(calls_of_units, st.integers(0, 1000))
def test_by_time_the_last_split_is_whole(drawn: list[tuple[int | None, int, int]], cut: int) -> None:
    """What is tested on must stay what the traffic was: only earlier splits give up rows."""
    rows = rows_of(drawn)
    found = assigned(Plan(split=Split("time", (0.5,)), unknown_units="call"), rows, (cut * HOUR_US,))
    assert all((of == 1) == (at >= cut * HOUR_US) for (_, _, at), of in zip(rows, found, strict=True))


@given(
    st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50),
    st.floats(0.05, 0.9),
    st.floats(0.01, 0.09),
)
def test_by_unit_a_larger_share_has_all_of_a_smaller_one(units: set[int], share: float, more: float) -> None:
    """Nested, as every choice is: who was trained on is not tested on when the share grows."""
    rows = [(unit, b"", 0) for unit in units]
    small = assigned(Plan(split=Split("unit", (share,))), rows)
    large = assigned(Plan(split=Split("unit", (share + more,))), rows)
    assert all(its == 0 for of, its in zip(small, large, strict=True) if of == 0)


def test_by_unit_the_shares_are_met_and_salts_and_purposes_have_nothing_in_common() -> None:
    """A hash that is even, and another one for another salt: else one choice would tell of another."""
    rows = [(unit, b"", 0) for unit in range(20_000)]
    plan = Plan(split=parse_split("unit:0.7,0.1"))
    one, other = np.array(assigned(plan, rows)), np.array(assigned(plan, rows, salt="cd" * 32))
    for found in (one, other):
        shares = np.bincount(found) / len(rows)
        assert np.abs(shares - [0.7, 0.1, 0.2]).max() < 4 * (0.25 / len(rows)) ** 0.5
    both = np.mean((one == 0) & (other == 0))
    assert abs(both - 0.49) < 4 * (0.25 / len(rows)) ** 0.5
    key = (7).to_bytes(8, "big")
    assert len({Hasher(SALT, purpose).text(key) for purpose in ("split", "unit", "author")}) == 3


def test_places_are_below_one() -> None:
    """The largest hash must not fall out of the last split."""
    hasher = Hasher(SALT, "split")
    hasher.digest = lambda data: b"\xff" * 8  # type: ignore[method-assign]
    assert hasher.places([b""])[0] < 1.0


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=10), st.data())
def test_a_unit_set_is_a_set(parts: list[list[int]], data: st.DataObject) -> None:
    held, known = UnitSet(), set[int]()
    for part in parts:
        held.add(np.array(part, dtype=np.int64))
        known |= set(part)
    asked = data.draw(
        st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([*known, 0])), min_size=1)
    )
    assert held.contains(np.array(asked, dtype=np.int64)).tolist() == [one in known for one in asked]


def test_more_units_than_are_held_end_the_export_with_a_mend() -> None:
    held = UnitSet(most=10)
    held.add(np.arange(11))
    with pytest.raises(DataSetError, match=r"more than 10 units.*narrow the window.*or split by unit"):
        held.contains(np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("text", ["time:0.6", "time:0.4,0.3", "unit:0.6", "unit:0.4,0.3"])
def test_nothing_leaks_into_another_file(sqlite_url: str, tmp_path: Path, text: str) -> None:
    """In the files themselves, with units of many calls, batches, and receipts that know the time less well."""
    ledger = opened(sqlite_url)
    try:
        records = calls(7, 250, units=60, rows=(1, 2, 3))
        write(ledger, records, captured=False)
        feedback(ledger, records, 8, share=0.7)
    finally:
        ledger.close()
    card, frame = made(sqlite_url, tmp_path / "out", Plan(split=parse_split(text), unknown_units="call"))
    assert len(frame) > 50
    for key in ("decision", "unit"):
        known = frame.filter(pl.col(key).is_not_null())
        assert known.group_by(key).agg(pl.col("split").n_unique())["split"].max() == 1
    if text.startswith("time"):
        spans = [
            (part["time"].min(), part["time"].max())
            for part in frame.partition_by("split", maintain_order=True)
        ]
        assert sorted(spans) == sorted(spans, key=lambda span: span[1])
        assert card["dropped"]["unit_in_later_split"] > 0


def test_the_gap_is_left_out_of_the_files(sqlite_url: str, tmp_path: Path) -> None:
    """Two days after the cut, counted."""
    ledger = opened(sqlite_url)
    try:
        records = calls(9, 200, units=1000)
        write(ledger, records)
        review(ledger, records)
    finally:
        ledger.close()
    whole, _ = made(sqlite_url, tmp_path / "whole", Plan(split=parse_split("time:0.5"), unknown_units="call"))
    split = parse_split("time:0.5", gap_us=2 * DAY_US)
    card, frame = made(sqlite_url, tmp_path / "out", Plan(split=split, unknown_units="call"))
    assert card["split"]["cuts"] == whole["split"]["cuts"]
    assert card["split"]["gap_h"] == 48
    train, test = (frame.filter(pl.col("split") == name)["time"] for name in ("train", "test"))
    assert (test.min() - train.max()).total_seconds() >= 48 * 3600
    assert card["dropped"]["in_gap"] > 0
    assert card["splits"]["train"]["rows"] + card["dropped"]["in_gap"] > whole["splits"]["train"]["rows"] - 1


def test_a_share_of_the_rows_is_before_the_cut(filled: str, tmp_path: Path) -> None:
    """`time:0.8` is 80 % of what was labelled, before the units of the last split are taken out."""
    card, frame = made(filled, tmp_path / "out", Plan(split=parse_split("time:0.8"), unknown_units="call"))
    rows = len(frame) + sum(card["dropped"].values())
    assert abs(card["splits"]["test"]["rows"] - 0.2 * rows) < 0.03 * rows
