"""A batch goes up as it is, and nothing that arrives is taken on trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fleet.encoding import MOST_BATCH_BYTES, MOST_ROWS, Malformed, decode, encode, messages, parse
from gateway.fleet.forms import LEAST
from gateway.ledger import Limits, schema
from gateway.ledger.segments import Segments
from gateway.ledger.tallies import Delta, reduce_batch
from gateway.runtime.batch import Batch
from gateway.v1 import fleet_pb2
from tests.ledger import making

RUN = bytes(range(16))


def rich() -> Batch:
    """A batch with something in every table."""
    sampled = making.sampled(3, rows=2)
    mixed = making.batch(
        [{"id_lo": 3, "row": row, "rows": 2, "sampled": 1, "label": 0, "score": 0.9} for row in (0, 1)]
        + [{"route": 65_535, "backend": 65_535}, {"policy": 99}],
        mirrors=[{"agree": 1, "difference": 0.25}],
        strings=["spam"],
        captures=sampled.captures,
        raises=[{"id_lo": 4, "score": 0.4, "sampled": 1, "review_pi": 0.5}],
    )
    assert mixed.captures
    return mixed


def message_of(batch: Batch) -> fleet_pb2.RecordBatch:
    return parse(encode(batch, run=RUN, sequence=7, sidecar="a"))


def summed(batch: Batch) -> Mapping[str, Any]:
    delta = Delta()
    reduce_batch(batch, delta, Segments(100), Limits())
    return {field.name: getattr(delta, field.name) for field in fields(delta)}


def test_a_batch_arrives_as_it_left() -> None:
    """What control adds up is what the sidecar would have."""
    batch = rich()
    message = message_of(batch)
    assert (message.run, message.sequence, message.sidecar, message.rows) == (RUN, 7, "a", 4)
    arrived = decode(message)
    assert summed(arrived) == summed(batch)
    for table in ("records", "mirrors", "raises"):
        sent, came = getattr(batch, table), getattr(arrived, table)
        assert sent.keys() == came.keys()
        for name in sent:
            np.testing.assert_array_equal(sent[name], came[name], name)


def test_an_empty_batch_arrives_too() -> None:
    """Captures may come after the records of their calls."""
    assert len(decode(message_of(making.batch()))) == 0


def test_names_of_policies_that_nobody_speaks_of_stay_behind() -> None:
    """256 versions of names would outweigh the records."""
    assert [names.version for names in message_of(rich()).names] == [7]
    assert not message_of(making.batch()).names


def column(message: fleet_pb2.RecordBatch, name: str, table: str = "records") -> fleet_pb2.Column:
    return next(one for one in getattr(message, table) if one.name == name)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("route", 2, r"records.route\[0\] is 2, wanted an index below 2"),
        ("backend", 3, "wanted an index below 3"),
        ("arm", 3, "wanted an index below 3"),
        ("rule", 1, "wanted a rule of the route"),
        ("label", 2, "wanted an index below 2"),
        ("segment", 2**31, "wanted an index below 2"),
        ("outcome", 7, "wanted an outcome"),
        ("reason", 12, "wanted a reason"),
        ("flagged", 2, "wanted 0, 1 or 255"),
        ("sampled", 255, "wanted 0 or 1"),
        ("stratum", 5, "wanted a stratum or 255"),
        ("review_pi", np.nan, "wanted a probability"),
        ("review_pi", 1.5, "wanted a probability"),
        ("propensity", -0.5, "wanted a probability"),
        ("overhead_us", np.inf, "wanted microseconds"),
        ("time_us", -1, "wanted microseconds since 1970"),
        ("time_us", 2**62, "wanted microseconds since 1970"),
        ("policy", 2**31, "wanted a version"),
        ("row", 2, "wanted a row of its call"),
    ],
)
def test_a_number_out_of_range_is_named(name: str, value: float, words: str) -> None:
    """The operator of a broken sidecar must find what is broken."""
    message = message_of(rich())
    at = column(message, name)
    values = np.frombuffer(at.values, at.dtype).copy()
    values[0] = value
    at.values = values.tobytes()
    with pytest.raises(Malformed, match=words):
        decode(message)


def test_the_last_rule_of_a_route_is_one_and_the_next_is_not() -> None:
    """Rules are counted by route: the first has one, the second none."""
    assert len(decode(message_of(making.batch([{"rule": 0}])))) == 1
    with pytest.raises(Malformed, match="a rule of the route"):
        decode(message_of(making.batch([{"rule": 0, "route": 1}])))


def test_columns_that_do_not_fit_are_refused() -> None:
    """Sizes, kinds and names are looked at before any value."""
    message = message_of(rich())
    column(message, "score").values += b"\0" * 8
    with pytest.raises(Malformed, match="wanted one length"):
        decode(message)
    message = message_of(rich())
    column(message, "score").values += b"\0"
    with pytest.raises(Malformed, match="no whole number"):
        decode(message)
    message = message_of(rich())
    column(message, "score").dtype = "<f4"
    with pytest.raises(Malformed, match="wanted <f8"):
        decode(message)
    message = message_of(rich())
    message.records.add(name="new", dtype="|O", values=b"")
    with pytest.raises(Malformed, match="wanted one of"):
        decode(message)
    message = message_of(rich())
    message.records.remove(column(message, "score"))
    with pytest.raises(Malformed, match="records lacks score"):
        decode(message)
    message = message_of(rich())
    message.rows = 5
    with pytest.raises(Malformed, match="4 records where 5 are announced"):
        decode(message)
    message = message_of(making.batch([{}] * (MOST_ROWS + 1)))
    with pytest.raises(Malformed, match="at most"):
        decode(message)


def test_a_newer_sidecar_may_send_a_column_that_this_control_does_not_know() -> None:
    """Sidecars and control are not upgraded in the same second."""
    message = message_of(rich())
    message.records.add(name="of_tomorrow", dtype="<u4", values=bytes(16))
    assert decode(message).records["of_tomorrow"].tolist() == [0, 0, 0, 0]


def test_every_least_column_is_checked_for() -> None:
    """A column that is taken for granted would raise in the thread that adds up."""
    for table, least in LEAST.items():
        for name in least:
            message = message_of(rich())
            getattr(message, table).remove(column(message, name, table))
            with pytest.raises(Malformed, match=f"{table} lacks {name}"):
                decode(message)


def counted_or_refused(data: bytes) -> None:
    """Garbage is refused as a whole, and what is not refused can be added up."""
    try:
        batch = decode(parse(data))
    except Malformed:
        return
    summed(batch)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    """The port may be reached by anything."""
    counted_or_refused(data)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_batch_is_refused_or_can_be_counted(data: st.DataObject) -> None:
    """Bytes flipped, cut out and put in: never an error in the middle of adding up."""
    whole = bytearray(encode(rich(), run=RUN, sequence=7, sidecar="a"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(("flip", "cut", "put"))):
            case "flip":
                whole[at] = data.draw(st.integers(0, 255))
            case "cut":
                del whole[at : at + data.draw(st.integers(1, 20))]
            case _:
                whole[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        if not whole:
            break
    counted_or_refused(bytes(whole))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_values_of_a_column_are_refused_or_can_be_counted(data: st.DataObject) -> None:
    """The message is sound, its numbers are not: each index must be looked at."""
    message = message_of(rich())
    table = data.draw(st.sampled_from(sorted(LEAST)))
    at = data.draw(st.sampled_from(list(getattr(message, table))))
    at.values = data.draw(st.binary(min_size=len(at.values), max_size=len(at.values)))
    counted_or_refused(message.SerializeToString())


def test_a_difference_whose_square_overflows_is_not_added_up() -> None:
    """One absurd answer would make a sum infinite for good."""
    batch = making.batch(mirrors=[{"difference": 1e200}, {"difference": -0.5}])
    (sums,) = summed(decode(message_of(batch)))["sums"][schema.tally_shadow].values()
    names = [column.name for column in schema.tally_shadow.c if not column.primary_key]
    found = dict(zip(names, sums, strict=True))
    assert (found["compared"], found["differences"], found["sum_squared"]) == (2, 1, 0.25)


def test_a_batch_that_is_too_large_goes_up_in_parts_and_nothing_is_lost() -> None:
    """Records and payloads of a busy second; only a payload that no message could hold is left out, and told of."""
    small, huge = 700_000, MOST_BATCH_BYTES
    rows = [{"id_lo": at, "segment": 0} for at in range(60_000)]
    captured = [
        {
            "id": at.to_bytes(16, "big"),
            "rows": [0],
            "route": "spam",
            "queue": "q",
            "request": b"r" * size,
            "answer": b"a",
            "policy": 7,
            "time_us": making.NOW_US,
        }
        for at, size in enumerate([small] * 9 + [huge] + [small] * 2)
    ]
    batch = making.batch(
        rows, strings=["device=phone"], captures=captured, raises=[{"id_lo": 4, "score": 0.4}] * 5
    )
    parts = list(messages(batch, run=RUN, sequence=7, sidecar="a"))
    assert all(len(data) <= MOST_BATCH_BYTES for _, _, data in parts)
    sent = [(sequence, records, data) for sequence, records, data in parts if data]
    assert [sequence for sequence, _, _ in sent] == list(range(7, 7 + len(sent)))
    assert [records for _, records, data in parts if not data] == [0], "one payload, and no record with it"
    arrived = [decode(parse(data)) for _, _, data in sent]
    assert [records for _, records, _ in sent] == [len(one) for one in arrived]
    ids = np.concatenate([one.records["id_lo"] for one in arrived])
    assert ids.tolist() == list(range(60_000))
    assert sum(len(one.raises["row"]) for one in arrived) == 5
    whole, divided = Delta(), Delta()
    for one, into in ((batch, whole), *((one, divided) for one in arrived)):
        reduce_batch(one, into, Segments(100), Limits())
    assert whole.sums == divided.sums
    assert [row["decision"] for row in divided.captures] == [
        bytes(capture["id"]) for capture in captured if len(capture["request"]) == small
    ]
