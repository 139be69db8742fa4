"""What a call with one request may weigh where the server takes more: batches of sidecars are larger than any of them.

gRPC has one bound for a whole server, and sidecars push batches and hand feedback on over one port. So what is larger
has come, but it is let go unread: parsed, small items take many times their bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

__all__ = ["MOST_REQUEST_BYTES", "SizeInterceptor"]

MOST_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""As gRPC has it where nothing is said."""


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """Stands for a request that was not parsed."""

    size: int


class SizeInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Refuses larger requests with RESOURCE_EXHAUSTED, as gRPC would; stands inside of all others."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, grpc.RpcMethodHandler[Any, Any]]] = {}
        """By method: its handler, and what was made of it; once, as it takes a tenth of a small call's time."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler
        method = str(handler_call_details.method)
        before, made = self._made.get(method, (None, None))
        if before is not handler or made is None:
            made = _small(handler)
            self._made[method] = (handler, made)
        return made


def _small(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    parse, behave = handler.request_deserializer, handler.unary_unary

    def parse_small(data: bytes) -> Any:
        return parse(data) if len(data) <= MOST_REQUEST_BYTES else _TooLarge(len(data))

    async def call(request: Any, context: Any) -> Any:
        if isinstance(request, _TooLarge):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the request has {request.size:,} bytes, wanted at most {MOST_REQUEST_BYTES:,}; send several",
            )
        return await behave(request, context)

    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=parse_small, response_serializer=handler.response_serializer
    )
