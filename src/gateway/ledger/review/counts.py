"""Counts by queue that are added up as things happen: nobody counts a million rows to say how many there are.

What a transaction changes is gathered on its connection and written at its end, in order of the names: two
consoles that work on the same queues then wait for each other's counts, but never in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.adding import add_up

__all__ = ["counting", "flush", "note", "read", "recount", "undone_by_errors"]

_KEY = "gateway.review_counts"
_WITHIN = "gateway.review_counts.within"
_task = schema.review_tasks


def note(connection: sa.Connection, queue: str, what: str, by: int) -> None:
    """Remember a change, to be written at the end of the same transaction."""
    if by:
        _pending(connection)[queue, what] += by


@contextmanager
def counting(connection: sa.Connection) -> Iterator[None]:
    """What is noted within is written at the end; what an earlier transaction left behind is forgotten.

    Within another one it does nothing: what was noted before it in the same transaction must not be forgotten.
    """
    info = (
        connection.info
    )  # asked for now: a connection that is lost meanwhile would raise another error over the first
    if info.get(_WITHIN):
        yield
        return
    _pending(connection).clear()
    info[_WITHIN] = True
    try:
        yield
    finally:
        info.pop(_WITHIN, None)  # the pool hands it on to the connection's next user
    flush(connection)


def flush(connection: sa.Connection) -> None:
    """Write what was noted."""
    pending = _pending(connection)
    rows = [
        {"queue": queue, "what": what, "count": by} for (queue, what), by in sorted(pending.items()) if by
    ]
    pending.clear()
    add_up(connection, schema.review_counts, rows)


@contextmanager
def undone_by_errors(connection: sa.Connection) -> Iterator[None]:
    """What is noted within counts only if nothing is raised: the savepoint around it is gone too."""
    before, info = Counter(_pending(connection)), connection.info
    try:
        yield
    except BaseException:
        info[_KEY] = before
        raise


def read(connection: sa.Connection, queue: str | None = None) -> dict[str, dict[str, int]]:
    """By queue that ever had a task: what was counted."""
    table = schema.review_counts
    query = sa.select(table.c.queue, table.c.what, table.c.count).order_by(table.c.queue)
    if queue is not None:
        query = query.where(table.c.queue == queue)
    found: dict[str, dict[str, int]] = {}
    for name, what, count in connection.execute(query):
        found.setdefault(name, {})[what] = int(count)
    return found


def recount(connection: sa.Connection) -> None:
    """Count open and done tasks anew, where rows were taken away by others; reads them all."""
    table = schema.review_counts
    connection.execute(sa.delete(table).where(table.c.what.in_(("open", "done"))))
    open_tasks = sa.func.count() - sa.func.count(_task.c.done_us)
    query = sa.select(_task.c.queue, open_tasks, sa.func.count(_task.c.done_us)).group_by(_task.c.queue)
    for name, still_open, done in connection.execute(query).all():
        note(connection, name, "open", int(still_open))
        note(connection, name, "done", int(done))
    flush(connection)


def _pending(connection: sa.Connection) -> Counter[tuple[str, str]]:
    pending: Counter[tuple[str, str]] = connection.info.setdefault(_KEY, Counter())
    return pending
