"""Databases for every folder: the server is started once a session, and only if a test asks for one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger import Ledger
from tests.postgres import Postgres, missing, required, wanted


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Postgres | None]:
    if missing():
        yield None
        return
    with Postgres.start() as server:
        yield server


@pytest.fixture
def postgres(_postgres_server: Postgres | None) -> Postgres:
    """The session's server; tests that stop or kill one start their own."""
    wanted()
    assert _postgres_server is not None
    return _postgres_server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database of the test's own, empty."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite ledger of the test's own, not yet made."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def _made_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("made") / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.open()
    ledger.close()
    return file


@pytest.fixture
def made_sqlite_url(sqlite_url: str, _made_sqlite: Path) -> str:
    """An SQLite ledger of the test's own, with its tables."""
    shutil.copy(_made_sqlite, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def made_postgres_url(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database of the test's own, with the ledger's tables."""
    with postgres.ledger() as url:
        yield url


_DATABASES = ["sqlite", *(["postgresql"] if missing() is None or required() else [])]


@pytest.fixture(params=_DATABASES)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The same test on both databases, with the ledger's tables."""
    fixture = {"sqlite": "made_sqlite_url", "postgresql": "made_postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


@pytest.fixture(params=_DATABASES)
def empty_url(request: pytest.FixtureRequest) -> str:
    """The same test on both databases, where no ledger was made yet."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for all the tests that were left out, where hundreds would be skipped."""
    if (why := missing()) and not required():
        terminalreporter.write_line(f"the ledger was tested on SQLite alone: {why}")
