"""What a sidecar hands on ends as control said; where control is gone, as a control that is gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from gateway.fleet import Proxy

METHOD = "/gateway.v1.ReviewService/Lease"


class Broken:
    """A call to control that ends with an error."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)

    def __aiter__(self) -> Broken:
        return self

    async def __anext__(self) -> bytes:
        raise self._error

    def cancel(self) -> None:
        """Nothing is under way."""


class Aborted(Exception):
    """How the caller's call ended."""


@pytest.mark.parametrize(
    ("code", "details", "told", "goes_on"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.INTERNAL, "an unexpected error", grpc.StatusCode.INTERNAL, False),
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            "the lease was lost",
            grpc.StatusCode.FAILED_PRECONDITION,
            False,
        ),
    ],
)
def test_a_control_that_went_while_it_was_written_to_is_away_and_not_at_fault(
    code: grpc.StatusCode, details: str, told: grpc.StatusCode, goes_on: bool
) -> None:
    """grpc.aio calls it an internal error, which callers do not send again; another control is there for them."""
    failed: list[int] = []
    channel = SimpleNamespace(stream_stream=lambda *_, **__: lambda *_, **__: Broken(code, details))
    controls: Any = SimpleNamespace(now=lambda: (0, channel), failed=failed.append)

    async def abort(status: grpc.StatusCode, *_: object, **__: object) -> None:
        raise Aborted(status)

    context = SimpleNamespace(invocation_metadata=tuple, time_remaining=lambda: None, abort=abort)
    handler = Proxy(lambda: controls).service(SimpleNamespace(method=METHOD))

    async def call() -> None:
        async for _ in handler.stream_stream(iter(()), context):
            raise AssertionError("there is no answer")

    with pytest.raises(Aborted) as ended:
        asyncio.run(call())
    assert ended.value.args == (told,)
    assert failed == ([0] if goes_on else [])
