"""A data set is the same from both databases, at once from one state of the ledger, and in bounded memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from gateway.datasets import Plan, parse_split, source, writing
from gateway.errors import DataSetError
from gateway.ledger import Truth, Window
from tests.datasets.making import calls, feedback, fill, made, opened, review, write
from tests.ledger.making import label

TYPES = {
    "decision": pl.String,
    "row": pl.Int32,
    "split": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "label_time": pl.Datetime("us", "UTC"),
    "event_time": pl.Datetime("us", "UTC"),
    "route": pl.String,
    "policy": pl.Int32,
    "backend": pl.String,
    "outcome": pl.String,
    "reason": pl.String,
    "predicted": pl.String,
    "score": pl.Float64,
    "confidence": pl.Float64,
    "flagged": pl.Boolean,
    "segment": pl.String,
    "unit": pl.String,
    "stratum": pl.String,
    "sampled": pl.Boolean,
    "inclusion_probability": pl.Float64,
    "weight": pl.Float64,
    "arm": pl.String,
    "propensity": pl.Float64,
    "source": pl.String,
    "kind": pl.String,
    "signal": pl.String,
    "label": pl.String,
    "positive": pl.Boolean,
    "value": pl.Float64,
    "revision": pl.Int32,
    "agreement": pl.Float64,
    "reviews": pl.Int32,
    "author": pl.String,
    "segment.country": pl.String,
    "segment.device": pl.String,
}


def test_both_databases_give_the_same_data_set(filled: str, postgres_url: str, tmp_path: Path) -> None:
    """Row by row, in order, with the same types and the same card."""
    fill(postgres_url)
    plan = Plan(split=parse_split("time:0.6", gap_us=3_600_000_000), unknown_units="call")
    one_card, one = made(filled, tmp_path / "sqlite", plan)
    other_card, other = made(postgres_url, tmp_path / "postgresql", plan)
    assert_frame_equal(one, other)
    assert one_card == other_card
    assert len(one) > 200


def test_the_columns_have_their_types(filled: str, tmp_path: Path) -> None:
    """Whoever writes code against them counts on it; docs/export.md lists them."""
    _, frame = made(filled, tmp_path / "out", Plan(inputs=False))
    assert dict(frame.schema) == TYPES


def test_rows_say_what_the_ledger_says(filled: str, tmp_path: Path) -> None:
    """Every fact of every row, against the records that were put in."""
    _, frame = made(filled, tmp_path / "out", Plan())
    records = {(one["id_lo"], one["row"]): one for one in calls(1, 300)}
    outcomes = {0: "model", 1: "fallback", 2: "static", 4: "holdout"}
    for row in frame.iter_rows(named=True):
        record = records[int(row["decision"].replace("-", ""), 16), row["row"]]
        kept = bool(record["sampled"])
        assert row["outcome"] == outcomes[record["outcome"]]
        assert row["score"] == record["score"]
        assert row["flagged"] == bool(record["flagged"])
        assert row["inclusion_probability"] == record["review_pi"]
        assert row["sampled"] == kept
        assert row["propensity"] == record["propensity"]
        assert row["arm"] == ("spam-v3" if record["arm"] == 0 else None)
        assert row["predicted"] == ((("ham", "spam")[record["flagged"]]) if kept else None)
        assert row["confidence"] == (record["confidence"] if kept else None)
        assert row["stratum"] == (("low", "flagged")[record["flagged"]] if kept else None)
        assert row["reason"] == ("ok" if kept else None)
        assert (row["segment.device"], row["segment.country"]) == {
            0: ("phone", "de"),
            1: ("desk", None),
            2: (None, None),
        }[record["segment"]]
        reviewed = row["source"] == "review"
        assert row["weight"] == (1 / record["review_pi"] if reviewed else None)
        assert row["positive"] == (row["label"] == "spam")
        assert (row["author"] is None) == (not reviewed)
    units = frame.filter(pl.col("unit").is_not_null()).group_by("unit").agg(pl.col("decision").n_unique())
    assert 30 <= len(units) <= 40


def test_nobody_is_named(filled: str, tmp_path: Path) -> None:
    """The reviewer's name and the unit's number stand in no file; their pseudonyms are the same each time."""
    first, one = made(filled, tmp_path / "one", Plan())
    _, other = made(filled, tmp_path / "other", Plan())
    assert_frame_equal(one, other)
    authors = set(one["author"].drop_nulls())
    assert len(authors) == 2
    assert authors & {"ann", "bob"} == set()
    assert not {"ann", "bob"} & set(str(first).split("'"))
    units = {f"{number * 0x9E37_79B9_7F4A_7C15 % 2**64:016x}" for number in range(40)}
    assert units & set(one["unit"].drop_nulls()) == set()


def test_only_the_last_word_of_a_source_counts(sqlite_url: str, tmp_path: Path) -> None:
    """Corrections replace, duplicates add nothing; an outcome is of another kind."""
    ledger = opened(sqlite_url)
    try:
        for positive in (True, False, False):
            ledger.submit_labels([label(1, positive)]).result(10.0)
        ledger.submit_labels([label(1, value=2.5), label(2, True, source="support")]).result(10.0)
    finally:
        ledger.close()
    card, frame = made(sqlite_url, tmp_path / "out", Plan())
    assert frame.select("label", "positive", "source", "revision").rows() == [
        ("ham", False, "app", 2),
        ("spam", True, "support", 1),
    ]
    _, values = made(sqlite_url, tmp_path / "values", Plan(kinds=("outcome",)))
    assert values.select("kind", "value", "label").rows() == [("outcome", 2.5, None)]
    assert card["kinds"] == ["label"]


def test_what_was_taken_back_is_no_label(sqlite_url: str, tmp_path: Path) -> None:
    """A reviewer's answer that was undone is a last revision that says nothing: not a row, and not covered."""
    ledger = opened(sqlite_url)
    try:
        records = calls(5, 30)
        write(ledger, records)
        done = review(ledger, records)
        card, frame = made(sqlite_url, tmp_path / "before", Plan())
        assert len(frame) == done
        undone = frame.row(0, named=True)
        number = int(undone["decision"].replace("-", ""), 16)
        nothing = replace(label(number, True, row=undone["row"], source="review"), truth=Truth())
        ledger.submit_labels([nothing]).result(10.0)
        after, left = made(sqlite_url, tmp_path / "after", Plan())
    finally:
        ledger.close()
    assert_frame_equal(left, frame[1:])
    stratum = undone["stratum"]
    (of,), (before,) = after["coverage"].values(), card["coverage"].values()
    assert of["labelled"] == before["labelled"] - 1
    assert of["review"][stratum]["reviewed"] == before["review"][stratum]["reviewed"] - 1


@pytest.mark.parametrize("rows", [7, 100])
def test_portions_and_row_groups_change_nothing(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Read and written a few rows at a time: what is held is bounded, what is written the same."""
    plan = Plan(split=parse_split("unit:0.5"), unknown_units="call")
    whole, frame = made(filled, tmp_path / "whole", plan)
    monkeypatch.setattr(source, "READ_ROWS", rows)
    monkeypatch.setattr(source, "PAYLOAD_BYTES", 300)
    monkeypatch.setattr(writing, "ROW_GROUP_ROWS", rows)
    parts, same = made(filled, tmp_path / "parts", plan)
    assert_frame_equal(frame, same)
    for name in ("train", "test"):
        weights, others = (card["splits"][name].pop("weights") for card in (whole, parts))
        assert weights == pytest.approx(others)
    assert parts == whole
    file = pq.ParquetFile(tmp_path / "parts" / "train.parquet")
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert len(sizes) > 1
    assert max(sizes) <= rows


def test_a_row_group_is_bounded_by_its_bytes(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs may be large."""
    monkeypatch.setattr(source, "READ_ROWS", 10)
    monkeypatch.setattr(writing, "ROW_GROUP_BYTES", 8_000)
    made(filled, tmp_path / "out", Plan())
    file = pq.ParquetFile(tmp_path / "out" / "all.parquet")
    assert file.num_row_groups > 5
    assert all(file.metadata.row_group(index).num_rows < 60 for index in range(file.num_row_groups))


def test_what_comes_while_it_writes_is_not_in_it(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One state of the ledger, from the first query to the last: else a card would count what the files do not hold."""
    ledger = opened(ledger_url)
    try:
        records = calls(1, 60)
        write(ledger, records)
        feedback(ledger, records, 2)
        held = writing._cuts

        def meanwhile(*arguments: Any) -> Any:
            review(ledger, records)
            return held(*arguments)

        monkeypatch.setattr(writing, "_cuts", meanwhile)
        card, frame = made(ledger_url, tmp_path / "out", Plan())
        monkeypatch.undo()
        assert "review" not in frame["source"].to_list()
        assert sum(one["reviewed"] for one in card["coverage"]["spam"]["review"].values()) == 0
        after, _ = made(ledger_url, tmp_path / "after", Plan())
        assert after["rows"] > card["rows"]
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(window=Window(route="fraud")), "no labelled decision is in this window; widen --since"),
        (Plan(window=Window(0, 1)), "no labelled decision is in this window"),
        (
            Plan(split=parse_split("time:2030-01-01"), unknown_units="call"),
            "nothing is in test; choose other shares",
        ),
        (
            Plan(split=parse_split("unit:0.8")),
            r"nothing is in train and test \(left out: 1 unit_unknown\).*--unknown-units call",
        ),
    ],
)
def test_an_empty_split_is_no_data_set(sqlite_url: str, tmp_path: Path, plan: Plan, words: str) -> None:
    """It is said why, and what would help."""
    ledger = opened(sqlite_url)
    try:
        ledger.submit_labels([label(1)]).result(10.0)
    finally:
        ledger.close()
    with pytest.raises(DataSetError, match=words):
        made(sqlite_url, tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_what_is_not_noted_does_not_leave(filled: str, tmp_path: Path) -> None:
    """The audit trail first: an export that it cannot take is none."""

    def note(card: Any) -> None:
        assert card["rows"] > 0
        assert not (tmp_path / "out").exists()
        raise OSError("the trail is full")

    with pytest.raises(DataSetError, match="the trail is full"):
        made(filled, tmp_path / "out", Plan(), note=note)
    assert list(tmp_path.iterdir()) == []
