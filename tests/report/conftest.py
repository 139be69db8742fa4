"""One ledger for all facts about it: writing and answering it takes seconds, reading it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gateway.ledger import Reader, Window
from gateway.ledger.report import Report, make_report
from tests.report import traffic


@dataclass(frozen=True)
class Told:
    """A window of which some sampled predictions are labelled, and 300 predictions have feedback."""

    folder: Path
    made: traffic.Made
    answered: int

    def reader(self) -> Reader:
        return Reader.open(f"sqlite:///{self.folder / 'ledger.db'}")


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("state")
    made = traffic.make(3000, seed=7, pi=(0.3, 0.05))
    ledger = traffic.write(folder, made)
    try:
        answered = traffic.answer(ledger, made, most=int(made.sampled.sum()) - 15)
        some = np.random.default_rng(5).choice(2800, 300, replace=False)
        ledger.submit_labels(
            [traffic.label(made, int(at), "user", bool(made.truth[at])) for at in some]
        ).result(30.0)
    finally:
        ledger.close()
    return Told(folder, made, answered)


@pytest.fixture
def report(told: Told) -> Iterator[Report]:
    reader = told.reader()
    yield make_report(reader, Window())
    reader.close()
