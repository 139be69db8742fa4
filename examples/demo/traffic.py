"""The phases: what goes wrong when, and the callers that meet it.

Each call is made twice, through the gateway and to the primary alone, by the same kind of client at the same moment:
the second answer is what the caller would have had without the net.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from examples.oip_server import Faults

from .callers import AioCaller, Answer, Caller, GrpcCaller, TritonCaller
from .data import Call
from .world import World

__all__ = ["PHASES", "Exchange", "Phase", "Traffic", "added_latency"]

Seen = Callable[["Exchange"], None]


@dataclass(frozen=True)
class Phase:
    """A stretch of traffic. `share` of the calls, at `per_second`; `begin` and `end` change the world."""

    name: str
    share: float
    per_second: float
    begin: Callable[[World], None] = lambda world: None
    end: Callable[[World], None] = lambda world: None


@dataclass(frozen=True)
class Exchange:
    """One call, and both its answers."""

    phase: str
    call: Call
    gateway: Answer
    alone: Answer


def _faults(kind: Faults) -> Callable[[World], None]:
    return lambda world: world.primary.set_faults(kind)


PHASES = (
    Phase("all is well", 0.42, 220),
    Phase("primary answers NaN", 0.10, 220, _faults(Faults("nan")), _faults(Faults())),
    Phase("primary goes silent", 0.004, 12, _faults(Faults("silent")), _faults(Faults())),
    # A fifth of 3,000 calls at 150 a second: dead for four seconds.
    Phase(
        "primary is dead", 0.2, 150, lambda world: world.primary.kill(), lambda world: world.primary.start()
    ),
    Phase("it is back", 0.276, 220),
)


class Traffic:
    """Three clients at once: plain grpcio, tritonclient, and tritonclient's asyncio twin."""

    def __init__(self, world: World, seen: Seen) -> None:
        self._world = world
        self._seen = seen
        self._lock = threading.Lock()

    def run(self, phase: Phase, calls: Sequence[Call]) -> None:
        """Make the calls at the phase's pace; returns when the last is answered."""
        phase.begin(self._world)
        started = time.monotonic()
        due = [(call, started + number / phase.per_second) for number, call in enumerate(calls)]
        with ThreadPoolExecutor(3) as pool:
            work = [
                pool.submit(self._one_by_one, phase, due[0::3], GrpcCaller),
                pool.submit(self._one_by_one, phase, due[1::3], TritonCaller),
                pool.submit(lambda: asyncio.run(self._together(phase, due[2::3]))),
            ]
            for done in work:
                done.result()
        phase.end(self._world)

    def _tell(self, exchange: Exchange) -> None:
        with self._lock:
            self._seen(exchange)

    def _one_by_one(
        self, phase: Phase, due: Sequence[tuple[Call, float]], kind: Callable[[str], Caller]
    ) -> None:
        gateway, alone = kind(self._world.address), kind(self._world.primary.address)
        try:
            for number, (call, at) in enumerate(due):
                time.sleep(max(0.0, at - time.monotonic()))
                if number % 2:  # neither is always the first, so that neither gains by a warm cache
                    answers = gateway.call(call), alone.call(call)
                else:
                    answers = (alone.call(call), gateway.call(call))[::-1]
                self._tell(Exchange(phase.name, call, *answers))
        finally:
            gateway.close()
            alone.close()

    async def _together(self, phase: Phase, due: Sequence[tuple[Call, float]]) -> None:
        gateway, alone = AioCaller(self._world.address), AioCaller(self._world.primary.address)

        async def one(call: Call, at: float) -> None:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            self._tell(
                Exchange(phase.name, call, *await asyncio.gather(gateway.call(call), alone.call(call)))
            )

        try:
            await asyncio.gather(*(one(call, at) for call, at in due))
        finally:
            await gateway.close()
            await alone.close()


def added_latency(world: World, calls: Sequence[Call], seen: Seen) -> tuple[list[float], list[float]]:
    """Seconds of single calls by one grpcio client, one after the other: (through the gateway, to the model alone).

    Only calls that the primary answered count: what falls back takes another way.
    """
    gateway, alone = GrpcCaller(world.address), GrpcCaller(world.primary.address)
    through: list[float] = []
    past: list[float] = []
    try:
        for number, call in enumerate(calls):
            if number % 2:
                pair = gateway.call(call), alone.call(call)
            else:
                pair = (alone.call(call), gateway.call(call))[::-1]
            seen(Exchange("one caller, timed", call, *pair))
            if pair[0].said.get("outcome", "").split(",")[0] == "model" and pair[1].error is None:
                through.append(pair[0].duration_s)
                past.append(pair[1].duration_s)
    finally:
        gateway.close()
        alone.close()
    return through, past
