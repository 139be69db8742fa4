"""Numbers that the ledger keeps, as points for the metrics.

They are read in the background and served from memory, so that a scrape costs nothing and a slow ledger delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from gateway.config import Settings
from gateway.errors import LedgerUnavailable
from gateway.ledger import Ledger, Window
from gateway.ledger.confusion import Confusion
from gateway.ledger.quality import RouteQuality, route_qualities
from gateway.quality import Estimate
from gateway.services import People
from gateway.telemetry import EventOptions, Point
from gateway.telemetry.registry import Source

__all__ = ["LedgerSource", "event_options", "people_source"]

log = logging.getLogger(__name__)

REFRESH_S: Final = 15.0
"""How old these numbers may be; a scrape comes about as often."""

QUALITY_HOURS: Final = 168
"""Precision and recall as metrics look back one week, so that weekdays do not make them swing."""

HOUR_US: Final = 3_600_000_000

SINCE_EVER_NS: Final = 1
"""These counters live in the ledger, so for a receiver they have always been counting."""


def people_source(people: People) -> Source:
    """Calls that wait for people, what became of others, and answers that came too late."""

    def points() -> Iterable[Point]:
        for one in people.counts():
            at = {"backend": one.backend}
            yield Point("gateway.people.waiting", one.waiting, at)
            yield Point("gateway.people.age", one.age_s, at)
            yield Point("gateway.people.late", one.late, at)
            for result, count in one.results.items():
                yield Point("gateway.people.calls", count, {**at, "result": result})

    return points


def event_options(settings: Settings) -> EventOptions | None:
    """Where captured payloads go as CloudEvents; None where the settings name nobody."""
    events = settings.telemetry.events
    if events is None:
        return None
    fields = events.model_dump(exclude={"token"})
    return EventOptions(token=None if events.token is None else events.token.get_secret_value(), **fields)


class LedgerSource:
    """Polls the ledger; `points` gives what was found last."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._confusion = Confusion()
        self._qualities: dict[str, RouteQuality] = {}
        self._points: tuple[Point, ...] = ()

    def points(self) -> Iterable[Point]:
        """The last numbers, and the ledger's own counters as they are now."""
        for name, value in self._ledger.counters().items():
            head, _, rest = name.partition(".")
            if head == "dropped":
                what, _, reason = rest.partition(".")
                yield Point("gateway.dropped", value, {"what": what, "reason": f"ledger_{reason}"})
            elif head == "deleted":
                what, _, reason = rest.partition(".")
                yield Point("gateway.deleted", value, {"what": what, "reason": reason})
        yield from self._points

    def refresh(self) -> None:
        """Read the ledger now; blocks.

        Raises: LedgerUnavailable when it cannot be read.
        """
        self._confusion.read(self._ledger.reader)
        total = sum(self._confusion.labels.values())
        # Without a label there is nothing to estimate, and nothing to load the statistics for.
        if total:
            since_us = time.time_ns() // 1000 - QUALITY_HOURS * HOUR_US
            self._qualities = route_qualities(self._ledger.reader, Window(since_us=since_us))
        self._points = tuple(self._gather())

    async def refresh_forever(self) -> None:
        """Refresh until cancelled; a ledger that cannot be read leaves the last numbers standing."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except LedgerUnavailable as error:
                log.warning("quality metrics are not fresh: %s", error)
            await asyncio.sleep(REFRESH_S)

    def _gather(self) -> Iterable[Point]:
        now_us = time.time_ns() // 1000
        for queue in self._ledger.review_stats():
            at = {"queue": queue.queue}
            yield Point("gateway.review.open", queue.open_tasks, at)
            age_s = 0.0 if queue.oldest_us is None else max(0.0, (now_us - queue.oldest_us) / 1e6)
            yield Point("gateway.review.age", age_s, at)
            for state in ("done", "leased", "disputed", "skipped", "aside", "overdue"):
                yield Point("gateway.review.tasks", getattr(queue, state), {**at, "state": state})
        for labels, count in self._confusion.labels.items():
            at = {
                "source": labels.source,
                "kind": labels.kind,
                "route": labels.route,
                "status": labels.status,
            }
            yield Point("gateway.labels", count, at, SINCE_EVER_NS)
        for cell, count in self._confusion.counts.items():
            at = {"route": cell.route, "segment": cell.segment, "cell": cell.cell}
            yield Point("gateway.confusion", count, {**at, "weighted": False}, SINCE_EVER_NS)
            weight = self._confusion.weighted[cell]
            yield Point("gateway.confusion", weight, {**at, "weighted": True}, SINCE_EVER_NS)
        for route, quality in self._qualities.items():
            yield from _bounds("gateway.precision", route, quality.numbers.precision)
            yield from _bounds("gateway.recall", route, quality.numbers.recall)


def _bounds(name: str, route: str, estimate: Estimate) -> Iterable[Point]:
    """An estimate that cannot be had gives no point: a gap is honest, a zero would not be."""
    for bound, value in (("low", estimate.low), ("value", estimate.value), ("high", estimate.high)):
        if value is not None:
            yield Point(name, value, {"route": route, "segment": "", "bound": bound})
