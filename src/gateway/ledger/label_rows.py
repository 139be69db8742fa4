"""What was said, row by row as it counts: for whoever takes labels out of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader

__all__ = ["SaidRow", "said_rows"]

PAGE: Final = 5_000
"""Rows in one query: memory does not grow with the ledger, and no snapshot stays open for long."""


@dataclass(frozen=True, slots=True)
class SaidRow:
    """The last revision of a statement; times in microseconds since 1970."""

    decision: bytes
    row: int
    source: str
    kind: str
    name: str
    label: str | None
    positive: bool | None
    value: float | None
    event_us: int | None
    received_us: int


def said_rows(reader: Reader, since_us: int | None = None, *, review: bool = False) -> Iterator[SaidRow]:
    """Every statement that counts, in the order in which it was kept.

    Args:
        since_us: of predictions from then on; None: of all. review: reviewers' answers too.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    label, last = schema.labels, 0
    names = (
        "decision",
        "row",
        "source",
        "kind",
        "name",
        "label",
        "positive",
        "value",
        "event_us",
        "received_us",
    )
    query = sa.select(label.c.id, *(label.c[name] for name in names)).where(~superseded(label))
    if since_us is not None:
        query = query.where(label.c.time_us >= since_us)
    if not review:
        query = query.where(label.c.source != REVIEW)
    while True:
        page = query.where(label.c.id > last).order_by(label.c.id).limit(PAGE)
        rows = reader.snapshot(lambda connection, page=page: connection.execute(page).all())  # type: ignore[misc]
        for _, decision, *values in rows:
            yield SaidRow(bytes(decision), *values)
        if len(rows) < PAGE:
            return
        last = rows[-1][0]
