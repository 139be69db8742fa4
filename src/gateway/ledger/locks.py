"""What processes that share a database do one at a time, until the end of the transaction that it is asked in."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

__all__ = ["lock_labels", "lock_policies", "lock_schema", "lock_segments", "may_tidy"]


def lock_schema(connection: sa.Connection) -> None:
    """Keep other processes from changing the schema until this transaction ends."""
    _lock(connection, 7_105_118)


def lock_policies(connection: sa.Connection) -> None:
    """Keep other processes from giving out a policy version until this transaction ends."""
    _lock(connection, 7_105_119)


def lock_segments(connection: sa.Connection) -> None:
    """Keep other processes from admitting segments until this transaction ends."""
    _lock(connection, 7_105_120)


def lock_labels(connection: sa.Connection, *, alone: bool) -> None:
    """Until this transaction ends nobody else changes labels that are there (`alone`), or nobody does so alone.

    Else a label that two processes change at once would be taken out of its cell twice.
    """
    _lock(connection, 7_105_121, shared=not alone)


def may_tidy(connection: sa.Connection) -> bool:
    """Whether nobody else takes old things away; then nobody does until this transaction ends."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(7_105_122))).scalar_one())


def _lock(connection: sa.Connection, number: int, *, shared: bool = False) -> None:
    """PostgreSQL only: BEGIN IMMEDIATE keeps every other writer out of an SQLite file as it is."""
    if connection.dialect.name == "postgresql":
        connection.execute(_locking(number, shared))


@cache
def _locking(number: int, shared: bool) -> sa.Select[Any]:
    lock = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
    return sa.select(lock(number))
