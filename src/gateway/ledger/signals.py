"""Signals and outcomes as a report shows them: how many, how much, and how long they took, by source.

Added up by the database. The delay is when it happened, or else when it came, less the prediction's time; it is grouped
by whole seconds under an hour, whole minutes under a day and whole hours beyond, so that what comes back stays small
and a median is right to one of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import superseded
from gateway.ledger.reading import Reader, Window

__all__ = ["MOST_NAMES", "SignalSummary", "signal_summaries"]

_NO_LABEL: Final = sa.text("labels.kind <> 'label'")
"""Word for word as the index has it: SQLite takes no parameter for it."""

MOST_NAMES: Final = 100
"""Signals of one route that a report names, most frequent first; whoever gives feedback chooses their names."""


@dataclass(frozen=True, slots=True)
class SignalSummary:
    """Signals of one name, or outcomes (`name` is empty), from one source about one route.

    `mean`: of their values. `median_delay_s`: after the prediction.
    """

    route: str
    source: str
    name: str
    count: int
    mean: float
    median_delay_s: float

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "median_delay_s": self.median_delay_s}


def signal_summaries(reader: Reader, window: Window) -> dict[str, tuple[SignalSummary, ...]]:
    """By route, the window's signals and outcomes: by source and name, at most `MOST_NAMES`.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    label = schema.labels
    seconds = (sa.func.coalesce(label.c.event_us, label.c.received_us) - label.c.time_us) // 1_000_000
    delay = sa.case(
        (seconds < 0, 0),  # clocks may differ by a little
        (seconds < 3_600, seconds),
        (seconds < 86_400, seconds // 60 * 60),
        else_=seconds // 3_600 * 3_600,
    ).label("delay")
    inner = (
        sa.select(label.c.route, label.c.source, label.c.name, delay, label.c.value)
        .where(_NO_LABEL, label.c.value.is_not(None), ~superseded(label), *_during(window))
        .subquery()
    )
    keys = (inner.c.route, inner.c.source, inner.c.name, inner.c.delay)
    query = sa.select(*keys, sa.func.count(), sa.func.sum(inner.c.value)).group_by(*keys).order_by(*keys)
    delays: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    sums: dict[tuple[str, str, str], float] = defaultdict(float)
    for route, source, name, after_s, count, total in reader.snapshot(
        lambda connection: connection.execute(query).all()
    ):
        delays[route, source, name].append((int(after_s), int(count)))
        sums[route, source, name] += float(total)
    found: dict[str, list[SignalSummary]] = defaultdict(list)
    for (route, source, name), parts in delays.items():
        count = sum(number for _, number in parts)
        mean = sums[route, source, name] / count
        found[route].append(SignalSummary(route, source, name, count, mean, _median(parts)))
    return {route: _most(rows) for route, rows in found.items()}


def _most(rows: list[SignalSummary]) -> tuple[SignalSummary, ...]:
    most = sorted(rows, key=lambda row: (-row.count, row.source, row.name))[:MOST_NAMES]
    return tuple(sorted(most, key=lambda row: (row.source, row.name)))


def _median(parts: list[tuple[int, int]]) -> float:
    """Of delays in rising order, with how often each is there."""
    count = sum(number for _, number in parts)
    middle, seen = [(count - 1) // 2, count // 2], 0
    values: list[int] = []
    for delay, number in parts:
        seen += number
        while len(values) < 2 and middle[len(values)] < seen:
            values.append(delay)
    return sum(values) / 2


def _during(window: Window) -> list[sa.ColumnElement[bool]]:
    """The window by the prediction's time, at whole hours, as all readers cut it."""
    label, (since, until) = schema.labels, window.hours
    clauses: list[sa.ColumnElement[bool]] = []
    if since is not None:
        clauses.append(label.c.time_us >= since * HOUR_US)
    if until is not None:
        clauses.append(label.c.time_us < until * HOUR_US)
    if window.route is not None:
        clauses.append(label.c.route == window.route)
    return clauses
