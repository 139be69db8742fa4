"""Review over gRPC: tasks as a reviewer's tool sees them."""

from __future__ import annotations

import uuid

import grpc
import pytest

from gateway.services.errors import ERROR_TRAILER
from gateway.v1 import review_pb2 as pb
from tests.ledger.making import NOW_US, decision, sampled
from tests.services.control_plane import Plane


def fill(plane: Plane, *numbers: int) -> None:
    for number in numbers:
        plane.ledger.write_batch(sampled(number))
    assert plane.ledger.flush()


async def lease(plane: Plane, reviewer: str = "ann", **fields: int) -> pb.LeaseResponse:
    return await plane.review.Lease(pb.LeaseRequest(queue="moderation", reviewer=reviewer, **fields))


def answer(task: pb.ReviewTask, reviewer: str = "ann", **truth: object) -> pb.SubmitReviewRequest:
    return pb.SubmitReviewRequest(task_id=task.task_id, token=task.token, reviewer=reviewer, **truth)  # type: ignore[arg-type]


async def refused(call: object) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call  # type: ignore[misc]
    return refusal.value.code().name, str(dict(refusal.value.trailing_metadata() or ())[ERROR_TRAILER])


async def test_a_task_shows_the_inputs_and_hides_the_score(plane: Plane) -> None:
    """Who knows the model's opinion tends to share it."""
    fill(plane, 3)
    task = (await lease(plane)).task
    assert task.request == b"request 3"
    assert (task.route, list(task.classes), task.positive, task.row) == ("spam", ["ham", "spam"], "spam", 0)
    assert task.decision_id == str(uuid.UUID(bytes=decision(3)))
    assert (task.time_ms, task.lease_until_ms) == (NOW_US // 1000, NOW_US // 1000 + 300_000)
    assert not task.HasField("prediction")
    assert b"answer" not in task.SerializeToString()


async def test_the_prediction_is_shown_where_it_is_asked_for(plane: Plane) -> None:
    """For adjudication, or where blind review is not wanted."""
    fill(plane, 3)
    shown = (
        await plane.review.Lease(pb.LeaseRequest(queue="moderation", reviewer="ann", show_prediction=True))
    ).task
    assert (shown.prediction.score, shown.prediction.flagged, shown.prediction.label) == (0.9, True, "spam")
    assert shown.prediction.answer == b"answer 3"


async def test_an_empty_queue_is_told_apart_from_nothing_for_you(plane: Plane) -> None:
    """A reviewer's tool says `done` in one case and `wait` in the other."""
    assert (await lease(plane)).WhichOneof("result") == "queue_empty"
    fill(plane, 1)
    task = (await lease(plane, "ann", lease_s=60)).task
    waiting = await lease(plane, "bob")
    assert (waiting.nothing_for_you.open, waiting.nothing_for_you.retry_after_s) == (1, 60)
    await plane.review.Submit(answer(task, label="ham"))
    assert (await lease(plane, "bob")).WhichOneof("result") == "queue_empty"


async def test_an_answer_becomes_a_label_of_source_review(plane: Plane) -> None:
    """With the probability it was sampled with; a retry changes nothing, another answer corrects."""
    fill(plane, 1)
    task = (await lease(plane)).task
    first = await plane.review.Submit(answer(task, label="spam"))
    again = await plane.review.Submit(answer(task, positive=True))
    other = await plane.review.Submit(answer(task, label="ham"))
    assert [(kept.duplicate, kept.corrected) for kept in (first, again, other)] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    labelled = plane.ledger.reader.labelled(source="review")
    assert (labelled.positive.tolist(), labelled.pi.tolist()) == ([False], [0.25])


async def test_a_lost_lease_is_a_failed_precondition(plane: Plane) -> None:
    """For the answer and for the skip."""
    fill(plane, 1)
    slow = (await lease(plane, "ann", lease_s=10)).task
    plane.clock.pass_s(11)
    quick = (await lease(plane, "bob")).task
    assert await refused(plane.review.Submit(answer(slow, label="ham"))) == (
        "FAILED_PRECONDITION",
        "lease_lost",
    )
    skip = pb.SkipRequest(task_id=slow.task_id, token=slow.token, reviewer="ann")
    assert await refused(plane.review.Skip(skip)) == ("FAILED_PRECONDITION", "lease_lost")
    assert not (await plane.review.Submit(answer(quick, "bob", label="ham"))).duplicate


async def test_a_skipped_task_goes_to_somebody_else(plane: Plane) -> None:
    """Not back to who skipped it."""
    fill(plane, 1)
    task = (await lease(plane)).task
    await plane.review.Skip(
        pb.SkipRequest(task_id=task.task_id, token=task.token, reviewer="ann", reason="in Finnish")
    )
    assert (await lease(plane)).nothing_for_you.retry_after_s == 0
    assert (await lease(plane, "bob")).task.task_id == task.task_id


async def test_what_means_nothing_is_refused(plane: Plane) -> None:
    """Each with its word; the task stays leased."""
    fill(plane, 1)
    task = (await lease(plane)).task
    bad = "INVALID_ARGUMENT"
    assert await refused(plane.review.Submit(answer(task, label="spma"))) == (bad, "unknown_label")
    assert await refused(plane.review.Submit(answer(task))) == (bad, "no_truth")
    assert await refused(plane.review.Submit(answer(task, "", label="ham"))) == (bad, "bad_reviewer")
    assert await refused(plane.review.Lease(pb.LeaseRequest(reviewer="ann"))) == (bad, "bad_queue")
    assert await refused(lease(plane, "x" * 129)) == (bad, "bad_reviewer")
    assert await refused(lease(plane, "bob", lease_s=3601)) == (bad, "bad_lease")
    long = pb.SkipRequest(task_id=task.task_id, token=task.token, reviewer="ann", reason="x" * 501)
    assert await refused(plane.review.Skip(long)) == (bad, "bad_reason")
    gone = pb.ReviewTask(task_id=99, token=1)
    assert await refused(plane.review.Submit(answer(gone, label="ham"))) == ("NOT_FOUND", "not_found")
    assert not (await plane.review.Submit(answer(task, label="ham"))).duplicate


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
async def test_a_number_that_no_database_holds_is_not_found(plane: Plane, number: int) -> None:
    """uint64 on the wire, signed in SQL."""
    fill(plane, 1)
    task = (await lease(plane)).task
    gone = pb.ReviewTask(task_id=number, token=task.token)
    assert (await refused(plane.review.Submit(answer(gone, label="ham"))))[0] == "NOT_FOUND"
    stolen = pb.ReviewTask(task_id=task.task_id, token=number)
    assert (await refused(plane.review.Submit(answer(stolen, label="ham"))))[0] == "FAILED_PRECONDITION"


async def test_stats_count_tasks_by_queue(plane: Plane) -> None:
    """Open, leased, done, skipped, and how old the oldest is."""
    assert not (await plane.review.Stats(pb.StatsRequest())).queues
    fill(plane, 1, 2, 3)
    first = (await lease(plane)).task
    await plane.review.Submit(answer(first, label="ham"))
    await lease(plane)
    plane.clock.pass_s(30)
    [queue] = (await plane.review.Stats(pb.StatsRequest(queue="moderation"))).queues
    assert (queue.open, queue.leased, queue.done, queue.skips) == (2, 1, 1, 0)
    assert queue.oldest_s == pytest.approx(30)
    assert not (await plane.review.Stats(pb.StatsRequest(queue="other"))).queues
