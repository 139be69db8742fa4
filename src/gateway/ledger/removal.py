"""Taking away decisions, and with them what makes no sense without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.review import counts

__all__ = ["AT_ONCE", "chunks", "of_task", "remove_copies", "remove_decisions", "remove_gold", "remove_tasks"]

AT_ONCE: Final = 500
"""Values in one IN (...)."""


def chunks(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """In parts of at most AT_ONCE."""
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


STAY: Final = ("labels", "pending_labels", "review_gold")
"""What is said about a decision, or is a copy of it, outlives it."""


def of_task() -> tuple[sa.Table, ...]:
    """Every table whose rows belong to a review task; what lies in a label tool stays known, to be deleted there."""
    return tuple(
        table
        for table in schema.metadata.sorted_tables
        if "task" in table.c and table is not schema.tool_tasks
    )


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
    open_tasks = others = 0
    for some in chunks(decisions):
        found = _remove_tasks(connection, schema.review_tasks.c.decision.in_(some))
        open_tasks, others = open_tasks + found[0], others + found[1]
    return open_tasks, others


def remove_gold(connection: sa.Connection, decisions: Sequence[bytes]) -> tuple[int, int]:
    """Take away what was copied of some calls to measure reviewers by, and the tasks that were made of the copies.

    Returns: open tasks, and others.
    """
    gold = schema.review_gold
    open_tasks = others = 0
    for some in chunks(decisions):
        copies = connection.execute(sa.select(gold.c.id).where(gold.c.decision.in_(some))).scalars().all()
        found = remove_copies(connection, copies)
        open_tasks, others = open_tasks + found[0], others + found[1]
    return open_tasks, others


def remove_copies(connection: sa.Connection, copies: Sequence[int]) -> tuple[int, int]:
    """The same by the copies' ids."""
    gold = schema.review_gold
    open_tasks = others = 0
    for start in range(0, len(copies), AT_ONCE):
        some = copies[start : start + AT_ONCE]
        found = _remove_tasks(connection, schema.review_tasks.c.gold.in_(some))
        open_tasks, others = open_tasks + found[0], others + found[1]
        connection.execute(sa.delete(gold).where(gold.c.id.in_(some)))
    return open_tasks, others


def _remove_tasks(connection: sa.Connection, which: sa.ColumnElement[bool]) -> tuple[int, int]:
    task = schema.review_tasks
    found = connection.execute(sa.select(task.c.id, task.c.done_us, task.c.queue).where(which)).all()
    for row in found:
        counts.note(connection, row.queue, "open" if row.done_us is None else "done", -1)
    ids = [row.id for row in found]
    for start in range(0, len(ids), AT_ONCE):
        few = ids[start : start + AT_ONCE]
        for table in of_task():
            connection.execute(sa.delete(table).where(table.c.task.in_(few)))
        connection.execute(sa.delete(task).where(task.c.id.in_(few)))
    open_tasks = sum(row.done_us is None for row in found)
    return open_tasks, len(found) - open_tasks
