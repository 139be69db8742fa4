"""What the numbers of a report are made from, added up by the database.

`Reader.labelled` gives every label as a row, for methods that need each one; a report needs only how many
there are of each kind, so it reads tallies: what comes back grows with the number of score bins and probabilities, and
what is read with the hours and days of the window, not with the labels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import REVIEW
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

    `sampled`: predictions chosen for review; `done`: those of them with a reviewer's label; `open`: those with an
    open task. `oldest_open_us`: when the oldest open task was made, microseconds since 1970; None when none is open.
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
    keys = ("route", "source", "flagged", "score_bin", "review_pi", "positive", "sampled", "outcome")
    counts: Counter[tuple[Any, ...]] = Counter()
    for *key, positive, sampled, outcome, labels in reader.summed(schema.tally_labels, window, keys):
        # A review of what was not sampled has no probability that it could be weighted by.
        usable = sampled or key[1] != REVIEW
        if positive >= 0 and outcome not in UNPREDICTED and usable:
            counts[*key, positive] += int(labels)
    rows = [(*key, count) for key, count in counts.items() if count > 0]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    return LabelCounts(
        route=np.array(columns[0], dtype=np.str_),
        source=np.array(columns[1], dtype=np.str_),
        flagged=np.array(columns[2], dtype=np.int64),
        score_bin=np.array(columns[3], dtype=np.int64),
        pi=np.array(columns[4], dtype=np.float64),
        positive=np.array(columns[5], dtype=np.bool_),
        count=np.array(columns[6], dtype=np.int64),
    )


def review_progress(reader: Reader, window: Window) -> dict[str, ReviewProgress]:
    """By route, how many of the window's sampled predictions people have answered.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    sampled = {
        row[0]: int(row[1]) for row in reader.summed(schema.tally_scores, window, ("route",), ("sampled",))
    }
    done: Counter[str] = Counter()
    for route, source, chosen, labels in reader.summed(
        schema.tally_labels, window, ("route", "source", "sampled")
    ):
        done[route] += int(labels) if source == REVIEW and chosen else 0
    still_open = reader.snapshot(lambda connection: _open_tasks(connection, window))
    routes = {route for route, count in sampled.items() if count} | set(still_open) | set(+done)
    return {
        route: ReviewProgress(sampled.get(route, 0), done[route], *still_open.get(route, (0, None)))
        for route in routes
    }


def _open_tasks(connection: sa.Connection, window: Window) -> dict[str, tuple[int, int]]:
    """By route, how many tasks of the window's sampled predictions are open, and when the oldest was made.

    Queue by queue, along the index: tasks that are done stay in the table, and may be millions.
    """
    decision, task = schema.decisions, schema.review_tasks
    same = sa.and_(task.c.decision == decision.c.decision, task.c.row == decision.c.row)
    found: dict[str, tuple[int, int]] = {}
    first = sa.select(sa.func.min(task.c.queue)).where(task.c.done_us.is_(None))
    queue = connection.execute(first).scalar()
    while queue is not None:
        query = (
            sa.select(decision.c.route, sa.func.count(), sa.func.min(task.c.created_us))
            .select_from(task.join(decision, same))
            .where(
                task.c.queue == queue,
                task.c.done_us.is_(None),
                decision.c.sampled,
                *_during(decision.c.time_us, decision.c.route, window),
            )
            .group_by(decision.c.route)
        )
        for route, count, oldest_us in connection.execute(query):
            before = found.get(route, (0, oldest_us))
            found[route] = (before[0] + count, min(before[1], oldest_us))
        queue = connection.execute(first.where(task.c.queue > queue)).scalar()
    return found


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
