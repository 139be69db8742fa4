"""Review budgets as the serving process holds them: what they begin with, what is learnt, and what is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.autopilot import ReviewBudget, Start
from gateway.config import Settings
from gateway.errors import LedgerUnavailable
from gateway.ledger import Reader
from gateway.ledger.review_budget import kept_budgets, stratum_labels, workloads
from gateway.quality import Objective
from gateway.quality.workload import STATES, Workload
from gateway.telemetry import Point
from gateway.types import Stratum

__all__ = [
    "LEARN_S",
    "BudgetWatch",
    "kept_starts",
    "make_budget",
    "objectives_of",
    "share_factors",
    "wanted_per_hour",
]

log = logging.getLogger(__name__)

LEARN_S: Final = 60.0
"""How often labels are counted again: people are slower than that."""


def wanted_per_hour(settings: Settings) -> dict[str, float]:
    """By route whose settings say so, how many reviews an hour there may be."""
    return {
        name: route.review.wanted_per_hour
        for name, route in settings.routes.items()
        if route.review is not None and route.review.wanted_per_hour is not None
    }


def share_factors(settings: Settings) -> dict[str, dict[str, float]]:
    """By route that has any, what the shares of its segments are multiplied by."""
    return {
        name: dict(route.review.segments)
        for name, route in settings.routes.items()
        if route.review is not None and route.review.segments
    }


def objectives_of(settings: Settings) -> dict[str, Objective]:
    """By route whose settings say so, what is to be known first."""
    return {name: route.objective.first for name, route in settings.routes.items() if route.objective}


def make_budget(
    settings: Settings, start: Mapping[str, Start], clock: Callable[[], float] = time.monotonic
) -> ReviewBudget:
    """The budget of every route whose settings say how many reviews an hour there may be."""
    return ReviewBudget(
        wanted_per_hour(settings), start, clock, share_factors(settings), objectives_of(settings)
    )


def kept_starts(reader: Reader) -> dict[str, Start]:
    """What the last policy's budgets were divided by; without a readable one they begin anew."""
    try:
        kept = kept_budgets(reader)
    except LedgerUnavailable as error:
        log.warning("review budgets begin anew: %s", error)
        return {}
    found = {route: Start.of(of) for route, of in kept.items()}
    return {route: start for route, start in found.items() if start is not None}


class BudgetWatch:
    """Brings labels to the budget, and tells of people who do fewer or more than it.

    Args: the ledger's reader; the budget now in force.
    """

    def __init__(self, reader: Reader, budget: Callable[[], ReviewBudget]) -> None:
        self._reader = reader
        self._budget = budget
        self._workloads: dict[str, Workload] = {}

    def look(self) -> None:
        """Read the ledger now; blocks. Raises: LedgerUnavailable."""
        self._budget().learn(stratum_labels(self._reader))
        now = workloads(self._reader, time.time_ns() // 1000)
        for route, load in now.items():
            before = self._workloads.get(route)
            if before is None or before.state != load.state:
                amiss = load.state in ("overload", "underload", "starved")
                level = logging.WARNING if amiss else logging.INFO if before else logging.DEBUG
                log.log(level, "review budget of %s: %s", route, load.words, extra={"state": load.state})
        self._workloads = now

    async def run(self) -> None:
        """Look until cancelled; a ledger that cannot be read leaves what was known."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except LedgerUnavailable as error:
                log.warning("review budgets learn nothing now: %s", error)
            await asyncio.sleep(LEARN_S)

    def points(self) -> Iterable[Point]:
        """The shares in force, what they come to an hour, and how people keep up."""
        for route, load in self._budget().loads().items():
            for stratum in Stratum:
                share = getattr(load.shares, stratum.text)
                yield Point("gateway.review.share", share, {"route": route, "stratum": stratum.text})
            told = {"wanted": load.per_hour, "expected": load.expected_per_hour}
            people = self._workloads.get(route)
            if people is not None:
                told |= {"made": people.made_per_hour, "done": people.done_per_hour}
                for state in STATES:
                    at = {"route": route, "state": state}
                    yield Point("gateway.review.workload", int(people.state == state), at)
            for what, per_hour in told.items():
                yield Point("gateway.review.budget", per_hour, {"route": route, "what": what})
