"""What gates are judged from: tallies of a window, and new labels in the order of their predictions.

Scores are read in `SCORE_STEP` bins at once: strata need no finer ones, and a window has a fiftieth of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import rolling, schema
from gateway.ledger.grid import NO_SCORE
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader
from gateway.types import UNPREDICTED

__all__ = [
    "Cells",
    "NewLabels",
    "changed_us",
    "gate_cells",
    "label_marks",
    "new_labels",
    "newest_label",
    "oldest_open_us",
]

SCORE_STEP: Final = 20
"""Of the 1,000 bins of the grid."""

Text = NDArray[np.str_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Predictions, or reviewed predictions, of a window by what estimates need; columns of shape (n,).

    Those that are flagged or not, and that a model made. `score`: in steps of the grid, NaN without one. `positive`:
    what the labels say; all False for predictions.
    """

    route: Text
    segment: Text
    flagged: NDArray[np.bool_]
    score: Floats
    pi: Floats
    positive: NDArray[np.bool_]
    count: Ints


@dataclass(frozen=True, slots=True, eq=False)
class NewLabels:
    """Reviewed predictions one by one, by the prediction's time; columns of shape (n,)."""

    time_us: Ints
    route: Text
    segment: Text
    flagged: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    pi: Floats


def gate_cells(
    reader: Reader, since_hour: int, until_hour: int, route: str | None = None
) -> tuple[Cells, Cells]:
    """Predictions and labels of whole hours, of one route or of all. Raises: LedgerUnavailable."""
    hours = since_hour, until_hour

    def read(connection: sa.Connection) -> tuple[Cells, Cells]:
        return (
            _cells(connection, schema.tally_scores, "rows", hours, route),
            _cells(connection, schema.tally_labels, "labels", hours, route, "positive"),
        )

    return reader.snapshot(read)


def _cells(
    connection: sa.Connection,
    tally: sa.Table,
    counted: str,
    hours: tuple[int, int],
    route: str | None,
    *more: str,
) -> Cells:
    labels = "positive" in more
    where = (() if route is None else (("route", route),)) + (
        (("source", REVIEW), ("sampled", 1)) if labels else ()
    )
    keys = ("route", "segment", "flagged", "score_bin", "review_pi", "outcome", *more)
    rows = rolling.cover(connection, tally, (*keys, counted), *hours, *where).c
    step = sa.case((rows.score_bin == NO_SCORE, NO_SCORE), else_=rows.score_bin // SCORE_STEP)
    grouped = [rows.route, rows.segment, rows.flagged, step, rows.review_pi, *(rows[name] for name in more)]
    total = sa.func.sum(rows[counted])
    query = (
        sa.select(*grouped, total)
        .where(rows.flagged >= 0, rows.outcome.not_in([int(one) for one in UNPREDICTED]))
        .where(*(rows[name] >= 0 for name in more))
        .group_by(*grouped)
        .having(total > 0)
    )
    found = connection.execute(query).all()
    columns = list(zip(*found, strict=True)) if found else [()] * (6 + len(more))
    score = np.array(columns[3], dtype=np.float64)
    return Cells(
        np.array(columns[0], dtype=np.str_),
        np.array(columns[1], dtype=np.str_),
        np.array(columns[2], dtype=np.bool_),
        np.where(score < 0, np.nan, score),
        np.array(columns[4], dtype=np.float64),
        np.array(columns[5], dtype=np.bool_) if labels else np.zeros(len(score), dtype=np.bool_),
        np.array(columns[-1], dtype=np.int64),
    )


def new_labels(reader: Reader, after_us: int, before_us: int) -> NewLabels:
    """Review labels of sampled predictions that were made between two times, neither included, oldest first.

    Each in its last revision. Raises: LedgerUnavailable.
    """
    label = schema.labels.c
    names = ("time_us", "route", "segment", "flagged", "positive", "review_pi")
    query = (
        sa.select(*(label[name] for name in names))
        .where(
            label.time_us > after_us,
            label.time_us < before_us,
            label.source == REVIEW,
            label.kind == "label",
            label.sampled,
            label.positive.is_not(None),
            label.flagged.is_not(None),
            label.review_pi > 0,
            label.outcome.not_in([int(one) for one in UNPREDICTED]),
            ~superseded(schema.labels),
        )
        .order_by(label.time_us, label.id)
    )
    found: Any = reader.snapshot(lambda connection: connection.execute(query).all())
    columns = list(zip(*found, strict=True)) if found else [()] * len(names)
    return NewLabels(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.str_),
        np.array(columns[2], dtype=np.str_),
        np.array(columns[3], dtype=np.bool_),
        np.array(columns[4], dtype=np.bool_),
        np.array(columns[5], dtype=np.float64),
    )


def newest_label(reader: Reader) -> int:
    """The place in the ledger of the newest label; 0 where there is none. Raises: LedgerUnavailable."""
    query = sa.select(sa.func.max(schema.labels.c.id))
    return int(reader.snapshot(lambda connection: connection.execute(query).scalar()) or 0)


def label_marks(reader: Reader, after: int) -> dict[str, int]:
    """By route, the newest label after that one, by its place in the ledger; routes without one are left out.

    Raises: LedgerUnavailable.
    """
    table = schema.labels
    query = (
        sa.select(table.c.route, sa.func.max(table.c.id)).where(table.c.id > after).group_by(table.c.route)
    )
    return dict(
        reader.snapshot(lambda connection: [(row[0], int(row[1])) for row in connection.execute(query)])
    )


def oldest_open_us(reader: Reader, since_us: int, changed: Mapping[str, int] = {}) -> dict[str, int]:
    """By route, when the oldest sampled prediction was made whose review task is open; of tasks made since then.

    Args:
        changed: by route, when it was changed: what was predicted before that does not matter any more.
    Raises: LedgerUnavailable.
    """

    def read(connection: sa.Connection) -> dict[str, int]:
        found = _oldest_open(connection, since_us)
        for route in [one for one, time_us in found.items() if time_us < changed.get(one, time_us)]:
            del found[route]
            found |= _oldest_open(connection, since_us, (route, changed[route]))
        return found

    return reader.snapshot(read)


def _oldest_open(
    connection: sa.Connection, since_us: int, of: tuple[str, int] | None = None
) -> dict[str, int]:
    """Queue by queue, along the index of open tasks: those that are done stay in the table, and may be millions."""
    task, decision = schema.review_tasks.c, schema.decisions.c
    only = () if of is None else (decision.route == of[0], decision.time_us >= of[1])
    same = sa.and_(task.decision == decision.decision, task.row == decision.row)
    first = sa.select(sa.func.min(task.queue)).where(task.done_us.is_(None))
    found: dict[str, int] = {}
    queue = connection.execute(first).scalar()
    while queue is not None:
        query = (
            sa.select(decision.route, sa.func.min(decision.time_us))
            .select_from(schema.review_tasks.join(schema.decisions, same))
            .where(
                task.queue == queue,
                task.done_us.is_(None),
                task.created_us >= since_us,
                task.gold.is_(None),
                decision.sampled,
                *only,
            )
            .group_by(decision.route)
        )
        for route, time_us in connection.execute(query):
            found[route] = min(found.get(route, int(time_us)), int(time_us))
        queue = connection.execute(first.where(task.queue > queue)).scalar()
    return found


def changed_us(reader: Reader, since_us: int) -> dict[str, int]:
    """By route, when it was last changed by an act, or an act undone, since then. Raises: LedgerUnavailable."""
    table = schema.acts
    query = (
        sa.select(table.c.route, sa.func.max(table.c.time_us))
        .where(table.c.time_us >= since_us, table.c.state.in_(("done", "undone")), table.c.after.is_not(None))
        .group_by(table.c.route)
    )
    return dict(
        reader.snapshot(lambda connection: [(row[0], int(row[1])) for row in connection.execute(query)])
    )
