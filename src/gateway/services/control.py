"""The control plane's gRPC server: feedback, review, health and reflection on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.errors import LedgerError
from gateway.ledger import Ledger
from gateway.services.errors import ErrorInterceptor
from gateway.services.feedback import FeedbackService
from gateway.services.health import Health
from gateway.services.intake import Classes, FeedbackRules, Intake, Verify
from gateway.services.pending import Waiting
from gateway.services.people import People
from gateway.services.rates import Rate, Rates
from gateway.services.readable import Messages
from gateway.services.review import ReviewService
from gateway.v1 import feedback_pb2, feedback_pb2_grpc, review_pb2, review_pb2_grpc

__all__ = ["Control"]

MAX_CALLS: Final = 1_024
"""Calls at once, health watchers included; beyond, RESOURCE_EXHAUSTED."""

SERVICES: Final = (
    feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name,
    review_pb2.DESCRIPTOR.services_by_name["ReviewService"].full_name,
)


class Control:
    """Serves from `start` to `stop`, on the event loop that runs them.

    Args:
        socket: path of the unix socket; only this user may connect.
        ledger: opened.
        verify: a receipt -> its fields; raises ReceiptError.
        classes: a route -> its classes, None for one that is not served.
        rules: what of feedback is believed, as the settings have it now.
        rate: how much feedback each caller may send, as the settings have it now; None: no limit.
        models: by name of a route or model, whether a call to it could be answered now.
        messages: what captured messages are read by.
        clock_us: the time, microseconds since 1970.
        people: told of reviewers' answers that callers may wait for.
        task_key: makes of the ledger's task numbers those that reviewers see; at most 64 bytes.
    """

    def __init__(
        self,
        socket: str,
        *,
        ledger: Ledger,
        verify: Verify,
        classes: Classes,
        rules: Callable[[], FeedbackRules] = FeedbackRules,
        rate: Callable[[], Rate | None] = lambda: None,
        models: Callable[[], Mapping[str, bool]] = dict,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        people: People | None = None,
        messages: Callable[[], Messages | None] = lambda: None,
        task_key: bytes = b"",
    ) -> None:
        self._socket = socket
        self.waiting = Waiting(ledger, classes)
        """What waits for its decision's record."""
        intake = Intake(ledger, verify, classes, rules, clock_us)
        self.feedback = FeedbackService(ledger, intake, Rates(rate), self.waiting)
        self._tasks: list[asyncio.Task[None]] = []
        self._review = ReviewService(ledger, classes, clock_us, people, messages, task_key)
        self._health = Health(SERVICES, models)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Health says NOT_SERVING until `set_serving(True)`.

        Raises: LedgerError when the socket cannot be made.
        """
        server = grpc.aio.server(interceptors=[ErrorInterceptor()], maximum_concurrent_rpcs=MAX_CALLS)
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(self.feedback, server)
        review_pb2_grpc.add_ReviewServiceServicer_to_server(self._review, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as error:
            raise LedgerError(f"the control socket {self._socket} cannot be made: {error}") from None
        await server.start()
        os.chmod(self._socket, 0o600)
        self._server = server
        self._tasks.append(asyncio.create_task(self.waiting.run()))

    def set_serving(self, serving: bool) -> None:
        """What health says from now on; from the event loop's thread."""
        self._health.set_serving(serving)

    async def stop(self, grace_s: float) -> None:
        """Let calls under way end, for at most `grace_s`; new ones are refused."""
        if self._server is None:
            return
        self._health.set_serving(False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._server.stop(grace_s)
        self._server = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket)
