"""`grpc.health.v1`: of the gateway, of its services, and of every model that it stands for.

The package's own servicer keeps one status by service and never forgets a name; here the models are those of the policy
of the moment, and how they are is looked up when somebody asks.

- `""` and the gateway's services: SERVING from start to drain.
- The name of a route, or of a model that routes match: SERVING while a call to it could be answered, by a static
  answer or by a model server that its circuit would let through and that can be reached. What nobody has tried yet
  counts as reachable. NOT_SERVING while the gateway drains.
- Any other name: NOT_FOUND; SERVICE_UNKNOWN to who watches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["Health"]

LOOK_S: Final = 0.25
"""How old a model's status may be, and how often who watches is told of a change."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # not in the stubs
    """Answers on the event loop that runs it.

    Args:
        services: names that are well whenever the gateway is.
        models: by name, whether a call could be answered now.
        clock_s: any steady clock, seconds.
    """

    def __init__(
        self,
        services: Collection[str],
        models: Callable[[], Mapping[str, bool]],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = frozenset({"", *services})
        self._look = models
        self._clock_s = clock_s
        self._models: Mapping[str, bool] = {}
        self._looked_s = float("-inf")
        self._serving = False

    def set_serving(self, serving: bool) -> None:
        """What is said from now on."""
        self._serving = serving

    def status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType | None:
        """The service's status; None for a name that nobody has."""
        if service in self._services:
            good = True
        else:
            now_s = self._clock_s()
            if now_s - self._looked_s >= LOOK_S:
                self._models, self._looked_s = self._look(), now_s
            if service not in self._models:
                return None
            good = self._models[service]
        answer = health_pb2.HealthCheckResponse
        return answer.SERVING if self._serving and good else answer.NOT_SERVING

    async def Check(  # noqa: N802  # the service's own name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        status = self.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no route and no model {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now, and whenever it is another."""
        told = None
        while True:
            status = self.status(request.service)
            if status is None:
                status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            await asyncio.sleep(LOOK_S)
