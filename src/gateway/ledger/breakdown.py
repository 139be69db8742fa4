"""A window's precision and recall by slices: each value of a segment, each backend, each policy version, each day.

One read of the tallies a kind of slice, and one call of `measure_groups` for all of them: a report of a thousand slices
costs what one of Monte Carlo does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import rolling, schema
from gateway.ledger.grid import NO_SCORE
from gateway.ledger.labels import REVIEW
from gateway.ledger.reading import Reader, Window
from gateway.quality import Estimate, Labels, Metric, Predictions, measure_groups
from gateway.types import UNPREDICTED

__all__ = ["KINDS", "MOST_SLICES", "Slice", "breakdowns"]

KINDS: Final = ("segment", "backend", "policy", "day")

MOST_SLICES: Final = 50
"""Of a kind and route: those with the most predictions, of days and policies the newest."""

SCORE_STEP: Final = 20
"""Of the 1,000 bins of the grid: strata need no finer ones."""

Ints = NDArray[np.int64]

_Read = tuple[Sequence[Any], Sequence[Any]]
"""Rows of predictions, and of labels."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a route. `name`: "device=phone", a backend, a policy version, or a day (UTC)."""

    name: str
    predictions: int
    precision: Estimate
    recall: Estimate

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        return {
            "predictions": self.predictions,
            "precision": self.precision.as_dict(),
            "recall": self.recall.as_dict(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Columns of shape (n,); `slice`: an index into the slices."""

    slice: Ints
    flagged: NDArray[np.bool_]
    score: NDArray[np.float64]
    pi: NDArray[np.float64]
    positive: NDArray[np.bool_]
    count: Ints


def breakdowns(reader: Reader, window: Window) -> dict[str, dict[str, tuple[Slice, ...]]]:
    """By route and kind; a kind with a single slice says nothing that the route does not, and is left out.

    Raises: LedgerUnavailable.
    """
    found: dict[str, dict[str, tuple[Slice, ...]]] = defaultdict(dict)
    read = reader.snapshot(lambda connection: _reads(connection, window))
    for kind, (rows, labels) in read.items():
        at = KINDS.index(kind)
        for (route, kind_of), slices in _measure(kind, _by(rows, at), _by(labels, at)).items():
            if len(slices) > 1:
                found[route][kind_of] = slices
    return dict(found)


def _reads(connection: sa.Connection, window: Window) -> dict[str, _Read]:
    """What each kind is made from: one read for all, as adding up the database's cells takes longest; two where only
    the window's last days are told one by one, for the others are then read in their long spans."""
    since, until = window.hours
    now = connection.execute(sa.select(sa.func.max(schema.tally_scores.c.hour))).scalar() or 0
    end = now + 1 if until is None else min(until, now + 1)
    first = (end - 24 * MOST_SLICES) // 24 * 24
    if since is not None and since >= first:
        return dict.fromkeys(KINDS, _read(connection, window, since, until, 24))
    longer = _read(connection, window, since, until, rolling.SPANS[0])
    return {**dict.fromkeys(KINDS, longer), "day": _read(connection, window, first, until, 24)}


def _read(
    connection: sa.Connection, window: Window, since: int | None, until: int | None, longest: int
) -> _Read:
    """Rows (segment, backend, policy, day, route, flagged, step, pi, positive of labels, how many)."""
    where = () if window.route is None else (("route", window.route),)
    both = []
    for tally, counted, more, only in (
        (schema.tally_scores, "rows", (), ()),
        (schema.tally_labels, "labels", ("positive",), (("source", REVIEW), ("sampled", 1))),
    ):
        kinds = ("segment", "backend", "policy")
        keys = [*kinds, "hour", "route", "flagged", "score_bin", "review_pi", "outcome", *more]
        rows = rolling.cover(
            connection, tally, (*keys, counted), since, until, *where, *only, longest=longest
        ).c
        step = sa.case((rows.score_bin == NO_SCORE, NO_SCORE), else_=rows.score_bin // SCORE_STEP)
        grouped = [
            *(rows[name] for name in kinds),
            (rows.hour // longest).label("day"),
            rows.route,
            rows.flagged,
            step.label("step"),
            rows.review_pi,
            *(rows[name] for name in more),
        ]
        total = sa.func.sum(rows[counted])
        query = (
            sa.select(*grouped, total)
            .where(rows.flagged >= 0, rows.outcome.not_in([int(one) for one in UNPREDICTED]))
            .where(*(rows[name] >= 0 for name in more))
            .group_by(*grouped)
            .having(total > 0)
        )
        both.append(connection.execute(query).all())
    return both[0], both[1]


def _by(rows: Sequence[Any], at: int) -> list[tuple[Any, ...]]:
    """Rows (route, slice, flagged, step, pi, ...) of one kind."""
    sums: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        sums[(row[4], row[at], *row[5:-1])] += int(row[-1])
    return [(*key, count) for key, count in sums.items()]


def _measure(
    kind: str, predicted: Sequence[Any], labelled: Sequence[Any]
) -> dict[tuple[str, str], tuple[Slice, ...]]:
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for route, key, *_, count in predicted:
        for kind_of, name in _names(kind, key):
            counts[route, kind_of, name] += int(count)
    kept: dict[tuple[str, str], list[str]] = defaultdict(list)
    for route, kind_of, name in counts:
        kept[route, kind_of].append(name)
    for (route, kind_of), names in kept.items():
        newest = kind_of in ("day", "policy")
        names.sort(key=lambda name: _order(name) if newest else (counts[route, kind_of, name], name))
        del names[: max(len(names) - MOST_SLICES, 0)]
        names.sort(key=_order)
    index = {
        (route, kind_of, name): at
        for at, (route, kind_of, name) in enumerate(
            (*of, name) for of, names in kept.items() for name in names
        )
    }
    if not index:
        return {}
    predictions, labels = _cells(kind, predicted, index), _cells(kind, labelled, index)
    size = len(index)
    metrics: list[Metric] = [*(["precision"] * size), *(["recall"] * size)]  # type: ignore[list-item]
    said = (predictions.flagged, predictions.score, predictions.pi, predictions.count)
    known = (labels.flagged, labels.score, labels.pi, labels.positive, labels.count)
    made = measure_groups(
        metrics,
        np.concatenate([predictions.slice, predictions.slice + size]),
        Predictions.of(*(np.tile(column, 2) for column in said)),
        np.concatenate([labels.slice, labels.slice + size]),
        Labels.of(*(np.tile(column, 2) for column in known)),
    )
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for (route, kind_of, name), at in index.items():
        found[route, kind_of].append(Slice(name, counts[route, kind_of, name], made[at], made[size + at]))
    return {of: tuple(slices) for of, slices in found.items()}


def _cells(kind: str, rows: Sequence[Any], index: dict[tuple[str, str, str], int]) -> _Cells:
    """One cell a row and slice: a prediction of a phone in Germany counts for both."""
    made: list[tuple[int, bool, float, float, bool, int]] = []
    for route, key, flagged, step, pi, *positive, count in rows:
        for kind_of, name in _names(kind, key):
            at = index.get((route, kind_of, name))
            if at is not None:
                score = np.nan if step == NO_SCORE else float(step)
                made.append((at, flagged == 1, score, float(pi), bool(positive and positive[0]), int(count)))
    columns = list(zip(*made, strict=True)) if made else [()] * 6
    return _Cells(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.bool_),
        np.array(columns[2], dtype=np.float64),
        np.array(columns[3], dtype=np.float64),
        np.array(columns[4], dtype=np.bool_),
        np.array(columns[5], dtype=np.int64),
    )


def _names(kind: str, key: Any) -> list[tuple[str, str]]:
    """The slices that a row belongs to: of each segment that is set, one."""
    if kind == "segment":
        return [("segment " + part.partition("=")[0], part) for part in str(key).split(",") if "=" in part]
    if kind == "day":
        return [("day", datetime.fromtimestamp(int(key) * 86_400, UTC).strftime("%Y-%m-%d"))]
    return [(kind, str(key))] if key != "" else []


def _order(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)
