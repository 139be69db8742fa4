"""What was done about quality, and by whom: proposed, refused, done, undone. Append-only.

An act that waits for approval is an entry of state `proposed`; what becomes of it is a further entry `of` that one. So
is an undoing. The newest entry of a chain counts, and nothing that was done can be lost by what came after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.ledger import audit, schema

__all__ = ["Act", "after", "find", "history", "note", "waiting"]


@dataclass(frozen=True, slots=True)
class Act:
    """One entry. `id`: 0 before it is kept. `cause`: the gate that failed, `autonomy`, `drift`... `act`: what was done.

    `state`: proposed, refused, begun, done, undone, failed or dry_run. `of`: the id of the entry that it goes on
    from. `before`, `after`: policy versions; `after` is None where none was made. `details`: what undoing needs.
    """

    time_us: int
    route: str
    cause: str
    act: str
    state: str
    words: str
    actor: str
    before: int | None = None
    after: int | None = None
    of: int | None = None
    details: Mapping[str, Any] | None = None
    id: int = 0


def note(connection: sa.Connection, act: Act) -> int:
    """Append, with its line in the audit trail; the transaction is the caller's. Returns: the entry's id."""
    values = {
        "time_us": act.time_us,
        "route": act.route,
        "cause": act.cause,
        "act": act.act,
        "state": act.state,
        "of": act.of,
        "words": act.words,
        "before": act.before,
        "after": act.after,
        "actor": act.actor,
        "details": json.dumps(
            dict(act.details or {}), sort_keys=True, separators=(",", ":"), allow_nan=False
        ),
    }
    key = connection.execute(sa.insert(schema.acts), values).inserted_primary_key
    assert key is not None
    audit.note(
        connection,
        time_us=act.time_us,
        actor=act.actor,
        action=f"autopilot.{act.state}",
        subject=f"route {act.route}",
        act=act.act,
        cause=act.cause,
        words=act.words,
        entry=int(key[0]),
    )
    return int(key[0])


def find(connection: sa.Connection, entry: int) -> Act | None:
    """One entry."""
    row = connection.execute(sa.select(schema.acts).where(schema.acts.c.id == entry)).first()
    return None if row is None else _act(row)


def waiting(connection: sa.Connection, route: str | None = None, state: str = "proposed") -> list[Act]:
    """Proposals that nobody has answered yet, oldest first; of state `begun`, what was not brought to its end."""
    table, later = schema.acts, schema.acts.alias()
    answered = sa.exists().where(later.c.of == table.c.id)
    query = sa.select(table).where(table.c.state == state, ~answered).order_by(table.c.id)
    if route is not None:
        query = query.where(table.c.route == route)
    return [_act(row) for row in connection.execute(query)]


def after(connection: sa.Connection, entry: int, limit: int) -> list[Act]:
    """The next `limit` entries behind one, oldest first."""
    table = schema.acts
    query = sa.select(table).where(table.c.id > entry).order_by(table.c.id).limit(limit)
    return [_act(row) for row in connection.execute(query)]


def history(
    connection: sa.Connection,
    *,
    route: str | None = None,
    cause: str | None = None,
    since_us: int | None = None,
    limit: int = 1_000,
) -> list[Act]:
    """The newest `limit`, oldest first."""
    table = schema.acts
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if route is not None:
        query = query.where(table.c.route == route)
    if cause is not None:
        query = query.where(table.c.cause == cause)
    if since_us is not None:
        query = query.where(table.c.time_us >= since_us)
    return [_act(row) for row in connection.execute(query)][::-1]


def _act(row: sa.Row[tuple[object, ...]]) -> Act:
    values = dict(row._mapping)
    values["details"] = json.loads(values["details"])
    return Act(**values)
