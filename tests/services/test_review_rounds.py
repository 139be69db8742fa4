"""Reviews by several people over gRPC: heartbeat, undo, what is shown when, and who may do what."""

from __future__ import annotations

import grpc
import pytest

from gateway.errors import NotAllowed
from gateway.ledger import QueueRule, ReviewRules
from gateway.v1 import review_pb2 as pb
from tests.services.control_plane import Plane
from tests.services.test_review_service import answer, fill, lease, refused


def rule(plane: Plane, **moderation: object) -> None:
    plane.ledger.set_review_rules(ReviewRules({"moderation": QueueRule(**moderation)}))  # type: ignore[arg-type]


def undo(task: pb.ReviewTask, reviewer: str = "ann", **fields: int) -> pb.UndoRequest:
    return pb.UndoRequest(task_id=task.task_id, token=task.token, reviewer=reviewer, **fields)


async def test_a_heartbeat_extends_the_lease(plane: Plane) -> None:
    """The reviewer's tool keeps the task while somebody looks at it."""
    fill(plane, 1)
    task = (await lease(plane, lease_s=60)).task
    plane.clock.pass_s(50)
    beat = pb.HeartbeatRequest(task_id=task.task_id, token=task.token, reviewer="ann", lease_s=60)
    assert (await plane.review.Heartbeat(beat)).lease_until_ms == task.lease_until_ms + 50_000
    plane.clock.pass_s(50)
    assert (await lease(plane, "bob")).nothing_for_you.open == 1
    plane.clock.pass_s(11)
    assert (await lease(plane, "bob")).task.task_id == task.task_id
    assert await refused(plane.review.Heartbeat(beat)) == ("FAILED_PRECONDITION", "lease_lost")
    beat.lease_s = 3601
    assert await refused(plane.review.Heartbeat(beat)) == ("INVALID_ARGUMENT", "bad_lease")
    beat.lease_s, beat.task_id = 60, 2**63
    assert await refused(plane.review.Heartbeat(beat)) == ("NOT_FOUND", "not_found")


async def test_an_answer_is_taken_back_and_given_anew(plane: Plane) -> None:
    """The task comes with the answer to Undo; sent twice, it comes once."""
    fill(plane, 1)
    task = (await lease(plane)).task
    await plane.review.Submit(answer(task, label="spam"))
    assert await refused(plane.review.Undo(undo(task, "bob"))) == ("FAILED_PRECONDITION", "lease_lost")
    again = (await plane.review.Undo(undo(task, lease_s=60))).task
    assert (again.task_id, again.request, again.lease_until_ms) == (
        task.task_id,
        task.request,
        plane.clock.now_us // 1000 + 60_000,
    )
    assert not (await plane.review.Undo(undo(task))).HasField("task")
    assert plane.ledger.reader.labelled().positive.tolist() == []
    assert await refused(plane.review.Submit(answer(task, label="ham"))) == (
        "FAILED_PRECONDITION",
        "lease_lost",
    )
    await plane.review.Submit(answer(again, label="ham"))
    assert plane.ledger.reader.labelled().positive.tolist() == [False]


async def test_others_are_shown_with_the_answer_and_not_before(plane: Plane) -> None:
    """Blind by default: what the model and ann said comes when bob has answered, if he asks."""
    rule(plane, reviews_required=2, blind=True)
    fill(plane, 1)
    first = (await lease(plane)).task
    silent = await plane.review.Submit(answer(first, label="spam"))
    assert (silent.HasField("prediction"), list(silent.others)) == (False, [])
    task = (await lease(plane, "bob")).task
    assert (task.HasField("prediction"), list(task.others)) == (False, [])
    request = answer(task, "bob", label="ham")
    request.show = True
    shown = await plane.review.Submit(request)
    assert (shown.prediction.label, shown.prediction.score, shown.prediction.answer) == (
        "spam",
        0.9,
        b"answer 1",
    )
    assert [(other.label, other.positive) for other in shown.others] == [("spam", True)]
    assert await refused(plane.review.Submit(answer(task, "bob", label="spam"))) == (
        "FAILED_PRECONDITION",
        "too_late",
    )
    settling = (await lease(plane, "cat")).task
    assert (settling.deciding, list(settling.others)) == (True, [])


async def test_a_blind_queue_shows_nothing_before_the_answer(plane: Plane) -> None:
    """Not even to who asks; elsewhere who asks is shown, as before."""
    fill(plane, 1)
    shown = await plane.review.Lease(
        pb.LeaseRequest(queue="moderation", reviewer="ann", show_prediction=True, lease_s=1)
    )
    assert shown.task.HasField("prediction")
    plane.clock.pass_s(2)
    rule(plane, blind=True)
    asking = pb.LeaseRequest(queue="moderation", reviewer="ann", show_prediction=True)
    assert await refused(plane.review.Lease(asking)) == ("PERMISSION_DENIED", "not_allowed")


async def test_a_queue_with_names_is_for_those_alone(plane: Plane) -> None:
    """Who settles disagreement is whom the settings name."""
    rule(plane, reviewers=frozenset({"lea"}), lease_s=900.0)
    fill(plane, 1)
    assert await refused(lease(plane, "ann")) == ("PERMISSION_DENIED", "not_allowed")
    task = (await lease(plane, "lea")).task
    assert task.lease_until_ms == plane.clock.now_us // 1000 + 900_000, "as long as the queue says"


async def test_the_refusal_says_what_to_do(plane: Plane) -> None:
    """In the service itself, before it is a status."""
    rule(plane, blind=True)
    with pytest.raises(NotAllowed, match="leave show_prediction out"):
        await plane.control._review.Lease(
            pb.LeaseRequest(queue="moderation", reviewer="ann", show_prediction=True),
            None,  # type: ignore[arg-type]
        )


async def test_stats_tell_agreement_where_it_is_asked_for(plane: Plane) -> None:
    """And what is disputed; the numbers that measure reviewers are not for reviewers."""
    rule(plane, reviews_required=2)
    fill(plane, 1, 2)
    for reviewer, labels in (("ann", ("spam", "ham")), ("bob", ("spam", "spam"))):
        for label in labels:
            await plane.review.Submit(answer((await lease(plane, reviewer)).task, reviewer, label=label))
    [queue] = (await plane.review.Stats(pb.StatsRequest())).queues
    assert (queue.open, queue.disputed, queue.HasField("agreement")) == (1, 1, False)
    await plane.review.Submit(answer((await lease(plane, "cat")).task, "cat", label="ham"))
    [queue] = (await plane.review.Stats(pb.StatsRequest(agreement=True))).queues
    assert (queue.done, queue.agreement.kind, queue.agreement.tasks, queue.agreement.agree) == (
        2,
        "cohen",
        2,
        0.5,
    )
    assert queue.agreement.kappa == pytest.approx(0.0)
    assert not {name for name in pb.QueueStats.DESCRIPTOR.fields_by_name if "gold" in name}


async def test_a_reason_with_nul_is_refused(plane: Plane) -> None:
    """PostgreSQL holds none."""
    fill(plane, 1)
    task = (await lease(plane)).task
    skip = pb.SkipRequest(task_id=task.task_id, token=task.token, reviewer="ann", reason="a\0b")
    assert await refused(plane.review.Skip(skip)) == ("INVALID_ARGUMENT", "bad_reason")


async def test_a_client_of_before_works_as_it_did(plane: Plane) -> None:
    """It sends and reads the fields that there were; what is new it skips."""
    fill(plane, 1)
    call = plane.channel.unary_unary("/gateway.v1.ReviewService/Lease")
    raw: bytes = await call(b"\x0a\x0amoderation\x12\x03ann")
    task = pb.LeaseResponse.FromString(raw).task
    submit = plane.channel.unary_unary("/gateway.v1.ReviewService/Submit")
    request = pb.SubmitReviewRequest(
        task_id=task.task_id, token=task.token, reviewer="ann", label="spam"
    ).SerializeToString()
    assert await submit(request) == b"", "nothing that it does not know"
    assert isinstance(plane.channel, grpc.aio.Channel)
