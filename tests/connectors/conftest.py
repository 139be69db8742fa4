"""One Label Studio for all tests of a run; each has projects of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger import Ledger, Limits
from tests.connectors.label_studio_server import LabelStudioProcess, Unavailable
from tests.ledger.making import Clock


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioProcess]:
    process = LabelStudioProcess(tmp_path_factory.mktemp("label-studio"))
    try:
        process.start()
    except Unavailable as why:
        pytest.skip(f"Label Studio cannot be installed here: {why}")
    yield process
    process.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01), clock)
    opened.open()
    yield opened
    opened.close()
