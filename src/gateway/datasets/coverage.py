"""What a data set is a part of: predictions made, drawn for review, and reviewed; from the same state of the ledger."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.datasets.source import says_something
from gateway.ledger import REVIEW, Window, schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import superseded
from gateway.ledger.rolling import cover
from gateway.types import Outcome, Stratum

__all__ = ["coverage"]


def coverage(connection: sa.Connection, window: Window) -> dict[str, dict[str, Any]]:
    """By route, in the order of names.

    `predictions`: all that were made (those of the holdout among them); `by_outcome` of them; `labelled`: with a label
    of whatever source. `review`: by stratum how many were `sampled`, with which `mean_probability`, and how many of
    these have a reviewer's answer (`reviewed`).
    """
    made: dict[str, dict[str, Any]] = {}

    def of(route: str) -> dict[str, Any]:
        return made.setdefault(route, {"predictions": 0, "by_outcome": {}, "labelled": 0, "review": {}})

    decision, label = schema.decisions, schema.labels
    where = () if window.route is None else (("route", window.route),)
    tally = cover(connection, schema.tally_scores, ("route", "outcome", "rows"), *window.hours, *where)
    query = sa.select(tally.c.route, tally.c.outcome, sa.func.sum(tally.c.rows))
    for route, outcome, rows in connection.execute(query.group_by(tally.c.route, tally.c.outcome)):
        if rows > 0 and route:
            of(route)["predictions"] += int(rows)
            of(route)["by_outcome"][Outcome(outcome).text] = int(rows)
    holds = (label.c.kind == "label", ~superseded(label), says_something(label))
    one_each = (
        sa.select(label.c.route, label.c.decision, label.c.row)
        .where(*holds, *_during(label, window))
        .distinct()
        .subquery()
    )
    labelled = sa.select(one_each.c.route, sa.func.count()).group_by(one_each.c.route)
    for route, rows in connection.execute(labelled):
        of(route)["labelled"] = int(rows)
    answered = sa.exists().where(
        label.c.decision == decision.c.decision,
        label.c.row == decision.c.row,
        label.c.source == REVIEW,
        *holds,
    )
    drawn = (
        sa.select(
            decision.c.route,
            decision.c.stratum,
            sa.func.count(),
            sa.func.avg(decision.c.review_pi),
            sa.func.sum(sa.case((answered, 1), else_=0)),
        )
        .where(decision.c.sampled, *_during(decision, window))
        .group_by(decision.c.route, decision.c.stratum)
    )
    for route, stratum, sampled, mean, reviewed in connection.execute(drawn):
        of(route)["review"]["" if stratum is None else Stratum(stratum).text] = {
            "sampled": int(sampled),
            "mean_probability": float(mean),
            "reviewed": int(reviewed),
        }
    return dict(sorted(made.items()))


def _during(table: sa.Table, window: Window) -> list[sa.ColumnElement[bool]]:
    since, until = window.hours
    clauses: list[sa.ColumnElement[bool]] = []
    clauses += [] if since is None else [table.c.time_us >= since * HOUR_US]
    clauses += [] if until is None else [table.c.time_us < until * HOUR_US]
    return clauses + ([] if window.route is None else [table.c.route == window.route])
