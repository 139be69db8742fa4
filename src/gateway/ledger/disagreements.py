"""How often reviewers of the same prediction contradict each other, by route: how far labels can be trusted."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader, Window
from gateway.quality import Disagreement

__all__ = ["disagreements"]

MOST: Final = 2_000
"""Labels of several answers that are looked at, of all routes: the share is then known to a point."""

_AT_ONCE: Final = 500

_COMPARED: Final = sa.text("done_us IS NOT NULL AND review_tasks.reviews > 1 AND gold IS NULL")
"""As the index has it."""


def disagreements(reader: Reader, window: Window) -> dict[str, Disagreement]:
    """By route, pairs of answers to the window's tasks that several reviewers answered; routes without one are absent.

    A label says what `agreement` of its answers say, so that of k such answers of m, k (m - k) pairs contradict each
    other. Labels are taken for one answer's each: that of a majority is right more often.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    label, task = schema.labels, schema.review_tasks
    # Tasks first, along their index: there are few, and joined, a planner may begin at a million labels.
    compared = sa.select(task.c.decision, task.c.row).where(_COMPARED).limit(MOST)
    since, until = window.hours
    if since is not None:
        compared = compared.where(task.c.created_us >= since * HOUR_US)
    if until is not None:
        compared = compared.where(task.c.created_us < until * HOUR_US)
    said = sa.select(label.c.decision, label.c.row, label.c.route, label.c.agreement, label.c.reviews).where(
        label.c.source == REVIEW,
        label.c.kind == "label",
        label.c.agreement.is_not(None),
        label.c.reviews > 1,
        ~superseded(label),
    )
    if window.route is not None:
        said = said.where(label.c.route == window.route)

    def read(connection: sa.Connection) -> list[Any]:
        keys = {(bytes(decision), row) for decision, row in connection.execute(compared)}
        ids, found = sorted({decision for decision, _ in keys}), []
        for start in range(0, len(ids), _AT_ONCE):
            some = said.where(label.c.decision.in_(ids[start : start + _AT_ONCE]))
            found += [row[2:] for row in connection.execute(some) if (bytes(row[0]), row[1]) in keys]
        return found

    pairs: defaultdict[str, int] = defaultdict(int)
    apart: defaultdict[str, int] = defaultdict(int)
    for route, agreement, answers in reader.snapshot(read):
        agreed = round(agreement * answers)
        pairs[route] += answers * (answers - 1) // 2
        apart[route] += agreed * (answers - agreed)
    return {route: Disagreement(count, min(apart[route], count)) for route, count in pairs.items()}
