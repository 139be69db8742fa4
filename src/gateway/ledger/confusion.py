"""Labels counted for metrics: additive cells, so that a fleet's precision is a ratio of sums.

A counter must not read millions of labels, neither each time it is asked nor when it starts. Cells are added up from
the tallies of labels, anew when a label has come; how many came is counted from the last one on, and at the start by
the tallies and by indexes of what is not in them: corrections and signals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import rolling, schema
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader
from gateway.types import UNPREDICTED

__all__ = ["Cell", "Confusion", "LabelCount"]

CELLS: Final = {(True, True): "tp", (True, False): "fp", (False, True): "fn", (False, False): "tn"}
"""By (flagged, positive)."""

SERIES_LIMIT: Final = 10_000
"""Distinct (route, segment, cell) and (route, source, kind) that are kept; the settings bound routes and segments."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a reviewed prediction falls."""

    route: str
    segment: str
    cell: str


@dataclass(frozen=True, slots=True)
class LabelCount:
    """Whose labels, of which kind, about which route; first ones (`accepted`) or corrections (`corrected`)."""

    route: str
    source: str
    kind: str
    status: str = "accepted"


@dataclass(slots=True)
class Confusion:
    """Totals over every label that a ledger holds.

    `counts` and `weighted` (by one over the inclusion probability) hold review labels only, since nobody knows with
    what probability feedback is given; holdout units and calls that people answered, which
    no model judged, are left out. `labels` counts all that came.
    """

    counts: dict[Cell, int] = field(default_factory=dict)
    weighted: dict[Cell, float] = field(default_factory=dict)
    labels: Counter[LabelCount] = field(default_factory=Counter)
    _last: int = 0

    def read(self, reader: Reader) -> None:
        """Add what came since the last time.

        Raises: LedgerUnavailable when the ledger cannot be read now; nothing was added then.
        """
        reader.snapshot(self._read)

    def _read(self, connection: sa.Connection) -> None:
        last = connection.execute(sa.select(sa.func.max(_label.c.id))).scalar() or 0
        if last == self._last:
            return
        cells = connection.execute(_cells(connection)).all()
        came = _came(connection, self._last, last) if self._last else _held(connection)
        self._last = last
        # What was shown once and is counted nowhere any more is none, and not unknown.
        self.counts, self.weighted = dict.fromkeys(self.counts, 0), dict.fromkeys(self.weighted, 0.0)
        for route, segment, flagged, positive, count, weight in cells:
            cell = Cell(route, segment, CELLS[flagged == 1, positive == 1])
            self.counts[cell], self.weighted[cell] = int(count), float(weight)
        for key, count in came.items():
            if key in self.labels or len(self.labels) < SERIES_LIMIT:
                self.labels[key] += count


_label = schema.labels
_tally = schema.tally_labels
_REVISED: Final = sa.text("labels.revision > 1")
_NO_LABEL: Final = sa.text("labels.kind <> 'label'")
"""Word for word as the indexes have it: SQLite takes no parameter for it."""


def _cells(connection: sa.Connection) -> sa.Select[Any]:
    """Review labels by route, segment, flag and truth: how many, and how many predictions they stand for."""
    wanted = ("route", "segment", "flagged", "positive", "outcome", "review_pi", "labels")
    of = rolling.cover(connection, _tally, wanted, None, None, ("source", REVIEW), ("sampled", 1)).c
    keys = (of.route, of.segment, of.flagged, of.positive)
    return (
        sa.select(*keys, sa.func.sum(of.labels), sa.func.sum(of.labels / of.review_pi))
        .where(of.flagged >= 0, of.positive >= 0, of.review_pi > 0.0, of.outcome.not_in(UNPREDICTED))
        .group_by(*keys)
        .order_by(*keys)
        .limit(SERIES_LIMIT)
    )


def _came(connection: sa.Connection, after: int, last: int) -> Counter[LabelCount]:
    """What was kept after one label up to another, one by one."""
    status = sa.case((_label.c.revision == 1, "accepted"), else_="corrected")
    keys = (_label.c.route, _label.c.source, _label.c.kind, status)
    query = sa.select(*keys, sa.func.count()).group_by(*keys)
    found = connection.execute(query.where(_label.c.id > after, _label.c.id <= last))
    return Counter({LabelCount(*key): count for *key, count in found})


def _held(connection: sa.Connection) -> Counter[LabelCount]:
    """What the ledger holds: first labels by their cells, all else by the indexes of it."""
    found: Counter[LabelCount] = Counter()
    of = rolling.cover(connection, _tally, ("route", "source", "labels"), None, None).c
    counted = sa.select(of.route, of.source, sa.func.sum(of.labels)).group_by(of.route, of.source)
    for route, source, count in connection.execute(counted):
        found[LabelCount(route, source, "label")] += int(count)
    keys = (_label.c.route, _label.c.source, _label.c.kind)
    says_nothing = sa.and_(_label.c.kind == "label", _label.c.label.is_(None), _label.c.positive.is_(None))
    revised = (
        sa.select(*keys, sa.and_(says_nothing, ~superseded(_label)).label("taken_back"), sa.func.count())
        .where(_REVISED)
        .group_by(*keys, "taken_back")
    )
    for route, source, kind, taken_back, count in connection.execute(revised):
        found[LabelCount(route, source, kind, "corrected")] += count
        if taken_back:  # it was said once, and is in no cell any more
            found[LabelCount(route, source, kind)] += count
    signals = sa.select(*keys, sa.func.count()).where(_NO_LABEL, _label.c.revision == 1).group_by(*keys)
    for route, source, kind, count in connection.execute(signals):
        found[LabelCount(route, source, kind)] += count
    return +found
