"""Feedback, review and the rest of control's services through a sidecar: calls are handed on to control as they are.

The data plane hands them to a unix socket; here they go on to whichever control the sidecar talks to, off the path of
any call to a model. `FleetService` is not among them: a policy holds the receipt keys, and whoever reaches a sidecar's
port must not be able to ask for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc

from gateway.fleet.controls import Controls

__all__ = ["Proxy"]

HANDED_ON: Final = (
    "/gateway.v1.FeedbackService/",
    "/gateway.v1.ReviewService/",
    "/gateway.v1.PolicyService/",
    "/gateway.v1.QualityService/",
    "/grpc.reflection.",
)
"""Beginnings of the methods' paths; a service that is not named here is not reached through a sidecar."""

FAR: Final = ("gateway-from", "sidecar")
"""Tells control that the caller need not be at the machine that the connection comes from."""

_BROKE_UNDER_WAY: Final = "Internal error from Core"
"""What grpc.aio says where the connection went while a message was written: control is away, as by UNAVAILABLE."""

_NOT_HANDED_ON: Final = ("user-agent", "te", "content-type", "gateway-from")


class Proxy(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Whatever shape a method has, it is a stream of bytes in and one out."""

    def __init__(self, controls: Callable[[], Controls]) -> None:
        self._controls = controls

    def service(self, handler_call_details: Any) -> Any:
        """A handler for any method that is handed on; None for others, which end UNIMPLEMENTED."""
        method = handler_call_details.method
        if not method.startswith(HANDED_ON):
            return None

        async def hand_on(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for answer in self._hand_on(method, requests, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(hand_on)

    async def _hand_on(
        self, method: str, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        at, channel = self._controls().now()
        metadata = [
            (key, value)
            for key, value in context.invocation_metadata() or ()
            if key not in _NOT_HANDED_ON and not key.startswith(("grpc-", ":"))
        ]
        call = channel.stream_stream(method, request_serializer=None, response_deserializer=None)(
            requests, metadata=(*metadata, FAR), timeout=context.time_remaining()
        )
        try:
            async for answer in call:
                yield answer
            context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code == grpc.StatusCode.INTERNAL and error.details() == _BROKE_UNDER_WAY:
                code = grpc.StatusCode.UNAVAILABLE
            if code == grpc.StatusCode.UNAVAILABLE:
                self._controls().failed(at)
            await context.abort(
                code,
                error.details() or "control did not answer",
                trailing_metadata=tuple(error.trailing_metadata() or ()),
            )
        finally:
            call.cancel()
