"""One ledger that is filled once and only read."""

from __future__ import annotations

import pytest

from tests.datasets.making import fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite ledger with everything in it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('filled') / 'ledger.db'}"
    fill(url)
    return url
