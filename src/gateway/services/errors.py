"""Exceptions become statuses in one place, so that no service can leak what it did not expect."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc

from gateway.errors import GatewayError, RateLimited

__all__ = ["ERROR_TRAILER", "PUSHBACK_TRAILER", "ErrorInterceptor", "error_word"]

log = logging.getLogger(__name__)

ERROR_TRAILER: Final = "gateway-error"
"""The trailer with the error's stable word."""

PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"
"""How long to wait before the next try. Source: gRFC A6; clients that retry by themselves heed it."""

_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}

Behaviour = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


def error_word(error: GatewayError) -> str:
    """What programs match on: the kind where an error has one, else its code."""
    return str(getattr(error, "kind", error.code))


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """A GatewayError ends the call with its own status and text; anything else with INTERNAL and a number for the log.

    Calls with one question are watched, whether they have one answer or many. Streams of questions are gRPC's own
    reflection, and a fleet's records, which end their calls themselves.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, grpc.RpcMethodHandler[Any, Any]]] = {}
        """By method: its handler, and what was made of it; once, as it takes a tenth of a small call's time."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler: Any = await continuation(
            handler_call_details
        )  # None where there is none, whatever the stubs say
        if handler is not None and handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream, handler_call_details.method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler is None or handler.unary_unary is None:
            return handler  # type: ignore[no-any-return]
        method = str(handler_call_details.method)
        before, made = self._made.get(method, (None, None))
        if before is not handler or made is None:
            made = grpc.unary_unary_rpc_method_handler(
                _guarded(handler.unary_unary, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
            self._made[method] = (handler, made)
        return made


def _guarded(behaviour: Any, method: str) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _end(context, error, method)

    return call


def _guarded_stream(behaviour: Any, method: str) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async with contextlib.aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _end(context, error, method)

    return call


async def _end(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str) -> None:
    """From inside of an except: abort the call with what may be told of the error."""
    if isinstance(error, GatewayError):
        trailers = [(ERROR_TRAILER, error_word(error))]
        if isinstance(error, RateLimited):
            trailers.append((PUSHBACK_TRAILER, str(math.ceil(error.wait_s * 1000))))
        await context.abort(_STATUS[error.grpc_status], str(error), trailing_metadata=tuple(trailers))
    number = secrets.token_hex(4)
    log.exception("unexpected error in %s, number %s", method, number)
    await context.abort(
        grpc.StatusCode.INTERNAL,
        f"an unexpected error; the gateway's log has it under number {number}",
        trailing_metadata=((ERROR_TRAILER, "internal"),),
    )
