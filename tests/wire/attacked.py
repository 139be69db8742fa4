"""A gateway as a process of its own, whose memory is measured while somebody attacks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import psutil

from tests.wire.echo import SERVICE
from tests.wire.gateway_process import GatewayProcess
from tests.wire.raw import grown_bytes, rss_bytes

__all__ = ["BOUND", "Attacked", "unharmed"]

MEGABYTE = 1 << 20
BOUND = 24 * MEGABYTE
"""What one attacker may cost; ordinary calls alone make the process grow by some megabytes."""


CPU_S = 4.0
"""Processor time that one attacker may cost, all that it sends included."""


@dataclass
class Attacked:
    """A gateway before an echo, and somebody else's channel to it."""

    process: GatewayProcess
    channel: grpc.Channel

    def cpu_s(self) -> float:
        """Processor time of the gateway so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def ask(self, message: bytes = b"still") -> bytes:
        return bytes(self.channel.unary_unary(f"{SERVICE}/Unary")(message, timeout=20))

    def metric(self, name: str) -> float:
        """The sum of a metric whose lines contain `name`."""
        lines = [line for line in self.process.get("/metrics")[1].splitlines() if name in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#"))


@contextmanager
def unharmed(gateway: Attacked, bound: int = BOUND) -> Iterator[None]:
    """Memory stays within the bound, and others are served before and after."""
    before, spent = rss_bytes(gateway.process.pid), gateway.cpu_s()
    assert gateway.ask() == b"still"
    yield
    spent = gateway.cpu_s() - spent
    assert spent <= CPU_S, f"{spent:.1f} s of processor time for one attacker"
    assert gateway.ask(bytes(100_000)) == bytes(100_000)
    grown = grown_bytes(before, gateway.process.pid, bound)
    assert grown <= bound, f"memory has grown by {grown / MEGABYTE:.0f} MB"
