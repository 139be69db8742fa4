"""How much a ledger takes, and giving back what it does not need.

SQLite uses the pages of what was deleted again, so a file that has met its limit grows no more; and it gives the pages
at its end back, a few at a time, where the file was made to (`auto_vacuum`, which ledgers have from schema 0004 on).
PostgreSQL keeps what a table once took until it is needed again, so there it is what is in the rows that counts.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema

__all__ = ["GIVE_PAGES", "clear_log", "give_back", "used_bytes"]

GIVE_PAGES: Final = 2_000
"""Pages that are given back in one transaction: 8 MB."""

KEPT_FREE: Final = 0.25
"""This part of a file may be free pages: they are needed again."""

DECISION_BYTES: Final = 600
"""A sampled decision in PostgreSQL with task and indexes, estimated from their columns; a count is multiplied by it."""


def used_bytes(connection: sa.Connection) -> int:
    """Bytes of what is kept, without free pages."""
    if connection.dialect.name == "sqlite":
        count, free, size = (
            _pragma(connection, name) for name in ("page_count", "freelist_count", "page_size")
        )
        return (count - free) * size
    capture, decision = schema.captures, schema.decisions
    payload = sa.func.sum(sa.func.length(capture.c.request) + sa.func.length(capture.c.answer))
    counted = (capture, decision, schema.review_tasks)
    others = [table.name for table in schema.metadata.sorted_tables if table not in counted]
    sizes = [
        sa.func.coalesce(sa.func.pg_total_relation_size(sa.func.to_regclass(name)), 0) for name in others
    ]
    total = int(connection.execute(sa.select(sa.func.coalesce(payload, 0))).scalar_one())
    total += (
        DECISION_BYTES * connection.execute(sa.select(sa.func.count()).select_from(decision)).scalar_one()
    )
    return total + sum(int(size) for size in connection.execute(sa.select(*sizes)).one())


def give_back(connection: sa.Connection, max_bytes: int | None) -> bool:
    """Give some free pages of an SQLite file back, where it is too long or a quarter of it is free.

    Returns: whether there is more to give.
    """
    if connection.dialect.name != "sqlite" or _pragma(connection, "auto_vacuum") == 0:
        return False
    count, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    too_long = max_bytes is not None and count * size > max_bytes
    if not free or not (too_long or free > KEPT_FREE * count):
        return False
    # Python's driver takes one step of a statement that has no columns, and each step gives one page.
    driver = connection.connection.driver_connection
    assert driver is not None
    for _ in range(min(GIVE_PAGES, free)):
        driver.execute("PRAGMA incremental_vacuum(1)")
    return _pragma(connection, "freelist_count") < free


def clear_log(engine: sa.Engine) -> None:
    """Move what SQLite's log holds into the file and empty it, as far as readers let it: old pages are in it."""
    if engine.dialect.name != "sqlite":
        return
    raw = (
        engine.raw_connection()
    )  # a connection of SQLAlchemy's begins a transaction, in which this cannot be done
    try:
        assert raw.driver_connection is not None
        raw.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        raw.close()


def _pragma(connection: sa.Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
