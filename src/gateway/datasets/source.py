"""Rows of the ledger for a data set: in one order, in portions, out of one state of the database.

Rows come by decision, so all that was said about a call stands together. What a label says of its prediction is the
receipt's word; what only the ledger has (the reason, the predicted label, the confidence, the stratum) is there where
the decision was kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.datasets.plan import Plan
from gateway.ledger import schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import superseded

__all__ = ["READ_ROWS", "Columns", "Policy", "Row", "Source", "columns", "says_something"]

READ_ROWS: Final = 10_000
"""Rows fetched at once."""

PAYLOAD_BYTES: Final = 16 * 1024 * 1024
"""Captured requests fetched at once, but for one that is larger alone."""

_AT_ONCE: Final = 500  # ids in one IN (...)
_PAYLOADS: Final = 8  # fetched at once where sizes are not known; each is of `Limits.task_bytes` at most

_label = schema.labels
_decision, _capture = schema.decisions, schema.captures

Row = sa.Row[Any]
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy's document as it was kept: without salt and keys."""

    version: int
    document: str


def says_something(label: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a label holds: a reviewer's answer that was taken back is a last revision that says nothing."""
    return sa.or_(*(label.c[name].is_not(None) for name in ("label", "positive", "value")))


def columns(rows: Sequence[Row]) -> Columns:
    """Rows, of which there is at least one, by column."""
    return dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))


class Source:
    """The labelled decisions that a plan means.

    Args:
        connection: in a transaction that sees one state of the ledger from its first query to its last.
    """

    def __init__(self, connection: sa.Connection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan

    def rows(self) -> Iterator[Sequence[Row]]:
        """All rows, by decision, row, source, kind and name; the last revision of each."""
        label = _label.c
        names = [
            "decision", "row", "source", "kind", "name", "revision", "label", "positive", "value", "author",
            "received_us", "event_us", "time_us", "policy", "route", "backend", "segment", "outcome", "score",
            "flagged", "review_pi", "sampled", "arm", "propensity", "agreement", "reviews",
        ]  # fmt: skip
        query = (
            sa.select(
                *(label[name] for name in names),
                _decision.c.reason,
                _decision.c.label.label("predicted"),
                _decision.c.confidence,
                _decision.c.stratum,
                self._unit().label("unit"),
                self._call_us().label("call_us"),
                sa.func.length(_capture.c.request).label("request_bytes"),
            )
            .select_from(
                _label.outerjoin(
                    _decision,
                    sa.and_(_decision.c.decision == label.decision, _decision.c.row == label.row),
                ).outerjoin(_capture, _capture.c.decision == label.decision)
            )
            .where(*self._meant())
            .order_by(label.decision, label.row, label.source, label.kind, label.name)
        )
        yield from self._portions(query)

    def times(self) -> Iterator[Sequence[Row]]:
        """Time of the call and unit of every row, as `call_us` and `unit`, in any order."""
        query = sa.select(self._call_us().label("call_us"), self._unit().label("unit")).where(*self._meant())
        yield from self._portions(query)

    def count(self) -> int:
        """Rows."""
        query = sa.select(sa.func.count()).select_from(_label).where(*self._meant())
        return int(self._connection.execute(query).scalar_one())

    def time_at(self, place: int) -> int | None:
        """The time of the row that `place` others are earlier than or as early as; None where there are fewer."""
        query = sa.select(self._call_us().label("call_us")).where(*self._meant())
        found = self._connection.execute(query.order_by(sa.text("call_us")).limit(1).offset(place)).scalar()
        return None if found is None else int(found)

    def requests(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], dict[bytes, bytes]]]:
        """The rows in portions whose captured requests fit in memory, with these, by decision id."""
        portion: list[Row] = []
        wanted: dict[bytes, int] = {}
        held = 0
        for row in rows:
            size = row.request_bytes or 0
            more = size if size and row.decision not in wanted else 0
            if wanted and (held + more > PAYLOAD_BYTES or len(wanted) >= _AT_ONCE):
                yield portion, self._payloads(list(wanted))
                portion, wanted, held = [], {}, 0
            if size and row.decision not in wanted:
                wanted[row.decision] = size
                held += size
            portion.append(row)
        if portion:
            yield portion, self._payloads(list(wanted))

    def captured(self) -> Iterator[Row]:
        """Every captured request once: `decision`, `route`, `policy`, `backend`, `request`."""
        label = _label.c
        wanted = (
            sa.select(
                label.decision,
                sa.func.min(label.route).label("route"),
                sa.func.min(label.policy).label("policy"),
                sa.func.min(label.backend).label("backend"),
            )
            .where(*self._meant())
            .group_by(label.decision)
            .subquery()
        )
        query = sa.select(wanted, _capture.c.request).join(_capture, _capture.c.decision == wanted.c.decision)
        result = self._connection.execute(query, execution_options={"yield_per": _PAYLOADS})
        try:
            yield from result
        finally:
            result.close()

    def segments(self) -> list[str]:
        """Every segment there is; the ledger bounds how many a route has."""
        query = sa.select(_label.c.segment).distinct().where(*self._meant())
        return [str(one) for one in self._connection.execute(query.order_by(_label.c.segment)).scalars()]

    def policies(self) -> list[Policy]:
        """The policies that made the rows' decisions, as far as they are kept; oldest first."""
        table = schema.policies
        used = sa.select(_label.c.policy).distinct().where(*self._meant())
        query = sa.select(table.c.version, table.c.document).where(table.c.version.in_(used))
        found = self._connection.execute(query.order_by(table.c.version))
        return [Policy(int(version), str(document)) for version, document in found]

    def _meant(self) -> list[sa.ColumnElement[bool]]:
        window = self._plan.window
        since, until = window.hours
        clauses = [_label.c.kind.in_(self._plan.kinds), ~superseded(_label), says_something(_label)]
        if since is not None:
            clauses.append(_label.c.time_us >= since * HOUR_US)
        if until is not None:
            clauses.append(_label.c.time_us < until * HOUR_US)
        if window.route is not None:
            clauses.append(_label.c.route == window.route)
        return clauses

    @staticmethod
    def _unit() -> sa.ScalarSelect[Any]:
        """Of any kept row of the call: all rows of a call have the same."""
        kept = schema.decisions.alias("kept")
        return (
            sa.select(sa.func.min(kept.c.unit)).where(kept.c.decision == _label.c.decision).scalar_subquery()
        )

    def _call_us(self) -> sa.ColumnElement[Any]:
        """One time for all that was said about a call: receipts know it to the millisecond, the ledger better."""
        if self._plan.split is None or self._plan.split.by != "time":
            return _label.c.time_us  # nothing is parted by it, and it is cheaper
        said = schema.labels.alias("said")
        return (
            sa.select(sa.func.min(said.c.time_us))
            .where(said.c.decision == _label.c.decision)
            .scalar_subquery()
        )

    def _portions(self, query: sa.Select[Any]) -> Iterator[Sequence[Row]]:
        result = self._connection.execute(query, execution_options={"stream_results": True})
        try:
            yield from result.partitions(READ_ROWS)
        finally:
            result.close()

    def _payloads(self, decisions: Sequence[bytes]) -> dict[bytes, bytes]:
        if not decisions:
            return {}
        query = sa.select(_capture.c.decision, _capture.c.request).where(_capture.c.decision.in_(decisions))
        return {bytes(decision): bytes(request) for decision, request in self._connection.execute(query)}
