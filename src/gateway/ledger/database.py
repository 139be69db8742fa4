"""Engines for the databases that a ledger may live in; all that differs between them stands here."""

from __future__ import annotations

import select
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from gateway.errors import LedgerError, LedgerUnavailable
from gateway.ledger.schema import HEAD, KNOWN, decisions, review_tasks, writers

__all__ = [
    "advance",
    "check_head",
    "failure_reason",
    "insert",
    "insert_once",
    "insert_tasks",
    "is_conflict",
    "is_postgresql",
    "is_unavailable",
    "reader_engine",
    "replace_unsampled",
    "schema_version",
    "shown",
    "unhurried",
    "version_fault",
    "writer_engine",
    "writes_side_by_side",
]

_REASONS = {
    "SQLITE_FULL": "disk_full",
    "SQLITE_IOERR": "io_error",
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_READONLY": "read_only",
    "SQLITE_CORRUPT": "broken",
    "SQLITE_NOTADB": "broken",
    "SQLITE_CANTOPEN": "not_there",
}

_AT_ONCE = 500  # ids in one IN (...): far below SQLite's 32,766 and PostgreSQL's 65,535 variables
_BUSY_S = 2.0  # how long another process's lock is waited for before it is said
_WRITER_S = (
    15.0  # how long PostgreSQL may take for one statement: callers wait, and none of ours takes a second
)
_READER_S = 60.0  # a report over everything may take its time

_PATIENCE: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "gateway",
}
"""For libpq: a server that is gone without a word is noticed in half a minute, not in two hours. A URL may differ."""

_POSTGRES_REASONS = {
    "55P03": "locked",  # lock_timeout
    "40P01": "locked",  # deadlock
    "40001": "locked",  # could not serialize
    "57014": "no_answer",  # statement_timeout, and `patience.NoAnswer`
    "53100": "disk_full",
    "58030": "io_error",
    "25006": "read_only",
    "28": "refused",  # who we say we are is not believed
    "3D000": "not_there",
    "XX001": "broken",
    "XX002": "broken",
}
"""What SQLSTATE, or its class, means; https://www.postgresql.org/docs/current/errcodes-appendix.html."""

_TAKEN_AWAY = frozenset(
    {"42P01", "42501"}
)  # a table that is gone, a right that was revoked: SQLite says so too


def writer_engine(url: str) -> sa.Engine:
    """The connections of the writer's threads: one, or two where `writes_side_by_side`.

    SQLite: WAL, so that readers never wait for the writer; synchronous=FULL, so that a commit is on disk;
    BEGIN IMMEDIATE, so that a lock is met when a transaction begins and not halfway. PostgreSQL: a commit waits for the
    disk, whatever the server's default says.
    """
    if is_postgresql(url):
        return _postgresql(url, answer_s=_WRITER_S, pool_size=2, isolation_level="READ COMMITTED")
    return _sqlite(
        url,
        pool_size=1,
        begin="BEGIN IMMEDIATE",
        # A new file can give pages back; its log shrinks again after a long reader.
        pragmas=(
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "journal_size_limit=67108864",
            "synchronous=FULL",
        ),
    )


def writes_side_by_side(engine: sa.Engine) -> bool:
    """Whether two transactions may write at once."""
    return engine.dialect.name == "postgresql"


def reader_engine(url: str) -> sa.Engine:
    """A few connections that cannot write, whose transactions see one state of the database."""
    if is_postgresql(url):
        return _postgresql(
            url,
            answer_s=_READER_S,
            pool_size=4,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
    return _sqlite(url, pool_size=4, begin="BEGIN", pragmas=("query_only=ON",))


def schema_version(connection: sa.Connection) -> str | None:
    """The version that the database's schema has; None where there is none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def check_head(engine: sa.Engine) -> None:
    """Whether the schema is the one that this code was written for.

    Raises: LedgerError if not; LedgerUnavailable when the database cannot be read.
    """
    try:
        with engine.connect() as connection:
            found = schema_version(connection)
    except sa.exc.DBAPIError as error:
        raise LedgerUnavailable(f"the ledger {shown(engine.url)} cannot be read: {error.orig}") from error
    if found is None:
        raise LedgerError(f"{shown(engine.url)} holds no ledger; `gateway serve` makes one")
    if found != HEAD:
        raise LedgerError(version_fault(engine.url, found))


def version_fault(url: URL, found: str) -> str:
    """Words for a schema that is not at head."""
    if found in KNOWN:
        return (
            f"the ledger {shown(url)} has schema {found}, wanted {HEAD}; `gateway serve` brings it up to date"
        )
    return (
        f"the ledger {shown(url)} has schema {found}, made by a newer gateway; this one knows up to {HEAD}. "
        "Start the newer gateway, or restore a copy from before the upgrade"
    )


def is_conflict(error: BaseException) -> bool:
    """Whether two transactions were in each other's way and this one gave in: nothing of it is left, do it again."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in ("40001", "40P01")


def is_unavailable(error: BaseException) -> bool:
    """Whether the database is at fault (full, locked, broken, away) and not what was asked of it."""
    if isinstance(error, sa.exc.DBAPIError):
        if getattr(error.orig, "sqlstate", None) in _TAKEN_AWAY:
            return True
        ours = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError, sa.exc.NotSupportedError)
        return not isinstance(error, ours)
    return isinstance(error, (sa.exc.TimeoutError, OSError))


def failure_reason(error: BaseException) -> str:
    """One word for counters and logs, from a closed list.

    The cause may stand further back: after SQLITE_FULL the transaction is gone, so undoing its savepoint fails too.
    """
    link: BaseException | None = error
    while link is not None:
        name = str(getattr(getattr(link, "orig", link), "sqlite_errorname", ""))
        for start, reason in _REASONS.items():
            if name.startswith(start):
                return reason
        state = str(getattr(getattr(link, "orig", link), "sqlstate", None) or "")
        for start, reason in _POSTGRES_REASONS.items():
            if state.startswith(start):
                return reason
        link = link.__context__
    return "unavailable" if is_unavailable(error) else "fault"


def advance(connection: sa.Connection, writer: str, number: int, now_us: int) -> bool:
    """Note that a writer has come as far as `number`; False where it had already. Others wait for this transaction."""
    statement = insert(connection.dialect.name, writers)
    values = {"sequence": statement.excluded.sequence, "time_us": statement.excluded.time_us}
    forward = statement.on_conflict_do_update(
        index_elements=[writers.c.writer], set_=values, where=writers.c.sequence < statement.excluded.sequence
    )
    row = {"writer": writer, "sequence": number, "time_us": now_us}
    done = connection.execute(forward, row, execution_options={"preserve_rowcount": True})
    assert done.rowcount in (0, 1), "the database must say whether it wrote"
    return done.rowcount == 1


def insert_once(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, leaving those alone whose unique key is there already."""
    if rows:
        connection.execute(insert(connection.dialect.name, table).on_conflict_do_nothing(), rows)


def replace_unsampled(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert decisions; one that is there already stays, unless it was only asked about and in no sample."""
    if not rows:
        return
    statement = insert(connection.dialect.name, decisions)
    values = {
        column.name: statement.excluded[column.name] for column in decisions.c if not column.primary_key
    }
    keys = [column for column in decisions.c if column.primary_key]
    known = ~decisions.c.sampled
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values, where=known), rows)


def insert_tasks(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Insert tasks of a sample; one that a caller waited for before becomes one of them.

    Returns: how many are new, by queue.
    """
    if not rows:
        return Counter()
    statement = insert(connection.dialect.name, review_tasks)
    keys = [review_tasks.c.decision, review_tasks.c.row]
    there = sa.select(*keys).where(review_tasks.c.decision.in_(sa.bindparam("some", expanding=True)))
    known: set[tuple[bytes, int]] = set()
    decisions_of = list({row["decision"] for row in rows})
    for start in range(0, len(decisions_of), _AT_ONCE):
        found = connection.execute(there, {"some": decisions_of[start : start + _AT_ONCE]})
        known |= {(bytes(decision), row) for decision, row in found}
    usual = {"urgent_until_us": None}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=usual), rows)
    new = {(row["decision"], row["row"]): row["queue"] for row in rows}
    return Counter(queue for key, queue in new.items() if key not in known)


def insert(dialect: str, table: sa.Table) -> Any:
    """The dialect's own INSERT, whose ON CONFLICT SQLAlchemy does not offer in general."""
    if dialect == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def is_postgresql(url: str) -> bool:
    """Whether a ledger's URL names a PostgreSQL database."""
    return make_url(url).get_backend_name() == "postgresql"


def _postgresql(url: str, *, answer_s: float, pool_size: int, **options: Any) -> sa.Engine:
    from gateway.ledger.patience import bounded  # the driver, which a gateway on SQLite does without

    where = make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(
        where,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=answer_s,
        hide_parameters=True,
        connect_args={name: value for name, value in _PATIENCE.items() if name not in where.query},
        **options,
    )
    bounded(engine, answer_s)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(_BUSY_S * 1000)}")
            cursor.execute("SET client_min_messages = warning")
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()

    @sa.event.listens_for(engine, "checkout")
    def check(connection: Any, _record: object, _proxy: object) -> None:
        """A server that restarted must not cost a request. Asking it would cost each of them a round trip."""
        poll = select.poll()  # nobody speaks unasked, but to say good-bye
        if not connection.closed:
            poll.register(connection.fileno(), select.POLLIN)
        if connection.closed or poll.poll(0):
            raise sa.exc.DisconnectionError("the connection was closed while it was idle")

    return engine


@contextmanager
def unhurried(connection: sa.Connection) -> Iterator[None]:
    """Within it statements of this transaction take as long as they take, as a step of the schema may."""
    if connection.dialect.name != "postgresql":
        yield
        return
    driver: Any = connection.connection.driver_connection
    before, driver.silence_s = driver.silence_s, None
    try:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
    finally:
        driver.silence_s = before


def _sqlite(url: str, *, pool_size: int, begin: str, pragmas: tuple[str, ...]) -> sa.Engine:
    where = make_url(url)
    if where.get_backend_name() != "sqlite":
        raise LedgerError(f"a ledger lives in sqlite or postgresql, found {where.get_backend_name()!r}")
    if not where.database or where.database == ":memory:":
        raise LedgerError(
            "a ledger must outlive its process: give sqlite a file, as in sqlite:///state/ledger.db"
        )
    engine = sa.create_engine(
        where,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # payloads and labels would stand in logs of errors
        connect_args={"timeout": _BUSY_S},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions as it sees fit
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def shown(url: URL) -> str:
    """A URL without its password."""
    return url.render_as_string(hide_password=True)
