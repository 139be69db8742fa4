"""Load of a real client: grpc.aio channels that follow GOAWAY, calls that remember whatever failed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows

__all__ = ["LONG", "Answer", "Load", "scaled"]

LONG = os.environ.get("FAULTS") == "long"
"""Whether this is `make faults`, not everyday's run."""


def scaled(usual: int, long: int) -> int:
    return long if LONG else usual


@dataclass(frozen=True)
class Answer:
    """What one call was told, by trailers and by its answer."""

    policy: int
    attempts: str
    score: float
    param_policy: int


@dataclass
class Load:
    """Calls of `model` to `target` from a thread of its own until `calls` are done, so many at a time.

    Only what its own library would repeat is repeated: no retry policy, no wait_for_ready.
    """

    target: str
    calls: int
    model: str = "spam"
    at_once: int = 16
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answers: Counter[Answer] = field(default_factory=Counter)

    def __enter__(self) -> Load:
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = self._stopped or error is not None
        self._thread.join(600)
        assert not self._thread.is_alive(), f"{self.done} of {self.calls} calls are done"

    def until(self, enough: Callable[[], bool], wanted: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not enough():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {wanted}; {self.failed}"
            assert self._thread.is_alive(), f"the load is over before {wanted}"
            time.sleep(0.005)

    def further(self, calls: int) -> None:
        """Wait until so many more calls are done."""
        wanted = min(self.calls, self.done + calls)
        self.until(lambda: self.done >= wanted, f"{calls} calls more")

    def stop(self) -> None:
        """No new calls; those under way end."""
        self._stopped = True

    async def _run(self) -> None:
        service = '{"loadBalancingConfig": [{"round_robin": {}}]}'
        options = [("grpc.service_config", service), ("grpc.enable_retries", 1)]
        # Of several addresses grpcio makes an authority that is none by RFC 3986.
        options += [("grpc.default_authority", "localhost")]
        options += [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(self.target, options=options) as channel:
            await channel.channel_ready()
            ask = channel.unary_unary(
                INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
            )
            left = iter(range(self.calls))
            await asyncio.gather(*(self._calls(ask, left) for _ in range(self.at_once)))

    async def _calls(self, ask: grpc.aio.UnaryUnaryMultiCallable, left: object) -> None:
        message = request(self.model, rows())
        for _ in left:  # type: ignore[attr-defined]
            if self._stopped:
                return
            call = ask(message, timeout=30)
            try:
                answer = await call
                told = {str(key): str(value) for key, value in await call.trailing_metadata()}
                probabilities = answer.outputs[0].contents.fp32_contents
                made = Answer(
                    int(told["gateway-policy"]),
                    told["gateway-attempts"],
                    round(float(probabilities[1]), 4),
                    int(answer.parameters["gateway_policy"].string_param),
                )
                self.answers[made] += 1
            except grpc.aio.AioRpcError as error:
                self.failed[f"{error.code().name}: {error.details()}"] += 1
            self.done += 1
