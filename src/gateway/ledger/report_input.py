"""What the numbers of a report are made from, added up by the database.

`Reader.labelled` gives every label as a row, for methods that need each one; a report needs only how many
there are of each kind, and a million rows would take Python seconds to carry. So these queries group first:
what comes back grows with the number of score bins and probabilities, not with the labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US, NO_SCORE, SCORE_BINS
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader, Window
from gateway.types import UNPREDICTED

__all__ = ["LabelCounts", "ReviewProgress", "label_counts", "review_progress"]

Text = NDArray[np.str_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Labels by what they say about what; columns of shape (n,).

    One row per distinct key, of the last revision of each label. Keys as in `gateway.ledger.reading.Labelled`, with
    the score as its bin (-1 without one). `count`: labels.
    """

    route: Text
    source: Text
    flagged: Ints
    score_bin: Ints
    pi: Floats
    positive: NDArray[np.bool_]
    count: Ints


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How far people are with one route's sample.

    `sampled`: predictions chosen for review; `done` and `open` of them. `oldest_open_us`: when the oldest
    open task was made, microseconds since 1970; None when none is open.
    """

    sampled: int
    done: int
    open: int
    oldest_open_us: int | None


def label_counts(reader: Reader, window: Window) -> LabelCounts:
    """Count the window's labels; those of the holdout and of calls that people answered are left out, as no model made
    those predictions.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    label = schema.labels
    flagged = sa.case((label.c.flagged.is_(None), -1), (label.c.flagged, 1), else_=0)
    # round(x - 0.5) is floor(x) wherever it matters, and every database has round().
    score_bin = sa.cast(sa.func.round(label.c.score * SCORE_BINS - 0.5), sa.Integer)
    keys = [label.c.route, label.c.source, flagged, score_bin, label.c.review_pi, label.c.positive]
    query = (
        sa.select(*keys, sa.func.count())
        .where(
            label.c.kind == "label",
            label.c.positive.is_not(None),
            label.c.outcome.not_in([int(outcome) for outcome in UNPREDICTED]),
            # A review of what was not sampled has no probability that it could be weighted by.
            sa.or_(label.c.source != REVIEW, label.c.sampled),
            ~superseded(label),
            *_during(label.c.time_us, label.c.route, window),
        )
        .group_by(*keys)
    )
    rows = reader._rows(query)
    bins = [NO_SCORE if row[3] is None else min(max(int(row[3]), 0), SCORE_BINS - 1) for row in rows]
    return LabelCounts(
        route=np.array([row[0] for row in rows], dtype=np.str_),
        source=np.array([row[1] for row in rows], dtype=np.str_),
        flagged=np.array([row[2] for row in rows], dtype=np.int64),
        score_bin=np.array(bins, dtype=np.int64),
        pi=np.array([row[4] for row in rows], dtype=np.float64),
        positive=np.array([row[5] for row in rows], dtype=np.bool_),
        count=np.array([row[6] for row in rows], dtype=np.int64),
    )


def review_progress(reader: Reader, window: Window) -> dict[str, ReviewProgress]:
    """By route, how many of the window's sampled predictions people have answered.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    decision, task = schema.decisions, schema.review_tasks
    still_open = sa.and_(task.c.id.is_not(None), task.c.done_us.is_(None))
    query = (
        sa.select(
            decision.c.route,
            sa.func.count(),
            sa.func.count(task.c.done_us),
            sa.func.sum(sa.case((still_open, 1), else_=0)),
            sa.func.min(sa.case((still_open, task.c.created_us))),
        )
        .select_from(
            decision.outerjoin(
                task, sa.and_(task.c.decision == decision.c.decision, task.c.row == decision.c.row)
            )
        )
        .where(decision.c.sampled, *_during(decision.c.time_us, decision.c.route, window))
        .group_by(decision.c.route)
    )
    return {
        row[0]: ReviewProgress(int(row[1]), int(row[2]), int(row[3]), row[4]) for row in reader._rows(query)
    }


def _during(time_us: sa.Column[int], route: sa.Column[str], window: Window) -> list[sa.ColumnElement[bool]]:
    """A window by a column of microseconds, at the same whole hours as the tallies."""
    since, until = window.hours
    clauses: list[sa.ColumnElement[bool]] = []
    if since is not None:
        clauses.append(time_us >= since * HOUR_US)
    if until is not None:
        clauses.append(time_us < until * HOUR_US)
    if window.route is not None:
        clauses.append(route == window.route)
    return clauses
