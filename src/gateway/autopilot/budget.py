"""Turns "60 reviews an hour" into inclusion probabilities, from the traffic that was seen and the labels so far.

A route's budget begins divided equally between what was flagged and what was not, because precision is learnt from the
first and recall needs the second, and most of the rest goes to what scored low, for missed positives are found there
and nowhere else. As labels come, the division moves to what tells most (`gateway.quality.allocation`), within floors.

The probabilities are constants of a policy version, so every record carries the one it was really drawn with, and a
later change of the budget biases nothing. What the shares rest on is kept with the policy: a restart goes on from it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.autopilot.counting import Counted, count_batch
from gateway.autopilot.division import CELLS, NO_LABELS, Floats, divide, expected, labels_by_cell
from gateway.autopilot.traffic import Traffic
from gateway.quality import Objective
from gateway.runtime import FIRST_SHARES, Batch, ReviewShares
from gateway.types import Stratum

if TYPE_CHECKING:
    from gateway.ledger.review_budget import StratumLabels  # a sidecar has no ledger, and no room for one

__all__ = ["Load", "ReviewBudget", "Shares", "Start"]

LEAST_SECONDS: Final = 10.0
"""No rate is believed before so long a look."""

LEAST_CHANGE: Final = 0.25
"""A new policy version is worth it only when a share moves by more than this part of itself."""

REST_S: Final = 60.0
"""Nor sooner than so long after the last one, unless what is spent is off by more than `OFF`."""

OFF: Final = 2.0

RETURN: Final = 30.0
"""Were traffic to return to what it was at its height within a day, it would be reviewed at most so many times as much
as the budget until the next look: a quiet night must not put every call of the morning's first seconds before people.
"""

Shares = ReviewShares


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of a route's budget from before: the shares of the last policy, and what they rested on."""

    shares: Shares
    per_hour: float | None = None
    rates: Floats | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Start | None:
        """From a kept policy; None where it is of another form, as an older version may have kept it."""
        try:
            rates = np.asarray(kept["rates"], dtype=np.float64)
            shares = Shares(**{name: float(kept["shares"][name]) for name in Shares._fields})
            per_hour = float(kept["per_hour"])
        except (KeyError, TypeError, ValueError):
            return None
        good = rates.shape == CELLS and bool(np.all(np.isfinite(rates) & (rates >= 0)))
        if not good or not per_hour > 0 or not all(0.0 <= share <= 1.0 for share in shares):
            return None
        return cls(shares, per_hour, rates)


@dataclass(frozen=True, slots=True)
class Load:
    """What a route's shares come to. `everything`: all that comes is reviewed, and no share can be raised."""

    per_hour: float
    expected_per_hour: float
    predictions_per_hour: float
    everything: bool
    shares: Shares


@dataclass(slots=True)
class _Route:
    per_hour: float
    shares: Shares
    traffic: Traffic
    objective: Objective
    labels: Floats = field(default_factory=lambda: NO_LABELS)
    positive: Floats = field(default_factory=lambda: NO_LABELS)

    @property
    def everything(self) -> bool:
        rates = self.traffic.rates.sum(axis=1)
        of = self.shares._asdict()
        return self.traffic.known and all(of[one.text] >= 1.0 for one in Stratum if rates[one] > 0)

    def fresh(self) -> Shares:
        if not self.traffic.known:
            return self.shares  # a route without traffic teaches nothing
        budget = self.per_hour / 3600 * self.traffic.correction
        shares = divide(budget, self.traffic.rates, self.labels, self.positive, self.objective)
        comes = expected(shares, self.traffic.peak)
        times = min(1.0, RETURN * budget / comes) if comes > 0 else 1.0
        return Shares(*(share * times for share in shares))

    def off(self) -> bool:
        """Whether the shares in force spend much more or much less than the budget."""
        wanted, comes = self.per_hour / 3600, expected(self.shares, self.traffic.rates)
        return comes > OFF * wanted or (comes * OFF < wanted and not self.everything)


class ReviewBudget:
    """Watches traffic and says which shares keep each route's budget. Thread-safe.

    Args:
        per_hour: reviews an hour, by route.
        start: what is known from before, by route, such as from the last policy; else `FIRST_SHARES`.
        clock: seconds, monotonic.
        factors: by route, what the settings multiply the shares of a segment by: such predictions weigh as much more.
        objectives: by route, what is to be known first; both where absent.
    """

    def __init__(
        self,
        per_hour: Mapping[str, float],
        start: Mapping[str, Start],
        clock: Callable[[], float],
        factors: Mapping[str, Mapping[str, float]] | None = None,
        objectives: Mapping[str, Objective] | None = None,
    ) -> None:
        self._factors = {route: dict(of) for route, of in (factors or {}).items() if of}
        wanted = objectives or {}
        self._routes = {
            route: _begin(rate, start.get(route), wanted.get(route, "both"))
            for route, rate in per_hour.items()
        }
        self._clock = clock
        self._since = clock()
        self._changed: float | None = None
        self._lock = threading.Lock()

    @property
    def shares(self) -> dict[str, Shares]:
        """The shares now in force."""
        with self._lock:
            return {name: route.shares for name, route in self._routes.items()}

    def kept(self) -> dict[str, dict[str, Any]]:
        """What a restart needs to know, as it is kept with a policy; `Start.of` reads it."""
        with self._lock:
            return {
                name: {
                    "per_hour": route.per_hour,
                    "objective": route.objective,
                    "shares": route.shares._asdict(),
                    "rates": [[float(f"{rate:.3g}") for rate in row] for row in route.traffic.rates.tolist()],
                    "everything": route.everything,
                }
                for name, route in self._routes.items()
            }

    def starts(self) -> dict[str, Start]:
        """What the budget of changed settings goes on from."""
        with self._lock:
            return {
                name: Start(
                    route.shares, route.per_hour, route.traffic.rates if route.traffic.known else None
                )
                for name, route in self._routes.items()
            }

    def loads(self) -> dict[str, Load]:
        """What the shares come to, by route."""
        with self._lock:
            return {
                name: Load(
                    route.per_hour,
                    3600 * route.traffic.spent,
                    3600 * float(route.traffic.rates.sum()),
                    route.everything,
                    route.shares,
                )
                for name, route in self._routes.items()
            }

    def learn(self, labels: StratumLabels) -> None:
        """Take the labels so far: rates of positives are guessed from them at the next revision."""
        with self._lock:
            for name, route in self._routes.items():
                route.labels, route.positive = labels_by_cell(labels, name)

    def consume(self, batch: Batch) -> None:
        """Counts a batch of the data plane; called for every one."""
        self.take(count_batch(batch, self._routes, self._factors))

    def take(self, counted: Mapping[str, Counted]) -> None:
        """Adds what was counted of some routes, here or by others."""
        with self._lock:
            for name, of in counted.items():
                route = self._routes.get(name)
                if route is not None:
                    route.traffic.add(of.came)
                    route.traffic.spend(of.spent)

    def revise(self) -> dict[str, Shares] | None:
        """Shares for the next policy, or None while those in force still serve."""
        with self._lock:
            now = self._clock()
            elapsed = now - self._since
            if elapsed < LEAST_SECONDS:
                return None
            self._since = now
            for route in self._routes.values():
                route.traffic.settle(elapsed, route.per_hour / 3600, everything=route.everything)
            fresh = {name: route.fresh() for name, route in self._routes.items()}
            moved = [name for name, route in self._routes.items() if _differs(route.shares, fresh[name])]
            rested = self._changed is None or now - self._changed >= REST_S
            if not any(rested or self._routes[name].off() for name in moved):
                return None
            self._changed = now
            for name, route in self._routes.items():
                route.shares = fresh[name]
            return fresh


def _begin(per_hour: float, start: Start | None, objective: Objective) -> _Route:
    if start is None:
        return _Route(per_hour, FIRST_SHARES, Traffic(), objective)
    # Another budget than before: as many times the shares, until the first look.
    times = 1.0 if start.per_hour is None else per_hour / start.per_hour
    shares = Shares(*(min(1.0, share * times) for share in start.shares))
    return _Route(per_hour, shares, Traffic(start.rates), objective)


def _differs(old: Shares, new: Shares) -> bool:
    return any(abs(a - b) > LEAST_CHANGE * max(a, 1e-9) for a, b in zip(old, new, strict=True))
