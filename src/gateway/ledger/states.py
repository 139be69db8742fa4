"""What watchers remember between two looks: a gate's e-detector, an exploration's posteriors, a reference of scores.

One JSON object by kind, route and name, replaced as a whole: a restart, or the next leader, forgets nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LedgerError
from gateway.ledger import schema
from gateway.ledger.database import insert

__all__ = ["MOST_BYTES", "Key", "find", "put"]

Key = tuple[str, str]
"""Route and name."""

MOST_BYTES: Final = 1024 * 1024
"""Of one state as JSON. A histogram of a thousand bins with its names takes a fiftieth of it."""


def find(connection: sa.Connection, kind: str) -> dict[Key, dict[str, Any]]:
    """All of a kind, by (route, name)."""
    table = schema.states
    query = sa.select(table.c.route, table.c.name, table.c.value).where(table.c.kind == kind)
    return {(row.route, row.name): json.loads(row.value) for row in connection.execute(query)}


def put(
    connection: sa.Connection, kind: str, values: Mapping[Key, Mapping[str, Any] | None], now_us: int
) -> None:
    """Replace some of a kind; None takes away. The transaction is the caller's.

    Raises: LedgerError for one that is larger than `MOST_BYTES`; ValueError for NaN, which JSON does not know.
    """
    table = schema.states
    rows, gone = [], []
    for (route, name), value in values.items():
        if value is None:
            gone.append((route, name))
            continue
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text) > MOST_BYTES:
            raise LedgerError(
                f"state {kind} of {route!r} {name!r}: found {len(text):,} bytes, wanted at most {MOST_BYTES:,}"
            )
        rows.append({"kind": kind, "route": route, "name": name, "value": text, "updated_us": now_us})
    if rows:
        adding = insert(connection.dialect.name, table)
        fresh = {"value": adding.excluded.value, "updated_us": adding.excluded.updated_us}
        connection.execute(
            adding.on_conflict_do_update(
                index_elements=[table.c.kind, table.c.route, table.c.name], set_=fresh
            ),
            rows,
        )
    for route, name in gone:
        connection.execute(
            sa.delete(table).where(table.c.kind == kind, table.c.route == route, table.c.name == name)
        )
