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

_COMPARED: Final = sa.text("done_us IS NOT NULL AND review_tasks.reviews > 1 AND gold IS NULL")
"""As the index has it."""


def disagreements(reader: Reader, window: Window) -> dict[str, Disagreement]:
    """By route, pairs of answers to the window's tasks that several reviewers answered; routes without one are absent.

    A label says what `agreement` of its answers say, so that of k such answers of m, k (m - k) pairs contradict each
    other. Labels are taken for one answer's each: that of a majority is right more often.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    label, task = schema.labels, schema.review_tasks
    same = sa.and_(task.c.decision == label.c.decision, task.c.row == label.c.row)
    query = (
        sa.select(label.c.route, label.c.agreement, label.c.reviews)
        .select_from(task.join(label, same))
        .where(_COMPARED, label.c.source == REVIEW, label.c.kind == "label", ~superseded(label))
        .where(label.c.agreement.is_not(None), label.c.reviews > 1)
        .limit(MOST)
    )
    since, until = window.hours
    # Not by the labels' index of time: a month holds a million of them, and few tasks have several answers.
    made = label.c.time_us + 0
    if since is not None:
        query = query.where(made >= since * HOUR_US)
    if until is not None:
        query = query.where(made < until * HOUR_US)
    if window.route is not None:
        query = query.where(label.c.route == window.route)

    def read(connection: sa.Connection) -> list[Any]:
        return list(connection.execute(query))

    pairs: defaultdict[str, int] = defaultdict(int)
    apart: defaultdict[str, int] = defaultdict(int)
    for route, agreement, answers in reader.snapshot(read):
        agreed = round(agreement * answers)
        pairs[route] += answers * (answers - 1) // 2
        apart[route] += agreed * (answers - agreed)
    return {route: Disagreement(count, min(apart[route], count)) for route, count in pairs.items()}
