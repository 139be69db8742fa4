"""What the ledger holds, as numpy columns: for the report, gates and metrics.

A `Reader` has connections of its own and never writes, so a report runs beside the gateway that writes, from
another process too. All readers cut time alike, by the time of the *prediction* and at whole hours (a
window's start goes down to its hour, its end goes up), so that labels and the counts they are weighted by
belong to the same predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.errors import LedgerUnavailable
from gateway.ledger import rolling, schema
from gateway.ledger.database import check_head, reader_engine
from gateway.ledger.grid import HOUR_US, OVERHEAD_BUCKETS, overhead_edges_us
from gateway.ledger.labels import superseded

__all__ = ["Calls", "Labelled", "Overhead", "Population", "Reader", "Shadows", "Window"]

Text = NDArray[np.str_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """Which predictions are meant; None leaves a side open. Whole hours, see the module's text."""

    since_us: int | None = None
    until_us: int | None = None
    route: str | None = None

    @property
    def hours(self) -> tuple[int | None, int | None]:
        """First hour, and the hour after the last."""
        since = None if self.since_us is None else self.since_us // HOUR_US
        until = None if self.until_us is None else -(-self.until_us // HOUR_US)
        return since, until


@dataclass(frozen=True, slots=True)
class Calls:
    """How calls ended; columns of shape (n,), summed over the window, one row per distinct key.

    `calls` counts calls (by their first row), `rows` predictions. `route` is "" for calls that matched none,
    `backend` is "" where nothing answered. `outcome` holds numbers of `gateway.types.Outcome`; `reason` is
    the text that callers saw.
    """

    route: Text
    policy: Ints
    backend: Text
    segment: Text
    outcome: Ints
    reason: Text
    calls: Ints
    rows: Ints


@dataclass(frozen=True, slots=True)
class Overhead:
    """The gateway's own time per call.

    `counts` by the fixed buckets of `gateway.ledger.grid`, shape (OVERHEAD_BUCKETS,).
    """

    counts: Ints

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def quantile_us(self, q: float) -> float | None:
        """The q-quantile in microseconds, log-linear within its bucket, so right to 4.4 %; None without calls."""
        total = self.total
        if total == 0:
            return None
        cumulative = np.cumsum(self.counts)
        bucket = int(np.searchsorted(cumulative, max(q * total, 1e-9)))
        edges = overhead_edges_us()
        low, high = float(edges[bucket]), float(edges[bucket + 1])
        if not np.isfinite(high):
            return low
        before = float(cumulative[bucket] - self.counts[bucket])
        part = (q * total - before) / float(self.counts[bucket])
        return high * part if low == 0.0 else low * (high / low) ** part


@dataclass(frozen=True, slots=True)
class Shadows:
    """Comparisons with shadows; columns of shape (n,), summed over the window.

    One row per (route, policy, backend, shadow, segment, noise). `backend` answered the caller. Where `noise` is 1, it
    is the primary's twin that was compared beside that shadow, else the shadow. `compared` rows had both answers,
    `failed` ones had none from the other side (an error, a time-out). Of `judged` (both gave a label or a flag)
    `agreed` agree. Of `differences` (both gave a score) the sums of (shadow's - primary's) score.
    """

    route: Text
    policy: Ints
    backend: Text
    shadow: Text
    segment: Text
    noise: Ints
    compared: Ints
    failed: Ints
    judged: Ints
    agreed: Ints
    differences: Ints
    sum_difference: Floats
    sum_squared: Floats
    sum_absolute: Floats


@dataclass(frozen=True, slots=True)
class Labelled:
    """Predictions with their truth; columns of shape (n,).

    One row per (prediction, source), the last revision of each.
    Only labels from which yes or no is known (outcome values are not among them). `source` is "review" for
    reviewers' answers; only these were chosen with probability `pi` and may be weighted by 1/pi. All other
    sources are feedback: `pi` is then the probability with which the prediction *would* have been reviewed,
    and says nothing about who gave feedback.
    `flagged`: 1, 0, or -1 where the route has no threshold. `score`: NaN where there was none. `outcome`:
    numbers of `gateway.types.Outcome`. `time_us` is the prediction's time, `received_us` the label's. Sorted
    by `time_us`.
    """

    time_us: Ints
    received_us: Ints
    route: Text
    policy: Ints
    backend: Text
    segment: Text
    outcome: Ints
    score: Floats
    flagged: Ints
    positive: NDArray[np.bool_]
    source: Text
    pi: Floats


@dataclass(frozen=True, slots=True)
class Population:
    """How many predictions there were, labelled or not; columns of shape (n,), summed over the window.

    One row per distinct (route, policy, backend, segment, outcome, flagged, score_bin, pi); `rows` counts
    predictions. `flagged` 1, 0 or -1 (unknown); `score_bin` by the fixed grid of `gateway.ledger.grid`
    (0..999, -1 without a score); `pi` is the probability of review, exactly as it stands in `Labelled.pi`, so
    strata can be matched by equality.
    """

    route: Text
    policy: Ints
    backend: Text
    segment: Text
    outcome: Ints
    flagged: Ints
    score_bin: Ints
    pi: Floats
    rows: Ints


T = TypeVar("T")
_Columns = TypeVar("_Columns", Calls, Shadows, Labelled, Population)
_DTYPES = {"Text": np.str_, "Ints": np.int64, "Floats": np.float64, "NDArray[np.bool_]": np.bool_}


def _columns(kind: type[_Columns], rows: Sequence[Sequence[Any]]) -> _Columns:
    """Rows as they come from the database -> columns of the types that `kind` names."""
    named = fields(kind)
    values = list(zip(*rows, strict=True)) if rows else [()] * len(named)
    return kind(
        **{
            field.name: np.array(column, dtype=_DTYPES[str(field.type)])
            for field, column in zip(named, values, strict=True)
        }
    )


class Reader:
    """Reads one ledger; thread-safe, every call is one consistent snapshot.

    Raises, from every method: LedgerUnavailable when the database cannot be read now.
    """

    def __init__(self, url: str) -> None:
        self._engine = reader_engine(url)

    @classmethod
    def open(cls, url: str) -> Self:
        """A reader whose schema was checked.

        Raises: LedgerError when there is no ledger at `url` or its schema is not this version's.
        """
        reader = cls(url)
        try:
            check_head(reader._engine)
        except BaseException:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def routes(self, window: Window = Window()) -> tuple[str, ...]:
        """The routes that had calls, in order; "" (no route) is not among them."""
        rows = self.summed(schema.tally_calls, window, ("route",), ())
        return tuple(row[0] for row in rows if row[0])

    def calls(self, window: Window = Window()) -> Calls:
        """Calls by how they ended."""
        keys = ("route", "policy", "backend", "segment", "outcome", "reason")
        return _columns(Calls, self.summed(schema.tally_calls, window, keys))

    def overhead(self, window: Window = Window()) -> Overhead:
        """The histogram of the gateway's own time, all calls of the window together."""
        counts = np.zeros(OVERHEAD_BUCKETS, dtype=np.int64)
        for bucket, calls in self.summed(schema.tally_overhead, window, ("bucket",)):
            counts[bucket] = int(calls)
        return Overhead(counts)

    def shadows(self, window: Window = Window()) -> Shadows:
        """Comparisons with shadows."""
        keys = ("route", "policy", "backend", "shadow", "segment", "noise")
        return _columns(Shadows, self.summed(schema.tally_shadow, window, keys))

    def population(self, window: Window = Window()) -> Population:
        """Predictions by flag, score and probability of review."""
        keys = ("route", "policy", "backend", "segment", "outcome", "flagged", "score_bin", "review_pi")
        rows = self.summed(schema.tally_scores, window, keys, ("rows",))
        # Rows that were raised left their first cell, perhaps an empty one; and a batch may have been dropped.
        return _columns(Population, [row for row in rows if row[-1] > 0])

    def summed(
        self,
        tally: sa.Table,
        window: Window,
        keys: Sequence[str],
        sums: Sequence[str] | None = None,
    ) -> Sequence[Any]:
        """A tally's sums over the window by some of its keys, in their order; all its sums if none are named."""
        wanted = [one.name for one in tally.c if not one.primary_key] if sums is None else sums
        where = () if window.route is None else (("route", window.route),)

        def read(connection: sa.Connection) -> Sequence[Any]:
            hours = rolling.cover(connection, tally, (*keys, *wanted), *window.hours, *where)
            grouped = [hours.c[name] for name in keys]
            query = sa.select(*grouped, *(sa.func.sum(hours.c[name]) for name in wanted))
            return connection.execute(query.group_by(*grouped).order_by(*grouped)).all()

        return self.snapshot(read)

    def labelled(self, window: Window = Window(), source: str | None = None) -> Labelled:
        """Predictions with their truth, of one source or of all."""
        label = schema.labels
        names = ["time_us", "received_us", "route", "policy", "backend", "segment", "outcome", "score"]
        query = sa.select(
            *[label.c[name] for name in names],
            sa.case((label.c.flagged.is_(None), -1), (label.c.flagged, 1), else_=0),
            label.c.positive,
            label.c.source,
            label.c.review_pi,
        ).where(label.c.kind == "label", label.c.positive.is_not(None), ~superseded(label))
        since, until = window.hours
        if since is not None:
            query = query.where(label.c.time_us >= since * HOUR_US)
        if until is not None:
            query = query.where(label.c.time_us < until * HOUR_US)
        if window.route is not None:
            query = query.where(label.c.route == window.route)
        if source is not None:
            query = query.where(label.c.source == source)
        return _columns(Labelled, self._rows(query.order_by(label.c.time_us, label.c.id)))

    def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        return self.snapshot(lambda connection: connection.execute(query).all())

    def snapshot(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` reads, from one consistent state."""
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except (
            sa.exc.DBAPIError,
            sa.exc.TimeoutError,
        ) as error:  # the latter: every connection is waiting already
            said = getattr(error, "orig", error)
            raise LedgerUnavailable(f"the ledger cannot be read now: {said}") from error
