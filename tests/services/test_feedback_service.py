"""Feedback over gRPC: what is taken, what is refused, and that each is said clearly."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import closing
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.services.errors import ERROR_TRAILER
from gateway.services.feedback import MAX_ITEMS
from gateway.v1 import feedback_pb2 as pb
from tests.ledger.making import decision, sampled
from tests.services.control_plane import MAX_AGE_H, Plane, receipt

RESULT = pb.FeedbackResult


def item(**fields: Any) -> pb.FeedbackItem:
    return pb.FeedbackItem(**fields)


async def submit(plane: Plane, *items: pb.FeedbackItem, source: str = "") -> list[pb.FeedbackResult]:
    answer = await plane.feedback.Submit(pb.SubmitFeedbackRequest(items=items, source=source))
    return list(answer.results)


async def test_a_label_by_receipt_is_in_the_ledger_once_it_is_answered(plane: Plane) -> None:
    """The receipt alone carries all that is needed to count it."""
    [result] = await submit(plane, item(receipt=receipt(1), label="spam"))
    assert (result.status, result.decision_id) == (RESULT.ACCEPTED, str(uuid.UUID(bytes=decision(1))))
    labelled = plane.ledger.reader.labelled()
    assert labelled.positive.tolist() == [True]
    assert (labelled.source[0], labelled.route[0], labelled.backend[0]) == ("feedback", "spam", "spam-v3")
    assert (labelled.score[0], labelled.flagged[0], labelled.pi[0]) == (0.9, 1, 0.25)


async def test_repetition_is_harmless_and_a_change_of_mind_counts(plane: Plane) -> None:
    """By decision, row and source."""
    said = [
        item(receipt=receipt(1), positive=True),
        item(receipt=receipt(1), label="spam"),
        item(receipt=receipt(1), label="ham"),
        item(receipt=receipt(1), label="ham", source="crm"),
    ]
    results = [(await submit(plane, one))[0].status for one in said]
    assert results == [RESULT.ACCEPTED, RESULT.DUPLICATE, RESULT.CORRECTED, RESULT.ACCEPTED]
    labelled = plane.ledger.reader.labelled()
    assert sorted(zip(labelled.source, labelled.positive, strict=True)) == [
        ("crm", False),
        ("feedback", False),
    ]


async def test_rows_of_a_batch_are_labelled_one_by_one(plane: Plane) -> None:
    """One receipt serves all rows of its call."""
    results = await submit(
        plane,
        *[item(receipt=receipt(1, rows=3), row=row, positive=row == 1) for row in range(3)],
        source="crm",
    )
    assert [(result.row, result.status) for result in results] == [(row, RESULT.ACCEPTED) for row in range(3)]
    assert plane.ledger.reader.labelled().positive.tolist() == [False, True, False]


async def test_a_value_is_kept_beside_a_label(plane: Plane) -> None:
    """An outcome is a number for the comparison with the holdout, and no truth about the label."""
    results = await submit(
        plane, item(receipt=receipt(1), value=12.5), item(receipt=receipt(1), positive=True)
    )
    assert [result.status for result in results] == [RESULT.ACCEPTED] * 2
    assert len(plane.ledger.reader.labelled().positive) == 1


async def test_a_decision_id_serves_where_the_decision_was_kept(plane: Plane) -> None:
    """Sampled decisions need no receipt; others are not found, and the words say what to send."""
    plane.ledger.write_batch(sampled(5))
    assert plane.ledger.flush()
    known, unknown = str(uuid.UUID(bytes=decision(5))), str(uuid.UUID(bytes=decision(6)))
    results = await submit(
        plane, item(decision_id=known, label="ham"), item(decision_id=unknown, label="ham")
    )
    assert results[0].status == RESULT.ACCEPTED
    assert (results[1].status, results[1].code) == (RESULT.REFUSED, "unknown_decision")
    assert "receipt" in results[1].message
    labelled = plane.ledger.reader.labelled()
    assert (labelled.pi[0], labelled.score[0], labelled.segment[0]) == (0.25, 0.9, "device=phone")


BAD = [
    ({"label": "spam"}, "no_decision", "INVALID_ARGUMENT"),
    ({"receipt": "forged", "label": "spam"}, "receipt_forged", "INVALID_ARGUMENT"),
    ({"receipt": "foreign", "label": "spam"}, "receipt_foreign", "INVALID_ARGUMENT"),
    ({"receipt": "", "label": "spam"}, "receipt_malformed", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1, age_h=MAX_AGE_H + 1), "label": "spam"}, "receipt_expired", "INVALID_ARGUMENT"),
    ({"decision_id": "12", "label": "spam"}, "bad_decision_id", "INVALID_ARGUMENT"),
    ({"decision_id": str(uuid.UUID(int=9)), "label": "spam"}, "unknown_decision", "NOT_FOUND"),
    ({"receipt": receipt(1, rows=2), "row": 2, "label": "spam"}, "no_such_row", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1)}, "no_truth", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "label": "spma"}, "unknown_label", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1, route="gone"), "label": "spam"}, "unknown_route", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1, route="topics"), "positive": True}, "no_positive", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "value": float("nan")}, "bad_value", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "signal": pb.Signal(name="A click")}, "bad_signal", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "label": "spam", "delay_s": -1e6}, "bad_time", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1, age_h=-24), "label": "spam"}, "receipt_early", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "label": "spam", "source": "review"}, "bad_source", "INVALID_ARGUMENT"),
    ({"receipt": receipt(1), "label": "spam", "source": "Ann Smith"}, "bad_source", "INVALID_ARGUMENT"),
]


@pytest.mark.parametrize(
    ("fields", "code", "status"), BAD, ids=[f"{code}-{n}" for n, (_, code, _) in enumerate(BAD)]
)
async def test_a_bad_item_is_refused_by_its_own_word(
    plane: Plane, fields: dict[str, Any], code: str, status: str
) -> None:
    """Alone it fails the call; among others it is refused by itself. Nothing of it is kept."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await submit(plane, item(**fields))
    assert refusal.value.code().name == status
    assert dict(refusal.value.trailing_metadata() or ())[ERROR_TRAILER] == code
    assert refusal.value.details()
    results = await submit(plane, item(**fields), item(receipt=receipt(77), positive=True))
    assert [result.status for result in results] == [RESULT.REFUSED, RESULT.ACCEPTED]
    assert (results[0].code, results[0].message) == (code, refusal.value.details())
    assert len(plane.ledger.reader.labelled().positive) == 1


def test_every_code_is_named_in_the_proto() -> None:
    """Whoever writes a client reads the proto."""
    text = (pb.__file__ or "").replace("src/gateway/v1/feedback_pb2.py", "protos/gateway/v1/feedback.proto")
    with open(text, encoding="utf-8") as proto:
        words = proto.read()
    assert [code for _, code, _ in BAD if code not in words] == []


async def test_a_receipt_just_young_enough_is_taken(plane: Plane) -> None:
    """The age is judged by the control plane's clock."""
    young = item(receipt=receipt(1, age_h=MAX_AGE_H), positive=True)
    assert (await submit(plane, young))[0].status == RESULT.ACCEPTED
    plane.clock.pass_s(1)
    with pytest.raises(grpc.aio.AioRpcError):
        await submit(plane, young)


@pytest.mark.parametrize("count", [0, MAX_ITEMS + 1])
async def test_a_call_has_a_bounded_number_of_items(plane: Plane, count: int) -> None:
    """Neither none nor more than one commit should hold."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await submit(plane, *[item(receipt=receipt(1), positive=True)] * count)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_largest_call_is_taken(plane: Plane) -> None:
    """A thousand labels in one commit."""
    results = await submit(plane, *[item(receipt=receipt(n), positive=True) for n in range(MAX_ITEMS)])
    assert {result.status for result in results} == {RESULT.ACCEPTED}
    assert len(plane.ledger.reader.labelled().positive) == MAX_ITEMS


async def test_unavailable_means_that_nothing_was_kept(plane: Plane) -> None:
    """A caller who sees it may send the same again, and it counts once."""
    path = plane.ledger._engine.url.database
    assert path
    good = item(receipt=receipt(1), positive=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await submit(plane, good)
        other.execute("ROLLBACK")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(refusal.value.trailing_metadata() or ())[ERROR_TRAILER] == "ledger_unavailable"
    assert (await submit(plane, good))[0].status == RESULT.ACCEPTED


async def test_many_callers_at_once_each_get_their_own_answer(plane: Plane) -> None:
    """Group commit behind the service mixes them; the answers do not."""
    answers = await asyncio.gather(
        *[submit(plane, item(receipt=receipt(n % 20), positive=True, source=f"s{n % 4}")) for n in range(200)]
    )
    statuses = [answer[0].status for answer in answers]
    assert statuses.count(RESULT.ACCEPTED) == 20
    assert statuses.count(RESULT.DUPLICATE) == 180


async def test_an_unexpected_error_does_not_tell_its_text(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Paths and values of ours are no caller's business; the log has them."""

    def broken(_rows: object) -> None:
        raise RuntimeError("secret path /etc/shadow")

    monkeypatch.setattr(plane.ledger, "submit_labels", broken)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await submit(plane, item(receipt=receipt(1), positive=True))
    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    details = refusal.value.details() or ""
    assert "secret" not in details
    assert details.rsplit(" ", 1)[1] in caplog.text
    assert "secret path" in caplog.text


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_request_parse_or_fail_in_protobuf(data: bytes) -> None:
    """What reaches the service is a message; what is none never does."""
    from google.protobuf.message import DecodeError

    try:
        message = pb.SubmitFeedbackRequest.FromString(data)
    except DecodeError:
        return
    assert len(message.items) <= len(data)
