"""Signals and outcomes beside labels, when things happened, and what comes before its decision's record."""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from gateway.ledger import Ledger, Limits, schema
from gateway.services.errors import ERROR_TRAILER, PUSHBACK_TRAILER
from gateway.v1 import feedback_pb2 as pb
from tests.ledger.making import NOW_US, batch
from tests.services.control_plane import RULES, Plane, receipt, running

RESULT = pb.FeedbackResult
NOW_MS = NOW_US // 1000


def item(**fields: Any) -> pb.FeedbackItem:
    return pb.FeedbackItem(**fields)


def signal(name: str, value: float | None = None) -> pb.Signal:
    return pb.Signal(name=name, value=value)


async def submit(plane: Plane, *items: pb.FeedbackItem, source: str = "") -> list[pb.FeedbackResult]:
    answer = await plane.feedback.Submit(pb.SubmitFeedbackRequest(items=items, source=source))
    return list(answer.results)


async def statuses(plane: Plane, *items: pb.FeedbackItem) -> list[int]:
    """Each item in a call of its own."""
    return [(await submit(plane, one))[0].status for one in items]


def kept(ledger: Ledger) -> Sequence[sa.Row[Any]]:
    """What counts, by what it is."""
    label = schema.labels
    names = ("source", "kind", "name", "label", "positive", "value", "event_us", "revision")
    query = sa.select(*(label.c[name] for name in names)).order_by(label.c.id)
    return ledger.reader.snapshot(lambda connection: connection.execute(query).all())


def v7(number: int, age_s: float = 0.0) -> bytes:
    """A decision id of a call `age_s` ago."""
    return uuid.UUID(int=(NOW_MS - int(age_s * 1000)) << 80 | 7 << 76 | 2 << 62 | number).bytes


def recorded(identity: bytes, rows: int = 1) -> Any:
    """The batch with a sampled call's record."""
    hi, lo = struct.unpack(">QQ", identity)
    usual = {"sampled": 1, "review_pi": 0.25, "score": 0.9, "flagged": 1, "stratum": 1}
    return batch([{**usual, "id_hi": hi, "id_lo": lo, "row": row, "rows": rows} for row in range(rows)])


async def test_signals_of_each_name_stand_beside_each_other_and_beside_the_label(plane: Plane) -> None:
    """A click, thumbs and a conversion are three statements; each is corrected by itself."""
    one = receipt(1)
    assert await statuses(
        plane,
        item(receipt=one, signal=signal("click")),
        item(receipt=one, signal=signal("thumbs", -1)),
        item(receipt=one, signal=signal("thumbs", -1)),
        item(receipt=one, signal=signal("thumbs", 1)),
        item(receipt=one, positive=True),
        item(receipt=one, value=1.0),
        item(receipt=one, signal=signal("click", 1)),
    ) == [
        RESULT.ACCEPTED,
        RESULT.ACCEPTED,
        RESULT.DUPLICATE,
        RESULT.CORRECTED,
        RESULT.ACCEPTED,
        RESULT.ACCEPTED,
        RESULT.DUPLICATE,
    ]
    assert [(row.kind, row.name, row.value) for row in kept(plane.ledger)] == [
        ("signal", "click", 1.0),
        ("signal", "thumbs", -1.0),
        ("signal", "thumbs", 1.0),
        ("label", "", None),
        ("outcome", "", 1.0),
    ]
    assert plane.ledger.reader.labelled().positive.tolist() == [True], "no truth follows from a signal"


async def test_when_it_happened_is_kept_beside_when_it_came(plane: Plane) -> None:
    """As a time, or as so long after the prediction."""
    old = receipt(1, age_h=2)
    await submit(
        plane,
        item(receipt=old, signal=signal("click"), time_ms=NOW_MS - 3_600_000),
        item(receipt=old, signal=signal("buy", 20), delay_s=90.5),
        item(receipt=old, positive=True),
    )
    assert [row.event_us for row in kept(plane.ledger)] == [
        NOW_US - 3_600_000_000,
        NOW_US - 7_200_000_000 + 90_500_000,
        None,
    ]


async def test_of_two_times_the_later_counts_in_whatever_order_they_come(plane: Plane) -> None:
    """A retry that was delayed on its way does not undo what was said after it."""
    old = receipt(1, age_h=2)
    first = item(receipt=old, positive=True, time_ms=NOW_MS - 5000)
    second = item(receipt=old, positive=False, time_ms=NOW_MS - 1000)
    assert await statuses(plane, second, first, second) == [
        RESULT.ACCEPTED,
        RESULT.SUPERSEDED,
        RESULT.DUPLICATE,
    ]
    [superseded] = await submit(plane, first)
    assert "happened later" in superseded.message
    assert plane.ledger.reader.labelled().positive.tolist() == [False]
    without = item(receipt=old, positive=True)
    assert await statuses(plane, without) == [RESULT.CORRECTED], "without a time, what comes last counts"


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"time_ms": NOW_MS + 86_400_000}, "86,400 s from now"),
        ({"time_ms": NOW_MS - 2 * 86_400_000}, "before the prediction"),
        ({"time_ms": 2**63 - 1}, "from now"),
        ({"time_ms": -(2**63)}, "before the prediction"),
        ({"delay_s": 86_400.0 + 3600}, "from now"),
        ({"delay_s": -86_400.0}, "86,400 s before the prediction"),
        ({"delay_s": math.nan}, "wanted seconds"),
        ({"delay_s": math.inf}, "wanted seconds"),
    ],
)
async def test_a_clock_that_is_off_by_a_day_is_told(plane: Plane, when: dict[str, Any], words: str) -> None:
    """Neither before the prediction nor in the future; nothing is kept."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(receipt=receipt(1, age_h=1), positive=True, **when))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(refused.value.trailing_metadata() or ())[ERROR_TRAILER] == "bad_time"
    assert words in (refused.value.details() or "")
    assert kept(plane.ledger) == []


@pytest.mark.parametrize("off_s", [-RULES.clock_skew_s, RULES.clock_skew_s])
async def test_a_clock_that_is_a_little_off_is_borne(plane: Plane, off_s: float) -> None:
    """To the second as far as the settings say."""
    when = NOW_MS + int(off_s * 1000)
    assert await statuses(plane, item(receipt=receipt(1), positive=True, time_ms=when)) == [RESULT.ACCEPTED]


async def test_a_receipt_from_tomorrow_is_told(plane: Plane) -> None:
    """One of two gateways has a wrong clock; its labels would be counted in hours that have not come."""
    soon = RULES.clock_skew_s / 3600
    assert await statuses(plane, item(receipt=receipt(1, age_h=-soon), positive=True)) == [RESULT.ACCEPTED]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(receipt=receipt(2, age_h=-24), positive=True))
    assert dict(refused.value.trailing_metadata() or ())[ERROR_TRAILER] == "receipt_early"
    assert "86,400 s from now" in (refused.value.details() or "")


@pytest.mark.parametrize("name", ["", "Click", "a b", "x" * 65, "klick\n", "größe"])
async def test_a_signal_has_a_name_that_metrics_can_carry(plane: Plane, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(receipt=receipt(1), signal=signal(name)))
    assert dict(refused.value.trailing_metadata() or ())[ERROR_TRAILER] == "bad_signal"


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_a_signal_is_a_number(plane: Plane, value: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(receipt=receipt(1), signal=signal("click", value)))
    assert dict(refused.value.trailing_metadata() or ())[ERROR_TRAILER] == "bad_value"


async def test_one_row_has_a_bounded_number_of_statements(plane: Plane) -> None:
    """Whoever invents names for one receipt must not fill the disk; what is kept can still be corrected."""
    items = [item(receipt=receipt(1, rows=2), signal=signal(f"s{n}")) for n in range(70)]
    results = await submit(plane, *items)
    assert [result.code for result in results] == [""] * 64 + ["too_many_statements"] * 6
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, items[-1])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await statuses(
        plane,
        item(receipt=receipt(1, rows=2), signal=signal("s0", 5)),
        item(receipt=receipt(1, rows=2), row=1, signal=signal("s99")),
    ) == [RESULT.CORRECTED, RESULT.ACCEPTED]


async def test_feedback_by_id_may_come_before_the_record_of_its_decision(plane: Plane) -> None:
    """It waits on disk, and counts when the record is there."""
    soon = v7(1)
    said = item(decision_id=str(uuid.UUID(bytes=soon)), label="spam")
    [result] = await submit(plane, said, source="crm")
    assert (result.status, result.decision_id) == (RESULT.PENDING, said.decision_id)
    assert "receipt" in result.message
    assert await plane.control.waiting.look() == 1
    assert kept(plane.ledger) == []
    plane.ledger.write_batch(recorded(soon))
    assert plane.ledger.flush()
    assert await plane.control.waiting.look() == 0
    labelled = plane.ledger.reader.labelled()
    assert (labelled.positive.tolist(), labelled.source.tolist()) == ([True], ["crm"])
    assert (labelled.pi.tolist(), labelled.received_us.tolist()) == ([0.25], [NOW_US])
    assert plane.control.waiting.kept == {"accepted": 1}
    assert (await submit(plane, said, source="crm"))[0].status == RESULT.DUPLICATE


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    """PENDING is an acknowledgement."""
    soon = v7(1)
    async with running(tmp_path) as plane:
        await submit(plane, item(decision_id=str(uuid.UUID(bytes=soon)), positive=False))
    async with running(tmp_path) as plane:
        plane.ledger.write_batch(recorded(soon))
        assert plane.ledger.flush()
        await plane.control.waiting.look()
        assert plane.ledger.reader.labelled().positive.tolist() == [False]


async def test_what_was_said_meanwhile_counts_over_what_waited(plane: Plane) -> None:
    """A correction by receipt must not be undone when the record comes at last."""
    soon = v7(1)
    await submit(plane, item(decision_id=str(uuid.UUID(bytes=soon)), label="spam"))
    plane.clock.pass_s(1)
    await submit(plane, item(receipt=receipt(1, id=soon.hex()), label="ham"))
    plane.ledger.write_batch(recorded(soon))
    assert plane.ledger.flush()
    await plane.control.waiting.look()
    assert plane.ledger.reader.labelled().positive.tolist() == [False]
    assert plane.control.waiting.kept == {"superseded": 1}


async def test_the_last_of_what_waits_counts(plane: Plane) -> None:
    """By source, kind and name, as of what does not wait; by the time of what happened where both have it."""
    at = {"decision_id": str(uuid.UUID(bytes=v7(1)))}
    said = [
        item(**at, label="spam"),
        item(**at, label="ham"),
        item(**at, signal=signal("buy", 2), time_ms=NOW_MS + 2),
        item(**at, signal=signal("buy", 1), time_ms=NOW_MS + 1),
        item(**at, value=3.0),
    ]
    assert await statuses(plane, *said) == [RESULT.PENDING] * 3 + [RESULT.SUPERSEDED, RESULT.PENDING]
    plane.ledger.write_batch(recorded(v7(1)))
    assert plane.ledger.flush()
    await plane.control.waiting.look()
    assert [(row.kind, row.label, row.value) for row in kept(plane.ledger)] == [
        ("label", "ham", None),
        ("signal", None, 2.0),
        ("outcome", None, 3.0),
    ]


async def test_what_gets_no_record_in_time_is_dropped_and_counted(plane: Plane) -> None:
    """Most decisions are never kept: their feedback must not wait for ever."""
    await submit(plane, item(decision_id=str(uuid.UUID(bytes=v7(1, age_s=60))), positive=True))
    plane.clock.pass_s(RULES.pending_s - 61)
    assert await plane.control.waiting.look() == 1
    plane.clock.pass_s(2)
    assert await plane.control.waiting.look() == 0
    assert plane.control.waiting.dropped["pending_expired"] == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(decision_id=str(uuid.UUID(bytes=v7(1, age_s=60))), positive=True))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_does_not_fit_its_decision_is_dropped_and_counted_by_reason(plane: Plane) -> None:
    """Which classes there are is known only with the route."""
    await submit(plane, item(decision_id=str(uuid.UUID(bytes=v7(1))), label="spma"))
    plane.ledger.write_batch(recorded(v7(1)))
    assert plane.ledger.flush()
    assert await plane.control.waiting.look() == 0
    assert plane.control.waiting.dropped["pending_unknown_label"] == 1
    assert kept(plane.ledger) == []


async def test_an_id_from_the_future_does_not_wait(plane: Plane) -> None:
    """An id whose time is made up must not stay in the table until then."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(decision_id=str(uuid.UUID(bytes=v7(1, age_s=-86_400))), positive=True))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_bounded_number_waits(plane: Plane) -> None:
    """Beyond, the caller is told to send the receipt, or to come again."""
    plane.ledger._limits = Limits(pending_labels=2)
    ids = [str(uuid.UUID(bytes=v7(n))) for n in range(3)]
    results = await submit(plane, *[item(decision_id=one, positive=True) for one in ids])
    assert [result.code for result in results] == ["", "", "pending_full"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(plane, item(decision_id=ids[2], positive=True))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert PUSHBACK_TRAILER in dict(refused.value.trailing_metadata() or ())
    assert await statuses(plane, item(decision_id=ids[0], positive=False)) == [RESULT.PENDING]


async def test_a_decision_that_was_spoken_of_is_known_by_its_id(plane: Plane) -> None:
    """A label carries all that its receipt said: the next one needs no receipt, sampled or not."""
    await submit(plane, item(receipt=receipt(9), label="spam"))
    [result] = await submit(plane, item(decision_id=str(uuid.UUID(int=9)), label="ham"), source="crm")
    assert result.status == RESULT.ACCEPTED
    labelled = plane.ledger.reader.labelled()
    assert sorted(zip(labelled.source, labelled.positive, labelled.score, strict=True)) == [
        ("crm", False, 0.9),
        ("feedback", True, 0.9),
    ]


async def test_items_are_counted_by_what_became_of_them(plane: Plane) -> None:
    await submit(
        plane,
        item(receipt=receipt(1), label="spam"),
        item(receipt=receipt(1), label="spam"),
        item(receipt="forged", signal=signal("click")),
        item(receipt=receipt(1), value=2.0),
    )
    assert plane.control.feedback.results == {
        ("label", "accepted", ""): 1,
        ("label", "duplicate", ""): 1,
        ("signal", "refused", "receipt_forged"): 1,
        ("outcome", "accepted", ""): 1,
    }
