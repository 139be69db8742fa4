"""People, scripted: a reviewer who labels the sample, and users who tell what they think of an answer.

The reviewer sees only what the gateway captured, and knows the truth as a person would: by looking at the image. Users
are biased as users are: they complain about false alarms and seldom say anything else.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from examples.oip_server.tensors import read_floats
from gateway.v1 import feedback_pb2, review_pb2
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from gateway.v1.review_pb2_grpc import ReviewServiceStub

from .data import CLASSES, FEATURES, Call
from .traffic import Exchange

__all__ = ["Reviewer", "Users"]

QUEUE = "digits"
TIMEOUT_S = 10.0
PATIENCE_S = 1.5
"""The queue counts as empty for good when it stayed empty for so long after the last call."""

REPEATED = 10
"""Labels that are sent once more."""

TELLS = {"false alarm": 0.5, "right alarm": 0.05, "missed": 0.02, "rightly quiet": 0.005}
"""How likely a user is to say something."""


class Reviewer(threading.Thread):
    """Leases tasks and answers them, until told that no more will come and the queue is empty."""

    def __init__(self, address: str, calls: Iterable[Call]) -> None:
        super().__init__(name="reviewer", daemon=True)
        self.answered = 0
        self.error: grpc.RpcError | None = None
        self._address = address
        self._truth = {
            sample.features.tobytes(): sample.is_eight for call in calls for sample in call.samples
        }
        self._last_call = threading.Event()

    def finish(self) -> int:
        """Wait until the queue is empty. Returns how many tasks were answered.

        Raises: grpc.RpcError, if the gateway refused an answer.
        """
        self._last_call.set()
        self.join()
        if self.error is not None:
            raise self.error
        return self.answered

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address) as channel:
                self._work(ReviewServiceStub(channel))
        except grpc.RpcError as error:
            self.error = error

    def _work(self, reviews: ReviewServiceStub) -> None:
        empty_since: float | None = None
        while True:
            lease = reviews.Lease(
                review_pb2.LeaseRequest(queue=QUEUE, reviewer="ada", lease_s=30), timeout=TIMEOUT_S
            )
            if lease.WhichOneof("result") == "task":
                empty_since = None
                label = CLASSES[self._look_at(lease.task)]
                reviews.Submit(
                    review_pb2.SubmitReviewRequest(
                        task_id=lease.task.task_id, token=lease.task.token, reviewer="ada", label=label
                    ),
                    timeout=TIMEOUT_S,
                )
                self.answered += 1
                continue
            now = time.monotonic()
            if not self._last_call.is_set():
                empty_since = None
            elif empty_since is None:
                empty_since = now
            elif now - empty_since > PATIENCE_S:
                return
            time.sleep(0.1)

    def _look_at(self, task: review_pb2.ReviewTask) -> bool:
        """Whether the captured image shows an eight."""
        request = pb.ModelInferRequest.FromString(task.request)
        return self._truth[read_floats(request, "features", FEATURES)[task.row].tobytes()]


class Users(threading.Thread):
    """Hands receipts back with what users think, in small batches as an application would."""

    def __init__(self, address: str, generator: np.random.Generator) -> None:
        super().__init__(name="users", daemon=True)
        self.sent = 0
        self.kept = 0
        self.repeated = 0
        self.error: grpc.RpcError | None = None
        self._address = address
        self._generator = generator
        self._items: queue.SimpleQueue[feedback_pb2.FeedbackItem | None] = queue.SimpleQueue()

    def see(self, exchange: Exchange) -> None:
        """Users look at an answer; some of them will say something."""
        receipt = exchange.gateway.said.get("receipt")
        if not receipt or exchange.gateway.error:
            return
        for row, (sample, eight) in enumerate(
            zip(exchange.call.samples, exchange.gateway.eights, strict=True)
        ):
            if eight:
                case = "right alarm" if sample.is_eight else "false alarm"
            else:
                case = "missed" if sample.is_eight else "rightly quiet"
            if self._generator.random() < TELLS[case]:
                label = CLASSES[sample.is_eight]
                self._items.put(feedback_pb2.FeedbackItem(receipt=receipt, row=row, label=label))

    def finish(self) -> None:
        """Wait until all is sent.

        Raises: grpc.RpcError, if the gateway refused it.
        """
        self._items.put(None)
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address) as channel:
                self._work(FeedbackServiceStub(channel))
        except grpc.RpcError as error:
            self.error = error

    def _work(self, feedback: FeedbackServiceStub) -> None:
        again: list[feedback_pb2.FeedbackItem] = []
        while True:
            items = [self._items.get()]
            while not self._items.empty() and len(items) < 100:
                items.append(self._items.get())
            batch = [item for item in items if item is not None]
            if batch:
                again += batch[: REPEATED - len(again)]
                self.sent += len(batch)
                self.kept += self._submit(feedback, batch, feedback_pb2.FeedbackResult.ACCEPTED)
            if None in items:
                break
        if again:  # an application that retries after a lost answer: it counts once
            self.repeated = self._submit(feedback, again, feedback_pb2.FeedbackResult.DUPLICATE)

    def _submit(
        self,
        feedback: FeedbackServiceStub,
        items: list[feedback_pb2.FeedbackItem],
        status: feedback_pb2.FeedbackResult.Status.ValueType,
    ) -> int:
        """Send; returns how many came back with that status."""
        answer = feedback.Submit(
            feedback_pb2.SubmitFeedbackRequest(items=items, source="app"), timeout=TIMEOUT_S
        )
        return sum(result.status == status for result in answer.results)
