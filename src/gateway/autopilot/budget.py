"""Turns "60 reviews an hour" into inclusion probabilities, from the traffic that was seen.

Half of a route's budget goes to what was flagged and half to what was not, because precision is learnt from the first
and recall needs the second, and flagged predictions are usually few. What one side cannot use goes to the other. The
probabilities are constants of a policy version, so every record carries the one it was really drawn with, and a later
change of the budget biases nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from gateway.runtime import FIRST_SHARES, Batch
from gateway.types import NO_INDEX

__all__ = ["ReviewBudget", "Shares"]

LEAST_SECONDS: Final = 10.0
"""No rate is believed before so long a look."""

MEMORY_S: Final = 600.0
"""Time constant of the rate's exponential average: long against bursts, short against a day."""

LEAST_CHANGE: Final = 0.25
"""A new policy version is worth it only when a share moves by more than this part of itself."""

FLAGGED: Final = 1
UNFLAGGED: Final = 0


class Shares(NamedTuple):
    """Inclusion probabilities of one route, by side of the decision."""

    flagged: float
    unflagged: float


class ReviewBudget:
    """Watches traffic and says which shares keep each route's budget.

    Args:
        per_hour: reviews an hour, by route.
        start: shares to begin with, by route, such as those of the last policy; else `FIRST_SHARES`.
        clock: seconds, monotonic.
    """

    def __init__(
        self, per_hour: Mapping[str, float], start: Mapping[str, Shares], clock: Callable[[], float]
    ) -> None:
        self._per_hour = dict(per_hour)
        self._shares = {route: start.get(route, Shares(*FIRST_SHARES)) for route in per_hour}
        self._seen: dict[str, list[float]] = {route: [0.0, 0.0] for route in per_hour}
        self._rates: dict[str, tuple[float, float]] = {}
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()

    @property
    def shares(self) -> dict[str, Shares]:
        """The shares now in force."""
        with self._lock:
            return dict(self._shares)

    def consume(self, batch: Batch) -> None:
        """Counts predictions by route and side; called for every batch."""
        records = batch.records
        known = (records["stratum"] <= FLAGGED) & (records["route"] != NO_INDEX)
        keys = np.stack([records["policy"][known], records["route"][known], records["stratum"][known]])
        if not keys.size:
            return
        unique, counts = np.unique(keys, axis=1, return_counts=True)
        with self._lock:
            for (policy, route, side), count in zip(unique.T, counts, strict=True):
                names = batch.names.get(int(policy))
                seen = self._seen.get(names.route(int(route))) if names else None
                if seen is not None:
                    seen[int(side)] += float(count)

    def revise(self) -> dict[str, Shares] | None:
        """Shares for the next policy, or None while those in force still serve."""
        with self._lock:
            elapsed = self._clock() - self._since
            if elapsed < LEAST_SECONDS:
                return None
            self._since += elapsed
            fresh = {route: self._fresh(route, elapsed) for route in self._per_hour}
            if not any(_differs(self._shares[route], fresh[route]) for route in fresh):
                return None
            self._shares = fresh
            return dict(fresh)

    def _fresh(self, route: str, elapsed: float) -> Shares:
        seen = self._seen[route]
        now = (seen[UNFLAGGED] / elapsed, seen[FLAGGED] / elapsed)
        self._seen[route] = [0.0, 0.0]
        old = self._rates.get(route)
        if old is None:
            if now == (0.0, 0.0):
                return self._shares[route]  # a route without traffic teaches nothing
            self._rates[route] = now
        else:
            keep = float(np.exp(-elapsed / MEMORY_S))
            self._rates[route] = (
                keep * old[0] + (1 - keep) * now[0],
                keep * old[1] + (1 - keep) * now[1],
            )
        return split(self._per_hour[route] / 3600, *self._rates[route])


def split(budget: float, unflagged: float, flagged: float) -> Shares:
    """Divides a budget between the two sides of a decision.

    Args: reviews a second; predictions a second not flagged and flagged.
    Returns: shares in [0, 1]; half the budget each, what one side cannot use goes to the other.
    """
    half = budget / 2
    for_flagged = min(flagged, half + max(0.0, half - unflagged))
    for_unflagged = min(unflagged, budget - for_flagged)
    return Shares(
        flagged=min(1.0, for_flagged / flagged) if flagged > 0 else 1.0,
        unflagged=min(1.0, for_unflagged / unflagged) if unflagged > 0 else 1.0,
    )


def _differs(old: Shares, new: Shares) -> bool:
    return any(abs(a - b) > LEAST_CHANGE * max(a, 1e-9) for a, b in zip(old, new, strict=True))
