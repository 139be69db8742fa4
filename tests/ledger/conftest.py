"""A ledger of its own for every test, on each of the databases that one may live in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.ledger import Ledger, Limits
from tests.ledger.making import Clock


@pytest.fixture
def url(ledger_url: str) -> str:
    """SQLite and PostgreSQL: every test that takes it, or `ledger`, runs on both."""
    return ledger_url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    yield from _opened(url, clock)


@pytest.fixture
def sqlite_ledger(sqlite_url: str, clock: Clock) -> Iterator[Ledger]:
    """For what is about SQLite's file, or the folder of the state; all else runs on both."""
    yield from _opened(sqlite_url, clock)


def _opened(url: str, clock: Clock) -> Iterator[Ledger]:
    opened = Ledger(url, Limits(linger_s=0.01), clock)
    opened.open()
    yield opened
    opened.close()
