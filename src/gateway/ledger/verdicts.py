"""What gates said: appended when it changes and now and then while it stays, with the numbers it was said from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from gateway.ledger import schema

__all__ = ["Verdict", "between", "history", "latest", "newest", "note"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One look at one gate. `segment`: "" for all of the route. `verdict`: pass, fail or inconclusive. `value`, `low`,
    `high`: all three, or None where there is no number. `words`: the rule and what was found, in a sentence."""

    time_us: int
    policy: int
    route: str
    gate: str
    segment: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    labels: int
    words: str


def note(connection: sa.Connection, verdicts: Sequence[Verdict]) -> None:
    """Append; the transaction is the caller's."""
    if verdicts:
        connection.execute(sa.insert(schema.verdicts), [asdict(one) for one in verdicts])


def latest(connection: sa.Connection, route: str | None = None) -> list[Verdict]:
    """The last verdict of each gate and segment, by route, gate and segment."""
    table = schema.verdicts
    last = sa.select(sa.func.max(table.c.id)).group_by(table.c.route, table.c.gate, table.c.segment)
    if route is not None:
        last = last.where(table.c.route == route)
    query = (
        sa.select(table).where(table.c.id.in_(last)).order_by(table.c.route, table.c.gate, table.c.segment)
    )
    return [_verdict(row) for row in connection.execute(query)]


def history(
    connection: sa.Connection,
    *,
    route: str | None = None,
    gate: str | None = None,
    since_us: int | None = None,
    limit: int = 1_000,
) -> list[Verdict]:
    """The newest `limit`, oldest first."""
    table = schema.verdicts
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if route is not None:
        query = query.where(table.c.route == route)
    if gate is not None:
        query = query.where(table.c.gate == gate)
    if since_us is not None:
        query = query.where(table.c.time_us >= since_us)
    return [_verdict(row) for row in connection.execute(query)][::-1]


def newest(connection: sa.Connection) -> int:
    """The place of the newest; 0 where there is none."""
    return int(connection.execute(sa.select(sa.func.max(schema.verdicts.c.id))).scalar() or 0)


def between(connection: sa.Connection, after: int, last: int, route: str | None = None) -> list[Verdict]:
    """Those behind one place up to another, oldest first."""
    table = schema.verdicts
    query = sa.select(table).where(table.c.id > after, table.c.id <= last).order_by(table.c.id)
    if route is not None:
        query = query.where(table.c.route == route)
    return [_verdict(row) for row in connection.execute(query)]


def _verdict(row: sa.Row[tuple[object, ...]]) -> Verdict:
    values = {name: value for name, value in row._mapping.items() if name != "id"}
    return Verdict(**values)
