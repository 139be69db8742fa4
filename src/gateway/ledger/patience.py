"""How long a PostgreSQL server may leave us without a word, and how long we may leave it.

A server that is frozen (its machine suspended, its disk hung) keeps its connections: the kernel answers for it, so
neither keepalives nor TCP's own time-outs notice, and its `statement_timeout` is frozen with it. So what waits is
bounded here, on our side. A server that is well but slow ends a statement by itself, a little earlier. The other way
round, a gateway that is frozen must not hold its locks against all others: the server ends what it left half done.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy as sa

__all__ = ["LEADER_S", "Connection", "NoAnswer", "bounded"]

LEADER_S: Final = 3.0
"""For that long at most a leader takes itself for one that is none any more."""

_GRACE_S: Final = 2.0
"""So much later than the server's own `statement_timeout` we give up: its word says more than its silence."""

_HALF_DONE_S: Final = 30
"""How long a transaction of ours may stand open with nothing asked of it."""

T = TypeVar("T")


class NoAnswer(psycopg.OperationalError):
    """The server holds the connection and says nothing."""

    sqlstate = "57014"  # as where it ends a statement itself


class Connection(psycopg.Connection[Any]):
    """One that is closed when the server has been silent for `silence_s` while something was asked of it.

    What was asked may have been done: a COMMIT whose answer did not come is one of which nothing is known.
    """

    silence_s: float | None = None

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's. Raises: NoAnswer, after the silence."""
        if self.silence_s is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._listening(gen, self.silence_s), *args, **kwargs)

    def _listening(self, gen: Generator[Any, Any, T], silence_s: float) -> Generator[Any, Any, T]:
        """The same generator; psycopg sends it 0 ten times a second while nothing comes."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard = now
                elif now - heard > silence_s:
                    gen.close()
                    self.pgconn.finish()
                    raise NoAnswer(f"the server has not answered for {silence_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def bounded(engine: sa.Engine, answer_s: float) -> None:
    """Let every connection of an engine wait `answer_s` for a statement, and no longer."""

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, cargs: Any, cparams: Any) -> Connection:
        made = Connection.connect(*cargs, **cparams)
        made.silence_s = answer_s + _GRACE_S
        return made

    @sa.event.listens_for(engine, "connect")
    def tell(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {int(answer_s * 1000)}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {_HALF_DONE_S * 1000}")
        if not connection.autocommit:
            connection.commit()
