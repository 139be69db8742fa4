"""Which predictions a gate is judged by in one cycle: where its window begins, and up to where labels may have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.autopilot.judging import wait_us
from gateway.ledger.grid import HOUR_US

if TYPE_CHECKING:
    from gateway.config.gates import Gate

__all__ = ["Hours", "Look", "look_at"]

SETTLE_US: Final = 5_000_000
"""Predictions younger than this may not be in the ledger yet: no label must be passed over for that."""

Hours = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """One gate in this cycle. `hours`: its window, which begins at `start_us`. `acted_us`: when its route was last
    changed by an act within it. `until_us`: labels of predictions up to then have come, or are waited for no longer."""

    route: str
    gate: Gate
    hours: Hours
    start_us: int
    acted_us: int | None
    until_us: int

    @property
    def name(self) -> tuple[str, str]:
        return self.route, self.gate.name


def look_at(route: str, gate: Gate, now_us: int, acted_us: int | None, open_us: int | None) -> Look:
    """Args:
    acted_us: when the route was last changed by an act. open_us: when the oldest prediction was made whose review task
        is open; None where none is.
    """
    waited_us = now_us - max(wait_us(gate), SETTLE_US)
    until_us = max(waited_us, min(now_us - SETTLE_US, now_us if open_us is None else open_us))
    start_us = now_us - round(gate.window_h * HOUR_US)
    since_hour = start_us // HOUR_US
    if acted_us is not None and acted_us > start_us:
        start_us, since_hour = acted_us, -(-acted_us // HOUR_US)
    return Look(
        route, gate, (since_hour, max(since_hour, -(-until_us // HOUR_US))), start_us, acted_us, until_us
    )
