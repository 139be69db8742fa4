"""Review budgets of a fleet: every control counts what its sidecars bring, the leader adds all up and moves the shares.

No control sees more than the sidecars that push to it. So each keeps its sums since its start in the ledger, under a
name of its own, every few seconds; sums that only grow can be read at any time and by anybody. What came since the last
look is a difference, whichever control it came to. kill -9 of a control costs what it had counted since it last kept
its sums: that makes a rate a little too low for some minutes, and no record is lost by it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gateway.autopilot import ReviewBudget, Start
from gateway.autopilot.counting import Counted, count_batch
from gateway.cli.budgets import (
    LEARN_S,
    BudgetWatch,
    kept_starts,
    make_budget,
    objectives_of,
    share_factors,
    wanted_per_hour,
)
from gateway.errors import LedgerUnavailable, PolicyConflict, SettingsError
from gateway.ledger import Ledger
from gateway.ledger.review_budget import kept_budgets
from gateway.ledger.tallies import Batch
from gateway.services.policies import InForce, PolicyBook
from gateway.telemetry import Point

__all__ = ["KIND", "FleetBudget"]

log = logging.getLogger(__name__)

KIND: Final = "review_traffic"
"""Of the ledger's states: by (route, control), what came there."""

KEEP_S: Final = 2.0
"""How often a control keeps its sums, where they have grown."""

LOOK_S: Final = 10.0
"""How often the leader looks at the sums of all."""

ALIVE_US: Final = 3_600_000_000
"""Sums that do not grow are kept anew after so long, so that they are not taken for those of a control that is gone."""

GONE_US: Final = 24 * ALIVE_US
"""Sums that nobody has kept anew for so long are taken away."""


class FleetBudget:
    """One control's part in the budgets. `seen` and `takes_over` may be called from any thread.

    Args:
        book: keeps `kept` with its versions. published: called when there is a new version.
        clock_us: the time, microseconds since 1970. clock: seconds, monotonic.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: Callable[[], PolicyBook],
        published: Callable[[], None],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._book, self._published = ledger, book, published
        self._clock_us, self._clock = clock_us, clock
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._in_force: InForce | None = None
        self._routes: dict[str, float] = {}
        self._factors: dict[str, dict[str, float]] = {}
        self._counted: dict[str, Counted] = {}
        self._grown: set[str] = set()
        self._kept_us: dict[str, int] = {}
        self._budget = _nothing()
        self._before: dict[tuple[str, str], Counted] | None = None
        self._made_for: tuple[Any, ...] | None = None
        self._watch = BudgetWatch(ledger.reader, lambda: self._budget)
        self._learn_at = -LEARN_S
        self._leading = False

    def seen(self, batch: Batch) -> None:
        """Count a batch that is stored."""
        if not self._routes:
            return
        counted = count_batch(batch, self._routes, self._factors)
        with self._lock:
            for route, of in counted.items():
                self._counted.setdefault(route, Counted()).add(of)
                self._grown.add(route)

    def takes_over(self, found: InForce) -> None:
        """This policy is in force now."""
        self._in_force = found
        self._factors, self._routes = share_factors(found.settings), wanted_per_hour(found.settings)

    def leads(self, leads: bool) -> None:
        """Whether this control moves the shares."""
        if not leads and self._leading:
            self._budget, self._before, self._made_for = _nothing(), None, None
        self._leading = leads

    async def run(self) -> None:
        """Keep sums, and move the shares where this control leads, until cancelled."""
        look_at = time.monotonic() + LOOK_S
        while True:
            await asyncio.sleep(KEEP_S)
            look = time.monotonic() >= look_at
            if look:
                look_at = time.monotonic() + LOOK_S
            try:
                await asyncio.to_thread(self.keep)
                if look and self._leading and self._in_force is not None:
                    await asyncio.to_thread(self.look, self._in_force)
            except LedgerUnavailable as error:
                log.warning("review budgets wait for the ledger: %s", error)
            except Exception:
                log.exception("review shares were not looked at; tried again in %g s", LOOK_S)

    def keep(self) -> None:
        """Keep the sums that have grown; waits for the commit. Raises: LedgerUnavailable."""
        now_us = self._clock_us()
        with self._lock:
            due = {route for route, at in self._kept_us.items() if now_us - at >= ALIVE_US}
            wanted, self._grown = self._grown | due, set()
            values = {
                (route, self._name): {**self._counted[route].kept(), "at_us": now_us} for route in wanted
            }
        if not values:
            return
        try:
            self._ledger.put_states(KIND, values)
        except BaseException:
            with self._lock:
                self._grown |= wanted
            raise
        self._kept_us.update(dict.fromkeys(wanted, now_us))

    def look(self, found: InForce) -> None:
        """As the leader: count what came to all controls, and publish shares where others are due. Blocks.

        Raises: LedgerUnavailable.
        """
        due = self._make(found)
        self._count(self._ledger.states(KIND))
        if self._clock() >= self._learn_at:
            self._learn_at = self._clock() + LEARN_S
            self._watch.look()
        due |= self._budget.revise() is not None
        if due:
            self._publish(found)

    def kept(self) -> Mapping[str, Any]:
        """What is kept with each version made here: as the leader's budget stands, or as it was last kept.

        Raises: LedgerUnavailable.
        """
        if self._made_for is not None:
            return self._budget.kept()
        return {route: of for route, of in kept_budgets(self._ledger.reader).items() if route in self._routes}

    def points(self) -> Iterable[Point]:
        """As `gateway serve` tells of them, where this control leads: shares are the fleet's and are told once."""
        return self._watch.points()

    def _count(self, states: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        now_us = self._clock_us()
        gone: dict[tuple[str, str], None] = {}
        came: dict[str, Counted] = {}
        first, self._before = self._before is None, self._before or {}
        for (route, name), kept in states.items():
            counted = Counted.of(kept)
            if counted is None or now_us - int(kept.get("at_us", now_us)) > GONE_US:
                gone[route, name] = None
                continue
            if not first:  # whatever came before this control led was the affair of the leader before it
                came.setdefault(route, Counted()).add(counted.since(self._before.get((route, name))))
            self._before[route, name] = counted
        self._budget.take(came)
        if gone:
            self._ledger.put_states(KIND, gone)

    def _make(self, found: InForce) -> bool:
        """Have the budget of this policy. Returns: whether its shares are others than those in force."""
        of = found.settings
        made_for = (wanted_per_hour(of), share_factors(of), objectives_of(of))
        there = {route: found.shares.get(route) for route in made_for[0]}
        if made_for != self._made_for or there != self._budget.shares:
            kept, running = kept_starts(self._ledger.reader), self._budget.starts()
            starts = {
                **running,
                **{route: _with_rates(start, running.get(route)) for route, start in kept.items()},
            }
            self._budget, self._made_for = make_budget(found.settings, starts, self._clock), made_for
            self._learn_at = -LEARN_S
        return there != self._budget.shares

    def _publish(self, found: InForce) -> None:
        try:
            version = self._book().share(
                self._budget.shares, author="autopilot", reason="review budget", onto=found.version
            )
        except PolicyConflict as error:
            log.info("review shares not taken yet: %s", error)
        except SettingsError as error:
            for fault in error.faults:
                log.error("review shares not taken: %s", fault)
        else:
            log.info("review shares", extra={"policy": version, "routes": len(self._budget.shares)})
            self._published()


def _nothing() -> ReviewBudget:
    """The budget of no route."""
    return ReviewBudget({}, {}, time.monotonic)


def _with_rates(kept: Start, running: Start | None) -> Start:
    """The shares of the policy in force; rates as they are now, where they are known."""
    rates = kept.rates if running is None or running.rates is None else running.rates
    return Start(kept.shares, kept.per_hour, rates)
