"""Human review over gRPC: lease a task, answer it, give it back, or take back what was said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import grpc

from gateway.errors import LabelError, NotAllowed
from gateway.ledger import Kept, Ledger, NothingForYou, QueueRule, RouteClasses, Truth, truth_of
from gateway.ledger import Lease as Leased
from gateway.services.people import People
from gateway.services.readable import Messages
from gateway.services.review_messages import agreement_of, answer_of, prediction_of, stats_of, task_of
from gateway.services.task_numbers import TaskNumbers
from gateway.v1 import review_pb2 as pb
from gateway.v1 import review_pb2_grpc

__all__ = ["MAX_LEASE_S", "ReviewService"]

MAX_LEASE_S: Final = 3_600
MAX_REVIEWER: Final = 128
MAX_QUEUE: Final = 128
MAX_SKIP_REASON: Final = 500

_USUAL: Final = QueueRule()


class ReviewService(review_pb2_grpc.ReviewServiceServicer):
    """`gateway.v1.ReviewService`.

    Args:
        classes: a route -> its classes, None for one that is not served.
        messages: what captured messages are read by; None where all are of the Open Inference Protocol.
        clock_us: the time, microseconds since 1970; the ledger's own decides about leases.
        people: told of answers that callers may wait for.
        task_key: makes of the ledger's task numbers those that reviewers see.
    """

    def __init__(
        self,
        ledger: Ledger,
        classes: Callable[[str], RouteClasses | None],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        people: People | None = None,
        messages: Callable[[], Messages | None] = lambda: None,
        task_key: bytes = b"",
    ) -> None:
        self._people = people
        self._ledger = ledger
        self._messages = messages
        self._classes = classes
        self._clock_us = clock_us
        self._numbers = TaskNumbers(task_key)

    async def Lease(  # noqa: N802 - the name in the proto
        self, request: pb.LeaseRequest, context: grpc.aio.ServicerContext[pb.LeaseRequest, pb.LeaseResponse]
    ) -> pb.LeaseResponse:
        """A task that nobody else has, for some time: those that callers wait for first."""
        _named("queue", request.queue, MAX_QUEUE)
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        rule = self._ledger.review_rules.queue(request.queue)
        if rule.reviewers and request.reviewer not in rule.reviewers:
            raise NotAllowed(
                f"queue {request.queue!r} is for those whom the settings name, "
                f"and {request.reviewer!r} is not among them"
            )
        if rule.blind and request.show_prediction:
            raise NotAllowed(
                f"queue {request.queue!r} is blind: leave show_prediction out, or ask for it with the answer"
            )
        leased = await asyncio.wrap_future(
            self._ledger.lease(
                request.queue,
                request.reviewer,
                _lease_s(request.lease_s, rule),
                shown=request.show_prediction,
            )
        )
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

    async def Heartbeat(  # noqa: N802
        self,
        request: pb.HeartbeatRequest,
        context: grpc.aio.ServicerContext[pb.HeartbeatRequest, pb.HeartbeatResponse],
    ) -> pb.HeartbeatResponse:
        """Extend a lease."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        until_us = await asyncio.wrap_future(
            self._ledger.heartbeat(
                self._numbers.inside(request.task_id),
                request.token,
                request.reviewer,
                _lease_s(request.lease_s, None),
            )
        )
        return pb.HeartbeatResponse(lease_until_ms=until_us // 1000)

    async def Submit(  # noqa: N802
        self,
        request: pb.SubmitReviewRequest,
        context: grpc.aio.ServicerContext[pb.SubmitReviewRequest, pb.SubmitReviewResponse],
    ) -> pb.SubmitReviewResponse:
        """Keep the reviewer's answer; with the last one that is wanted there is a label of source `review`."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        said = request.WhichOneof("truth")
        if said is None:
            raise LabelError("no_truth", "neither label nor positive is set; set one, or Skip the task")
        label = request.label if said == "label" else None
        positive = request.positive if said == "positive" else None
        task = self._numbers.inside(request.task_id)
        found: list[Truth] = []

        def truth(route: str) -> Truth:
            made = truth_of(route, self._classes(route), label=label, positive=positive)
            if made.label is None and self._people is not None and self._people.waits_for(task):
                raise LabelError(
                    "needs_label", "a caller waits for this answer, and `no` is not one; say the label"
                )
            found.append(made)
            return made

        kept = await asyncio.wrap_future(
            self._ledger.submit_review(task, request.token, request.reviewer, truth)
        )
        if self._people is not None and found and found[-1].label is not None:
            self._people.answered(task, found[-1].label)
        response = pb.SubmitReviewResponse(duplicate=kept is Kept.DUPLICATE, corrected=kept is Kept.CORRECTED)
        if request.show:
            shown = await asyncio.wrap_future(
                self._ledger.reveal_review(task, request.token, request.reviewer)
            )
            response.prediction.CopyFrom(
                prediction_of(shown.facts, shown.label, shown.answer, self._messages())
            )
            response.others.extend(answer_of(other) for other in shown.others)
        return response

    async def Skip(  # noqa: N802
        self, request: pb.SkipRequest, context: grpc.aio.ServicerContext[pb.SkipRequest, pb.SkipResponse]
    ) -> pb.SkipResponse:
        """Give a task back; this reviewer will not see it again."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        if len(request.reason) > MAX_SKIP_REASON or "\0" in request.reason:
            raise LabelError(
                "bad_reason",
                f"reason has {len(request.reason)} characters, wanted at most {MAX_SKIP_REASON}, none of them NUL",
            )
        task = self._numbers.inside(request.task_id)
        await asyncio.wrap_future(
            self._ledger.skip_review(task, request.token, request.reviewer, request.reason)
        )
        return pb.SkipResponse()

    async def Undo(  # noqa: N802
        self, request: pb.UndoRequest, context: grpc.aio.ServicerContext[pb.UndoRequest, pb.UndoResponse]
    ) -> pb.UndoResponse:
        """Take back an answer or a skip, and have the task again."""
        _named("reviewer", request.reviewer, MAX_REVIEWER)
        task, lease_s = self._numbers.inside(request.task_id), _lease_s(request.lease_s, None)
        again = await asyncio.wrap_future(
            self._ledger.undo_review(task, request.token, request.reviewer, lease_s)
        )
        return pb.UndoResponse(task=None if again is None else self._task(again, show=False))

    async def Stats(  # noqa: N802
        self, request: pb.StatsRequest, context: grpc.aio.ServicerContext[pb.StatsRequest, pb.StatsResponse]
    ) -> pb.StatsResponse:
        """How many tasks there are and how old."""
        found = await asyncio.to_thread(self._ledger.review_stats, request.queue or None)
        now_us = self._clock_us()
        response = pb.StatsResponse(queues=[stats_of(queue, now_us) for queue in found])
        for queue in response.queues if request.agreement else ():
            agreement = await asyncio.to_thread(self._ledger.review_agreement, queue.queue)
            if agreement is not None:
                queue.agreement.CopyFrom(agreement_of(agreement))
        return response

    def _task(self, lease: Leased, *, show: bool) -> pb.ReviewTask:
        known = self._classes(lease.facts.route) or RouteClasses()
        return task_of(
            lease, self._numbers.outside(lease.task), known, self._messages(), show_prediction=show
        )


def _lease_s(asked: int, rule: QueueRule | None) -> float:
    if asked > MAX_LEASE_S:
        raise LabelError("bad_lease", f"lease_s is {asked}, wanted at most {MAX_LEASE_S}")
    return asked or (rule or _USUAL).lease_s


def _named(field: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest or "\0" in text:
        raise LabelError(
            f"bad_{field}", f"{field} has {len(text)} characters, wanted 1 to {longest}, none of them NUL"
        )
