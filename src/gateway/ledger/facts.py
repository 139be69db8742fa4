"""What was known when a prediction was made, by its id: from its record, or from what was said of it before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

import sqlalchemy as sa

from gateway.ledger import review, schema
from gateway.ledger.labels import Facts

__all__ = ["find"]

_AT_ONCE = 500
_NAMES = tuple(field.name for field in fields(Facts))


def find(connection: sa.Connection, wanted: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], Facts]:
    """The facts of predictions, by decision id and row; those that the ledger knows nothing of are left out."""
    found = review.find_facts(connection, wanted)
    missing = [key for key in wanted if key not in found]
    return {**_spoken_of(connection, missing), **found} if missing else found


def _spoken_of(
    connection: sa.Connection, wanted: Iterable[tuple[bytes, int]]
) -> dict[tuple[bytes, int], Facts]:
    """Facts as the first label of each prediction carries them."""
    table, keys = schema.labels, set(wanted)
    ids = list({decision for decision, _ in keys})
    found: dict[tuple[bytes, int], Facts] = {}
    for start in range(0, len(ids), _AT_ONCE):
        query = (
            sa.select(table.c.decision, table.c.row, *(table.c[name] for name in _NAMES))
            .where(table.c.decision.in_(ids[start : start + _AT_ONCE]), table.c.revision == 1)
            .order_by(table.c.id.desc())
        )
        for decision, row, *values in connection.execute(query):
            if (bytes(decision), row) in keys:
                found[bytes(decision), row] = Facts(*values)
    return found
