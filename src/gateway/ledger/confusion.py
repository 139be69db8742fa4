"""Labels counted as they come: additive cells, so that a fleet's precision is a ratio of sums.

A counter must not read the whole ledger each time it is asked. This one remembers the last label that it counted and
reads only what came after it; a correction takes back what the label before it had added.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.labels import REVIEW
from gateway.ledger.reading import Reader
from gateway.types import UNPREDICTED

__all__ = ["Cell", "Confusion", "LabelCount"]

CELLS: Final = {(True, True): "tp", (True, False): "fp", (False, True): "fn", (False, False): "tn"}
"""By (flagged, positive)."""

_Row = sa.Row[Any]

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
    """Running totals over every label of a ledger.

    `counts` and `weighted` (by one over the inclusion probability) hold review labels only, since nobody knows with
    what probability feedback is given; holdout units and calls that people answered, which
    no model judged, are left out. `labels` counts all.
    """

    counts: dict[Cell, int] = field(default_factory=lambda: defaultdict(int))
    weighted: dict[Cell, float] = field(default_factory=lambda: defaultdict(float))
    labels: dict[LabelCount, int] = field(default_factory=lambda: defaultdict(int))
    _last: int = 0

    def read(self, reader: Reader) -> None:
        """Add what came since the last time.

        Raises: LedgerUnavailable when the ledger cannot be read now; nothing was added then.
        """
        found, corrected, last = reader.snapshot(self._news)
        for row in found:
            self._count_label(LabelCount(row.route, row.source, row.kind, row.status), int(row.n))
            self._add(row, 1)
        for row in corrected:
            self._add(row, -1)
        self._last = last

    def _news(self, connection: sa.Connection) -> tuple[list[_Row], list[_Row], int]:
        new, old = schema.labels, schema.labels.alias("old")
        last = connection.execute(sa.select(sa.func.max(new.c.id))).scalar() or 0
        fresh = sa.and_(new.c.id > self._last, new.c.id <= last)
        same = sa.and_(
            old.c.decision == new.c.decision,
            old.c.row == new.c.row,
            old.c.source == new.c.source,
            old.c.kind == new.c.kind,
            old.c.name == new.c.name,
            old.c.revision == new.c.revision - 1,
        )
        found = connection.execute(_summed(new).where(fresh)).all()
        corrected = connection.execute(_summed(old).select_from(new.join(old, same)).where(fresh)).all()
        return list(found), list(corrected), last

    def _count_label(self, key: LabelCount, count: int) -> None:
        if key in self.labels or len(self.labels) < SERIES_LIMIT:
            self.labels[key] += count

    def _add(self, row: _Row, sign: int) -> None:
        countable = row.source == REVIEW and row.kind == "label" and row.sampled and row.weight
        if not countable or row.flagged is None or row.positive is None or row.outcome in UNPREDICTED:
            return
        cell = Cell(row.route, row.segment, CELLS[bool(row.flagged), bool(row.positive)])
        if cell in self.counts or len(self.counts) < SERIES_LIMIT:
            self.counts[cell] += sign * int(row.n)
            self.weighted[cell] += sign * float(row.weight)


def _summed(labels: sa.FromClause) -> sa.Select[Any]:
    column = labels.c
    keys = [
        column.route,
        column.segment,
        column.source,
        column.kind,
        column.flagged,
        column.positive,
        column.sampled,
        column.outcome,
        sa.case((column.revision == 1, "accepted"), else_="corrected").label("status"),
    ]
    weight = sa.func.sum(1.0 / sa.func.nullif(column.review_pi, 0.0)).label("weight")
    return sa.select(*keys, sa.func.count().label("n"), weight).group_by(*keys)
