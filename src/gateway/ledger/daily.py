"""What came day by day, for those that watch for changes; and what came of it, for the holdout.

A day is one of UTC, by the prediction's time, numbered since 1970. Tallies are read by their rolled days, so that a
month of a busy route is thousands of cells and not its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import rolling, schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import superseded
from gateway.ledger.reading import Reader, Window
from gateway.types import UNPREDICTED, Outcome

__all__ = [
    "CONFIDENCE_CELLS",
    "DAY_US",
    "Delays",
    "Units",
    "by_day",
    "confidence_by_day",
    "delays",
    "first_day",
    "held_out",
    "outcome_sums",
    "stated",
    "statements_by_day",
    "units",
]

DAY_US: Final = 24 * HOUR_US
DAY_H: Final = 24

CONFIDENCE_CELLS: Final = 100
"""Parts of [0, 1] by which confidences are counted."""

MOST_DELAYS: Final = 20_000
"""Labels that delays are learnt from; more would say the same."""

MOST_UNITS: Final = 50_000
"""Sampled calls that units are learnt from."""

_NO_LABEL: Final = sa.text("labels.kind <> 'label'")
"""Word for word as the index has it: SQLite takes no parameter for it."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Delays:
    """Labels of one route and source; columns of shape (n,). Hours from the prediction to the label, and to now."""

    delay_h: Floats
    age_h: Floats
    flagged: Ints
    positive: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Sampled calls of one route; columns of shape (n,). `value`: the outcome of each, NaN where none is known."""

    unit: Ints
    weight: Floats
    value: Floats


def first_day(reader: Reader) -> int | None:
    """The first day that any call is counted of; None in an empty ledger."""
    tally = schema.tally_calls
    hour = reader.snapshot(
        lambda connection: connection.execute(sa.select(sa.func.min(tally.c.hour))).scalar()
    )
    return None if hour is None else int(hour) // DAY_H


def by_day(
    reader: Reader,
    tally: sa.Table,
    keys: Sequence[str],
    sums: Sequence[str],
    first: int,
    end: int,
    *,
    predicted: bool = False,
) -> Sequence[Any]:
    """Sums of a tally by day and some of its keys: rows (day, *keys, *sums), from day `first` to before `end`.

    `predicted`: without what no model answered by intent, that is people and the holdout.
    """

    def read(connection: sa.Connection) -> Sequence[Any]:
        names = ("hour", *keys, *sums, *(("outcome",) if predicted and "outcome" not in keys else ()))
        cells = rolling.cover(connection, tally, names, first * DAY_H, end * DAY_H, longest=DAY_H)
        grouped = [(cells.c.hour // DAY_H).label("day"), *(cells.c[name] for name in keys)]
        query = sa.select(*grouped, *(sa.func.sum(cells.c[name]) for name in sums)).group_by(*grouped)
        if predicted:
            query = query.where(cells.c.outcome.not_in([int(one) for one in UNPREDICTED]))
        return connection.execute(query).all()

    return reader.snapshot(read)


def confidence_by_day(reader: Reader, first: int, end: int) -> Sequence[Any]:
    """Sampled predictions by confidence: rows (day, route, backend, cell, weights, squared weights).

    Only those of the sample have their confidence kept; each weighs one over its probability. Cells are those of
    `CONFIDENCE_CELLS`, rounded as the database rounds.
    """
    table = schema.decisions
    day = table.c.time_us // DAY_US
    cell = sa.cast(table.c.confidence * CONFIDENCE_CELLS, sa.Integer)
    weight = 1.0 / table.c.review_pi
    keys = [day.label("day"), table.c.route, table.c.backend, cell.label("cell")]
    query = (
        sa.select(*keys, sa.func.sum(weight), sa.func.sum(weight * weight))
        .where(
            table.c.time_us >= first * DAY_US,
            table.c.time_us < end * DAY_US,
            table.c.sampled,
            table.c.review_pi > 0,
            table.c.confidence.between(0.0, 1.0),
            table.c.outcome.not_in([int(one) for one in UNPREDICTED]),
        )
        .group_by(*keys)
    )
    return reader.snapshot(lambda connection: connection.execute(query).all())


def statements_by_day(reader: Reader, first: int, end: int) -> Sequence[Any]:
    """Signals and outcomes: rows (day, route, source, segment, name, how many); an outcome's name is empty."""
    label = schema.labels
    day = (label.c.time_us // DAY_US).label("day")
    keys = [day, label.c.route, label.c.source, label.c.segment, label.c.name]
    query = (
        sa.select(*keys, sa.func.count())
        .where(
            _NO_LABEL,
            label.c.time_us >= first * DAY_US,
            label.c.time_us < end * DAY_US,
            label.c.revision == 1,
        )
        .group_by(*keys)
    )
    return reader.snapshot(lambda connection: connection.execute(query).all())


def delays(reader: Reader, since_us: int, now_us: int) -> dict[tuple[str, str], Delays]:
    """How late labels, signals and outcomes come, by (route, source), of predictions since then: of all of them, or of
    whole hours of predictions.

    Signals and outcomes have the source that `stated` gives. Of each the first thing that was said counts;
    what is told of from before its prediction came at once.
    """
    label = schema.labels
    made = (label.c.time_us >= since_us, label.c.time_us < now_us)
    others = sa.select(sa.func.count()).select_from(label).where(_NO_LABEL, *made)
    total = sum(
        row[-1] for row in reader.summed(schema.tally_labels, Window(since_us, now_us), ()) if row[-1]
    )
    total += reader.snapshot(lambda connection: connection.execute(others).scalar_one())
    stride = -(-int(total) // MOST_DELAYS)
    while stride > 1 and (stride % 2 == 0 or stride % 3 == 0):
        stride += 1  # else the same hours of every day
    names = ("route", "source", "kind", "name", "time_us", "received_us", "flagged", "positive")
    query = sa.select(*(label.c[name] for name in names)).where(*made, label.c.revision == 1)
    if stride > 1:
        query = query.where((label.c.time_us // HOUR_US) % stride == 0)
    rows: dict[tuple[str, str], list[tuple[float, float, int, int]]] = {}
    found: Sequence[Any] = reader.snapshot(lambda connection: connection.execute(query).all())
    for route, source, kind, name, time_us, came, flagged, positive in found:
        age = (now_us - time_us) // HOUR_US
        delay = min(max((came - time_us) // HOUR_US, 0), age)
        told = source if kind == "label" else stated(source, name)
        rows.setdefault((route, told), []).append((delay, age, _known(flagged), _known(positive)))
    return {key: _delays(of) for key, of in rows.items()}


def stated(source: str, name: str) -> str:
    """What signals of a name, or outcomes where it is empty, are watched as."""
    return f"{source} ({name or 'outcome'})"


def outcome_sums(reader: Reader, window: Window) -> Sequence[Any]:
    """What came of predictions: rows (route, source, held out, how many, sum of values, sum of their squares)."""
    label = schema.labels
    held = sa.case((label.c.outcome == int(Outcome.HOLDOUT), 1), else_=0).label("held")
    keys = [label.c.route, label.c.source, held]
    query = (
        sa.select(
            *keys, sa.func.count(), sa.func.sum(label.c.value), sa.func.sum(label.c.value * label.c.value)
        )
        .where(_NO_LABEL, label.c.kind == "outcome", label.c.value.is_not(None), ~superseded(label))
        .group_by(*keys)
    )
    return reader.snapshot(lambda connection: connection.execute(_in(query, label, window)).all())


def held_out(reader: Reader, window: Window) -> Sequence[Any]:
    """How many calls were held out: rows (route, policy, held out, calls)."""
    rows = reader.summed(schema.tally_calls, window, ("route", "policy", "outcome"), ("calls",))
    return [(row[0], row[1], row[2] == Outcome.HOLDOUT, int(row[3])) for row in rows]


def units(reader: Reader, window: Window, route: str, source: str) -> Units:
    """Sampled calls of units that were not held out, the newest first, with the outcome that the source told."""
    made, label = schema.decisions, schema.labels
    of = sa.and_(
        label.c.decision == made.c.decision,
        label.c.row == made.c.row,
        label.c.source == source,
        label.c.kind == "outcome",
        label.c.name == "",
        label.c.revision == 1,
    )
    query = (
        sa.select(made.c.unit, made.c.review_pi, label.c.value)
        .select_from(made.outerjoin(label, of))
        .where(
            made.c.route == route,
            made.c.row == 0,
            made.c.sampled,
            made.c.review_pi > 0,
            made.c.outcome != int(Outcome.HOLDOUT),
        )
        .order_by(made.c.time_us.desc())
        .limit(MOST_UNITS)
    )
    rows = reader.snapshot(lambda connection: connection.execute(_in(query, made, window)).all())
    columns = list(zip(*rows, strict=True)) if rows else [()] * 3
    value = [np.nan if one is None else one for one in columns[2]]
    chance = np.minimum(np.array(columns[1], dtype=np.float64), 1.0)
    return Units(np.array(columns[0], dtype=np.int64), 1.0 / chance, np.array(value, dtype=np.float64))


def _delays(rows: list[tuple[float, float, int, int]]) -> Delays:
    table = np.array(rows, dtype=np.float64)
    return Delays(table[:, 0], table[:, 1], table[:, 2].astype(np.int64), table[:, 3].astype(np.int64))


def _known(said: bool | None) -> int:
    return -1 if said is None else int(said)


def _in(query: sa.Select[Any], table: sa.Table, window: Window) -> sa.Select[Any]:
    """The window by the prediction's time, at whole hours, as all readers cut it."""
    since, until = window.hours
    if since is not None:
        query = query.where(table.c.time_us >= since * HOUR_US)
    if until is not None:
        query = query.where(table.c.time_us < until * HOUR_US)
    if window.route is not None:
        query = query.where(table.c.route == window.route)
    return query
