"""Databases for every folder: the server is started once a session, and only if a test asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture(params=["sqlite", *(["postgresql"] if missing() is None or required() else [])])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The same test on both databases."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for all the tests that were left out, where hundreds would be skipped."""
    if (why := missing()) and not required():
        terminalreporter.write_line(f"the ledger was tested on SQLite alone: {why}")
