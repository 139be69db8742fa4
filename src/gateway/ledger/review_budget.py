"""What a review budget is divided by: labels so far by stratum, what the last policy knew, and what people did.

All of it is bounded: the newest labels and tasks only, so that it costs the same when the ledger is old.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader, Window
from gateway.quality.workload import Workload, workload

__all__ = [
    "BUDGET_KEY",
    "NEWEST_LABELS",
    "NEWEST_TASKS",
    "StratumLabels",
    "first_hour",
    "kept_budgets",
    "last_policy",
    "stratum_labels",
    "workloads",
]

BUDGET_KEY: Final = "review_budget"
"""Of a kept policy: by route, what its budget was divided by. The data plane does not see it."""

NEWEST_LABELS: Final = 20_000
"""Labels that rates are guessed from; older ones speak of older models."""

NEWEST_TASKS: Final = 50_000
"""Tasks that are looked through for how much people do."""

LOOK_BACK_H: Final = 24
"""What people do is counted over a day, so that a night is in it."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StratumLabels:
    """Reviewed predictions by how they were sampled; columns of shape (n,), one row per distinct key.

    `stratum`: numbers of `gateway.types.Stratum`. `flagged`: 1, or 0 where it was not, or is neither. `labels`: of them
    `positive` say yes.
    """

    route: NDArray[np.str_]
    stratum: Ints
    flagged: Ints
    labels: Ints
    positive: Ints


def stratum_labels(reader: Reader, newest: int = NEWEST_LABELS) -> StratumLabels:
    """Count the newest reviews, each in its last revision. Raises: LedgerUnavailable."""
    label, decision = schema.labels, schema.decisions
    recent = (
        sa.select(label.c.decision, label.c.row, label.c.positive)
        .where(
            label.c.id > sa.select(sa.func.coalesce(sa.func.max(label.c.id), 0) - newest).scalar_subquery(),
            label.c.source == REVIEW,
            label.c.kind == "label",
            label.c.positive.is_not(None),
            label.c.sampled,
            ~superseded(label),
        )
        .subquery()
    )
    flagged = sa.case((decision.c.flagged, 1), else_=0)
    query = (
        sa.select(
            decision.c.route,
            decision.c.stratum,
            flagged,
            sa.func.count(),
            sa.func.sum(sa.case((recent.c.positive, 1), else_=0)),
        )
        .select_from(
            recent.join(
                decision, sa.and_(decision.c.decision == recent.c.decision, decision.c.row == recent.c.row)
            )
        )
        .where(decision.c.stratum.is_not(None))
        .group_by(decision.c.route, decision.c.stratum, flagged)
    )
    rows = reader.snapshot(lambda connection: connection.execute(query).all())
    return StratumLabels(
        np.array([row[0] for row in rows], dtype=np.str_),
        *(np.array([row[at] for row in rows], dtype=np.int64) for at in range(1, 5)),
    )


def last_policy(reader: Reader) -> dict[str, Any]:
    """The document of the newest policy; empty before there was one. Raises: LedgerUnavailable."""
    table = schema.policies
    newest = sa.select(table.c.document).order_by(table.c.version.desc()).limit(1)
    text = reader.snapshot(lambda connection: connection.execute(newest).scalar_one_or_none())
    return dict(json.loads(text)) if text else {}


def kept_budgets(reader: Reader) -> dict[str, Mapping[str, Any]]:
    """By route, what the last policy's budget was divided by; empty before there was one. Raises: LedgerUnavailable."""
    kept = last_policy(reader).get(BUDGET_KEY)
    return dict(kept) if isinstance(kept, dict) else {}


def first_hour(reader: Reader, window: Window) -> int | None:
    """The first hour of the window that has predictions, whole hours since 1970. Raises: LedgerUnavailable."""
    table = schema.tally_scores
    since, _ = window.hours
    query = sa.select(sa.func.min(table.c.hour)).where(table.c.hour >= (since or 0))
    first = reader.snapshot(lambda connection: connection.execute(query).scalar_one_or_none())
    return None if first is None else int(first)


def workloads(reader: Reader, now_us: int) -> dict[str, Workload]:
    """By route whose last policy has a budget: whether people keep up with it. Raises: LedgerUnavailable."""
    budgets = kept_budgets(reader)
    if not budgets:
        return {}
    task, decision = schema.review_tasks, schema.decisions
    since = now_us - LOOK_BACK_H * HOUR_US
    query = (
        sa.select(
            decision.c.route,
            sa.func.sum(sa.case((task.c.created_us >= since, 1), else_=0)),
            sa.func.sum(sa.case((task.c.done_us >= since, 1), else_=0)),
            sa.func.sum(sa.case((task.c.done_us.is_(None), 1), else_=0)),
            sa.func.min(task.c.created_us),
        )
        .select_from(
            task.join(decision, sa.and_(task.c.decision == decision.c.decision, task.c.row == decision.c.row))
        )
        .where(
            task.c.id
            > sa.select(sa.func.coalesce(sa.func.max(task.c.id), 0) - NEWEST_TASKS).scalar_subquery(),
            decision.c.sampled,
        )
        .group_by(decision.c.route)
    )
    rows = {row[0]: row for row in reader.snapshot(lambda connection: connection.execute(query).all())}
    found = {}
    for route, kept in budgets.items():
        _, made, done, still_open, first_us = rows.get(route, (route, 0, 0, 0, None))
        hours = 0.0 if first_us is None else min(LOOK_BACK_H, max(0.0, (now_us - int(first_us)) / HOUR_US))
        found[route] = workload(
            float(kept["per_hour"]),
            int(made),
            int(done),
            int(still_open),
            hours,
            everything=bool(kept.get("everything")),
        )
    return found
