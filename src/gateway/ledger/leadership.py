"""Which of several controls acts for all: whoever holds a lock of the database.

PostgreSQL: an advisory lock on a connection of its own, which the server lets go when that connection ends, so that a
killed leader has a successor as soon as the next one asks; and so has one that is frozen, a little later. SQLite, which
lives on one machine: a lock on a file beside it. That somebody leads is asked again before each act (`leads`), and what
the leader does is to publish policies, each onto the version that it saw: a leader that lost the lock unawares is
refused there.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from gateway.ledger.database import is_postgresql

__all__ = ["Leadership"]

log = logging.getLogger(__name__)

LOCK: Final = 7_105_130

SILENT_S: Final = 15.0
"""A leader that has not been heard of for so long is none; PostgreSQL only."""


class Leadership:
    """On one thread at a time; every method but `close` may wait for the database, a few seconds at most."""

    def __init__(self, url: str) -> None:
        self._database = make_url(url).database or ""
        self._engine = _engine(url) if is_postgresql(url) else None
        self._connection: sa.Connection | None = None
        self._file: int | None = None

    def leads(self) -> bool:
        """Whether this process is the leader now; takes the lead where nobody has it."""
        if self._engine is None:
            return self._leads_by_file()
        try:
            if self._connection is not None:
                self._connection.execute(sa.text("SELECT 1"))
                return True
            connection = self._engine.connect()
            if connection.execute(sa.text(f"SELECT pg_try_advisory_lock({LOCK})")).scalar():
                self._connection = connection
                return True
            connection.close()
        except sa.exc.DBAPIError as error:
            log.warning("it is not known who leads: %s", error.orig)
            self._let_go()
        return False

    def close(self) -> None:
        """Let another one lead."""
        self._let_go()
        if self._engine is not None:
            self._engine.dispose()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # closes it for good: the lock goes with it
            self._connection.close()
            self._connection = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _leads_by_file(self) -> bool:
        if self._file is not None:
            return True
        database = Path(self._database)
        file = os.open(
            database.with_name(database.name + ".leader"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True


def _engine(url: str) -> sa.Engine:
    """No transaction stays open, and neither side waits long for the other: a server that does not answer is given up
    after `LEADER_S`, and a leader that asks nothing for `SILENT_S` (it is asked once a second) has its lock taken away,
    as it is frozen, or its machine went without a word.
    """
    from gateway.ledger.patience import (
        LEADER_S,
        bounded,
    )  # the driver, which a gateway on SQLite does without

    where = make_url(url).set(drivername="postgresql+psycopg")
    patience = {"connect_timeout": 3, "tcp_user_timeout": 3000, "application_name": "gateway leader"}
    engine = sa.create_engine(
        where,
        poolclass=sa.pool.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={name: value for name, value in patience.items() if name not in where.query},
    )
    bounded(engine, LEADER_S)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_session_timeout = {int(SILENT_S * 1000)}")

    return engine
