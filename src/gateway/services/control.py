"""The control plane's gRPC server: feedback, review, policies, health and reflection on a unix socket; for a fleet on a
port as well, where sidecars push records and watch policies. What nobody is asked for who he is, health and reflection,
has a second server, for the admin port."""

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
from gateway.services.access import Access, RoleInterceptor
from gateway.services.errors import ErrorInterceptor
from gateway.services.feedback import FeedbackService
from gateway.services.fleet import FleetService
from gateway.services.health import Health
from gateway.services.intake import Classes, FeedbackRules, Intake, Verify
from gateway.services.pending import Waiting
from gateway.services.people import People
from gateway.services.policy import PolicyService
from gateway.services.port import Port
from gateway.services.quality import QualityService
from gateway.services.rates import Rate, Rates
from gateway.services.readable import Messages
from gateway.services.review import ReviewService
from gateway.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    quality_pb2,
    quality_pb2_grpc,
    review_pb2,
    review_pb2_grpc,
)

__all__ = ["Control"]

MAX_CALLS: Final = 1_024
"""Calls at once, health watchers included; beyond, RESOURCE_EXHAUSTED."""

OPEN_CALLS: Final = 256
"""Calls at once of health and reflection through the admin port; beyond, RESOURCE_EXHAUSTED."""

SERVER_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second control on the port must be told, not get half of the sidecars
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

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
        access: who may do what; asked for each call.
        open_socket: path of a unix socket with health and reflection alone. The admin port leads here: it cannot tell
            who calls from where, so it must lead to nothing that wants a role.
        policies, quality, fleet: further services. port: where they all are served besides.
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
        access: Callable[[], Access] = lambda: Access({}),
        policies: PolicyService | None = None,
        quality: QualityService | None = None,
        fleet: FleetService | None = None,
        port: Port | None = None,
        task_key: bytes = b"",
        open_socket: str | None = None,
    ) -> None:
        self._socket, self._port, self._open_socket = socket, port, open_socket
        self._access, self._policies, self._quality, self._fleet = access, policies, quality, fleet
        self.waiting = Waiting(ledger, classes)
        """What waits for its decision's record."""
        intake = Intake(ledger, verify, classes, rules, clock_us)
        self.feedback = FeedbackService(ledger, intake, Rates(rate), self.waiting)
        self._tasks: list[asyncio.Task[None]] = []
        self._review = ReviewService(ledger, classes, clock_us, people, messages, task_key)
        self._health = Health(SERVICES, models)
        self._server: grpc.aio.Server | None = None
        self._open: grpc.aio.Server | None = None

    async def start(self) -> str | None:
        """Listen. Health says NOT_SERVING until `set_serving(True)`.

        Returns: the address of the port that is really bound, where there is one.
        Raises: LedgerError when a socket cannot be made; OSError when the port cannot be bound.
        """
        server = grpc.aio.server(
            interceptors=[ErrorInterceptor(), RoleInterceptor(self._access)],
            maximum_concurrent_rpcs=MAX_CALLS,
            options=SERVER_OPTIONS if self._fleet is not None else (),
        )
        services = list(SERVICES)
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(self.feedback, server)
        review_pb2_grpc.add_ReviewServiceServicer_to_server(self._review, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._policies is not None:
            policy_pb2_grpc.add_PolicyServiceServicer_to_server(self._policies, server)
            services.append(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name)
        if self._quality is not None:
            quality_pb2_grpc.add_QualityServiceServicer_to_server(self._quality, server)
            services.append(quality_pb2.DESCRIPTOR.services_by_name["QualityService"].full_name)
        if self._fleet is not None:
            fleet_pb2_grpc.add_FleetServiceServicer_to_server(self._fleet, server)
            services.append(fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name)
        described = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(described, server)
        _listen(server, self._socket)
        bound = None if self._port is None else self._port.add_to(server)
        await server.start()
        os.chmod(self._socket, 0o600)
        self._server = server
        if self._open_socket is not None:
            self._open = grpc.aio.server(maximum_concurrent_rpcs=OPEN_CALLS)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._open)
            reflection.enable_server_reflection(described, self._open)
            _listen(self._open, self._open_socket)
            await self._open.start()
            os.chmod(self._open_socket, 0o600)
        return bound

    def set_serving(self, serving: bool) -> None:
        """What health says from now on; from the event loop's thread.

        What waits for its record is not judged before the first time: no route is known without a policy.
        """
        self._health.set_serving(serving)
        if serving and self._server is not None and not self._tasks:
            self._tasks.append(asyncio.create_task(self.waiting.run()))

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
        if self._open is not None:
            await self._open.stop(0.0)  # only watchers of health are left
            self._open = None
        for socket in (self._socket, self._open_socket):
            if socket is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(socket)


def _listen(server: grpc.aio.Server, socket: str) -> None:
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise LedgerError(f"the control socket {socket} cannot be made: {error}") from None
