"""Human review over gRPC: lease a task, answer it, or give it back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

import grpc

from gateway.errors import LabelError
from gateway.ledger import Kept, Ledger, NothingForYou, RouteClasses, Truth, truth_of
from gateway.ledger import Lease as Leased
from gateway.services.people import People
from gateway.services.readable import Messages
from gateway.v1 import review_pb2 as pb
from gateway.v1 import review_pb2_grpc

__all__ = ["DEFAULT_LEASE_S", "MAX_LEASE_S", "ReviewService"]

DEFAULT_LEASE_S: Final = 300
MAX_LEASE_S: Final = 3_600
MAX_REVIEWER: Final = 128
MAX_QUEUE: Final = 128
MAX_SKIP_REASON: Final = 500


class ReviewService(review_pb2_grpc.ReviewServiceServicer):
    """`gateway.v1.ReviewService`.

    Args:
        classes: a route -> its classes, None for one that is not served.
        messages: what captured messages are read by; None where all are of the Open Inference Protocol.
        clock_us: the time, microseconds since 1970; the ledger's own decides about leases.
        people: told of answers that callers may wait for.
    """

    def __init__(
        self,
        ledger: Ledger,
        classes: Callable[[str], RouteClasses | None],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        people: People | None = None,
        messages: Callable[[], Messages | None] = lambda: None,
    ) -> None:
        self._people = people
        self._ledger = ledger
        self._messages = messages
        self._classes = classes
        self._clock_us = clock_us

    async def Lease(  # noqa: N802 - the name in the proto
        self, request: pb.LeaseRequest, context: grpc.aio.ServicerContext[pb.LeaseRequest, pb.LeaseResponse]
    ) -> pb.LeaseResponse:
        """A task that nobody else has, for some time: those that callers wait for first, then the oldest."""
        _named("queue", request.queue, MAX_QUEUE)
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        lease_s = request.lease_s or DEFAULT_LEASE_S
        if lease_s > MAX_LEASE_S:
            raise LabelError("bad_lease", f"lease_s is {lease_s}, wanted at most {MAX_LEASE_S}")
        leased = await asyncio.wrap_future(self._ledger.lease(request.queue, request.reviewer, lease_s))
        if not isinstance(leased, NothingForYou):
            return pb.LeaseResponse(task=self._task(leased, show=request.show_prediction))
        if not leased.open_tasks:
            return pb.LeaseResponse(queue_empty=pb.QueueEmpty())
        wait_s = 0
        if leased.retry_us is not None:
            wait_s = max(1, -(-(leased.retry_us - self._clock_us()) // 1_000_000))
        return pb.LeaseResponse(
            nothing_for_you=pb.NothingForYou(open=leased.open_tasks, retry_after_s=wait_s)
        )

    async def Submit(  # noqa: N802
        self,
        request: pb.SubmitReviewRequest,
        context: grpc.aio.ServicerContext[pb.SubmitReviewRequest, pb.SubmitReviewResponse],
    ) -> pb.SubmitReviewResponse:
        """Keep the reviewer's answer as a label of source `review`."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        said = request.WhichOneof("truth")
        if said is None:
            raise LabelError("no_truth", "neither label nor positive is set; set one, or Skip the task")
        label = request.label if said == "label" else None
        positive = request.positive if said == "positive" else None
        found: list[Truth] = []

        def truth(route: str) -> Truth:
            made = truth_of(route, self._classes(route), label=label, positive=positive)
            if made.label is None and self._people is not None and self._people.waits_for(request.task_id):
                raise LabelError(
                    "needs_label", "a caller waits for this answer, and `no` is not one; say the label"
                )
            found.append(made)
            return made

        kept = await asyncio.wrap_future(
            self._ledger.submit_review(request.task_id, request.token, request.reviewer, truth)
        )
        if self._people is not None and found and found[-1].label is not None:
            self._people.answered(request.task_id, found[-1].label)
        return pb.SubmitReviewResponse(duplicate=kept is Kept.DUPLICATE, corrected=kept is Kept.CORRECTED)

    async def Skip(  # noqa: N802
        self, request: pb.SkipRequest, context: grpc.aio.ServicerContext[pb.SkipRequest, pb.SkipResponse]
    ) -> pb.SkipResponse:
        """Give a task back; this reviewer will not see it again."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        if len(request.reason) > MAX_SKIP_REASON:
            raise LabelError(
                "bad_reason", f"reason has {len(request.reason)} characters, wanted at most {MAX_SKIP_REASON}"
            )
        await asyncio.wrap_future(
            self._ledger.skip_review(request.task_id, request.token, request.reviewer, request.reason)
        )
        return pb.SkipResponse()

    async def Stats(  # noqa: N802
        self, request: pb.StatsRequest, context: grpc.aio.ServicerContext[pb.StatsRequest, pb.StatsResponse]
    ) -> pb.StatsResponse:
        """How many tasks there are and how old."""
        found = await asyncio.to_thread(self._ledger.review_stats, request.queue or None)
        now_us = self._clock_us()
        return pb.StatsResponse(
            queues=[
                pb.QueueStats(
                    queue=queue.queue,
                    open=queue.open_tasks,
                    leased=queue.leased,
                    done=queue.done,
                    skips=queue.skips,
                    oldest_s=0.0 if queue.oldest_us is None else max(0, now_us - queue.oldest_us) / 1e6,
                )
                for queue in found
            ]
        )

    def _task(self, lease: Leased, *, show: bool) -> pb.ReviewTask:
        known = self._classes(lease.facts.route) or RouteClasses()
        task = pb.ReviewTask(
            task_id=lease.task,
            token=lease.token,
            lease_until_ms=lease.until_us // 1000,
            queue=lease.queue,
            route=lease.facts.route,
            decision_id=str(uuid.UUID(bytes=lease.decision)),
            row=lease.row,
            classes=known.classes,
            positive=known.positive or "",
            request=lease.request,
            time_ms=lease.facts.time_us // 1000,
            answer_by_ms=(lease.answer_by_us or 0) // 1000,
        )
        messages = self._messages()
        if messages is not None and lease.request:
            read = messages.request(lease.facts.route, lease.request)
            task.request_type, task.request_json = read.type, read.json
        if show:
            task.prediction.CopyFrom(
                pb.ShownPrediction(
                    label=lease.label or "",
                    score=lease.facts.score,
                    flagged=lease.facts.flagged,
                    backend=lease.facts.backend,
                    answer=lease.answer,
                )
            )
            if messages is not None:
                read = messages.answer(lease.facts.route, lease.answer)
                task.prediction.answer_type, task.prediction.answer_json = read.type, read.json
        return task


def _named(field: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest or "\0" in text:
        raise LabelError(
            f"bad_{field}", f"{field} has {len(text)} characters, wanted 1 to {longest}, none of them NUL"
        )
