"""Taking away decisions, and with them what makes no sense without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema

__all__ = ["AT_ONCE", "chunks", "of_task", "remove_decisions", "remove_tasks"]

AT_ONCE: Final = 500
"""Values in one IN (...)."""


def chunks(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """In parts of at most AT_ONCE."""
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


STAY: Final = ("labels", "pending_labels", "review_gold")
"""What is said about a decision, or is a copy of it, outlives it."""


def of_task() -> tuple[sa.Table, ...]:
    """Every table whose rows belong to a review task."""
    return tuple(table for table in schema.metadata.sorted_tables if "task" in table.c)


def remove_decisions(connection: sa.Connection, decisions: Sequence[bytes]) -> int:
    """Take away the decisions, payloads and tasks of some calls; their labels stay. Returns: decisions (rows).

    The transaction is the caller's.
    """
    gone = 0
    remove_tasks(connection, decisions)
    of_decision = [table for table in schema.metadata.sorted_tables if "decision" in table.c]
    for some in chunks(decisions):
        for table in of_decision:
            if table.name in STAY:
                continue
            done = connection.execute(sa.delete(table).where(table.c.decision.in_(some)))
            gone += done.rowcount if table is schema.decisions else 0
    return gone


def remove_tasks(connection: sa.Connection, decisions: Sequence[bytes]) -> tuple[int, int]:
    """Take away the review tasks of some calls, and all that was noted of them. Returns: open ones, and others."""
    task = schema.review_tasks
    open_tasks = others = 0
    for some in chunks(decisions):
        found = connection.execute(
            sa.select(task.c.id, task.c.done_us).where(task.c.decision.in_(some))
        ).all()
        ids = [row.id for row in found]
        still_open = sum(row.done_us is None for row in found)
        open_tasks, others = open_tasks + still_open, others + len(found) - still_open
        for start in range(0, len(ids), AT_ONCE):
            few = ids[start : start + AT_ONCE]
            for table in of_task():
                connection.execute(sa.delete(table).where(table.c.task.in_(few)))
            connection.execute(sa.delete(task).where(task.c.id.in_(few)))
    return open_tasks, others
