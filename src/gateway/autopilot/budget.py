"""Turns "60 reviews an hour" into inclusion probabilities, from the traffic that was seen.

Half of a route's budget goes to what was flagged and half to what was not, because precision is learnt from the first
and recall needs the second, and flagged predictions are usually few. Of the second half most goes to what scored low
and to what is near the threshold: over-sampling near it finds missed positives faster, but those that score low are
found nowhere else, so the low ones keep 40 %. What one stratum cannot use goes to the others. The probabilities are
constants of a policy version, so every record carries the one it was really drawn with, and a later change of the
budget biases nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from gateway.runtime import FIRST_SHARES, Batch, ReviewShares
from gateway.types import NO_INDEX, NO_STRING, Stratum

__all__ = ["ReviewBudget", "Shares"]

LEAST_SECONDS: Final = 10.0
"""No rate is believed before so long a look."""

MEMORY_S: Final = 600.0
"""Time constant of the rate's exponential average: long against bursts, short against a day."""

LEAST_CHANGE: Final = 0.25
"""A new policy version is worth it only when a share moves by more than this part of itself."""

UNFLAGGED_WEIGHTS: Final = {"low": 0.4, "near": 0.3, "disagreement": 0.2, "fallback": 0.1}
"""How the second half of a budget is divided among those of its strata that there is traffic of."""

Shares = ReviewShares

NOTHING: Final = Shares(0.0, 0.0, 0.0, 0.0, 0.0)


class ReviewBudget:
    """Watches traffic and says which shares keep each route's budget.

    Args:
        per_hour: reviews an hour, by route.
        start: shares to begin with, by route, such as those of the last policy; else `FIRST_SHARES`.
        clock: seconds, monotonic.
        factors: by route, what the settings multiply the shares of a segment by: such predictions weigh as much more.
    """

    def __init__(
        self,
        per_hour: Mapping[str, float],
        start: Mapping[str, Shares],
        clock: Callable[[], float],
        factors: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._per_hour = dict(per_hour)
        self._factors = {route: dict(of) for route, of in (factors or {}).items() if of}
        self._shares = {route: start.get(route, FIRST_SHARES) for route in per_hour}
        self._seen: dict[str, dict[str, float]] = {route: {} for route in per_hour}
        self._rates: dict[str, Shares] = {}
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()

    @property
    def shares(self) -> dict[str, Shares]:
        """The shares now in force."""
        with self._lock:
            return dict(self._shares)

    def consume(self, batch: Batch) -> None:
        """Counts predictions by route and stratum; called for every batch."""
        records, mirrors = batch.records, batch.mirrors
        known = (records["stratum"] <= max(Stratum)) & (records["route"] != NO_INDEX)
        names = ("policy", "route", "stratum", "segment") if self._factors else ("policy", "route", "stratum")
        self._add(batch, [records[name][known] for name in names])
        if len(mirrors.get("route", ())):
            contradicted = (mirrors["agree"] == 0) & (mirrors["noise"] == 0)
            keys = [mirrors[name][contradicted] for name in ("policy", "route")]
            self._add(batch, [*keys, np.full(len(keys[0]), int(Stratum.DISAGREEMENT), np.uint8)])

    def _add(self, batch: Batch, columns: list[Any]) -> None:
        if not len(columns[0]):
            return
        unique, counts = np.unique(np.stack([*columns]), axis=1, return_counts=True)
        with self._lock:
            for (policy, index, stratum, *segment), count in zip(
                unique.T.tolist(), counts.tolist(), strict=True
            ):
                names = batch.names.get(int(policy))
                route = names.route(int(index)) if names else None
                seen = None if route is None else self._seen.get(route)
                if route is not None and seen is not None:
                    text = batch.strings[segment[0]] if segment and segment[0] != NO_STRING else ""
                    name = Stratum(stratum).text
                    seen[name] = seen.get(name, 0.0) + count * self._factor(route, text)

    def _factor(self, route: str, segment: str) -> float:
        """What the data plane multiplies by: the product over the call's segments."""
        factors, product = self._factors.get(route, {}), 1.0
        for pair in segment.split(",") if factors and segment else ():
            product *= factors.get(pair, 1.0)
        return product

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
        now = Shares(**{name: seen.get(name, 0.0) / elapsed for name in Shares._fields})
        self._seen[route] = {}
        old = self._rates.get(route)
        if old is None:
            if now == NOTHING:
                return self._shares[route]  # a route without traffic teaches nothing
            self._rates[route] = now
        else:
            keep = float(np.exp(-elapsed / MEMORY_S))
            self._rates[route] = Shares(*(keep * a + (1 - keep) * b for a, b in zip(old, now, strict=True)))
        return split(self._per_hour[route] / 3600, self._rates[route])


def split(budget: float, rates: Shares) -> Shares:
    """Divides a budget among the strata.

    Args: reviews a second; predictions a second by stratum. What disagrees counts in its own stratum and once more in
        that of its score, so that what is spent is a little less, never more.
    Returns: shares in [0, 1]; half the budget to each side, what one cannot use goes to the other. Of what has not come
        yet, the usual share: an outage must not put every fallback before people.
    """
    rate = dict(rates._asdict())
    rest = {name: rate[name] for name in UNFLAGGED_WEIGHTS}
    sides = _fill(
        budget, {"flagged": rate["flagged"], "rest": sum(rest.values())}, {"flagged": 0.5, "rest": 0.5}
    )
    spent = {"flagged": sides["flagged"], **_fill(sides["rest"], rest, UNFLAGGED_WEIGHTS)}
    absent = {**FIRST_SHARES._asdict(), "flagged": 1.0, "low": 1.0}
    return Shares(
        **{name: min(1.0, spent[name] / rate[name]) if rate[name] > 0 else absent[name] for name in rate}
    )


def _fill(budget: float, room: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Gives by weight, but to none more than it has room for; what is left over goes to the others."""
    given = dict.fromkeys(room, 0.0)
    wanting = {name for name, most in room.items() if most > 0}
    while wanting:
        total = sum(weights[name] for name in wanting)
        full = {name for name in wanting if room[name] <= budget * weights[name] / total}
        if not full:
            given.update({name: budget * weights[name] / total for name in wanting})
            break
        for name in full:
            given[name] = room[name]
            budget = max(0.0, budget - room[name])
        wanting -= full
    return given


def _differs(old: Shares, new: Shares) -> bool:
    return any(abs(a - b) > LEAST_CHANGE * max(a, 1e-9) for a, b in zip(old, new, strict=True))
