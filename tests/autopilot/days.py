"""Days of traffic written into a ledger's tallies as its writer adds them up, with labels where they are wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.config import Settings, read_text
from gateway.ledger import Ledger, rolling, schema
from gateway.ledger.daily import DAY_US
from tests.ledger.making import another

DAY = 20_700
"""The first day: 2026-09-04."""

SETTINGS = """
identity: {segments: {device: "metadata:x-device"}}
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam, version: "3"}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    holdout: {share: 0.1, answer: ham}
"""


def settings(more: str = "") -> Settings:
    loaded = read_text(SETTINGS + more, env={})
    assert not loaded.faults, loaded.faults
    assert loaded.settings is not None
    return loaded.settings


def made(folder: Path) -> tuple[Ledger, Days]:
    url = f"sqlite:///{folder / 'ledger.db'}"
    ledger = Ledger(url)
    ledger.open()
    return ledger, Days(url)


Tally = dict[tuple[Any, ...], list[float]]


@dataclass
class Days:
    """Gathers days, and writes them in one transaction: a commit of each would take most of a test's time."""

    url: str
    rows: dict[sa.Table, Tally] = field(default_factory=lambda: defaultdict(dict))

    def scores(
        self, day: int, score: NDArray[np.float64], backend: str = "spam-v3", outcome: int = 0
    ) -> None:
        """Predictions of a day at noon."""
        bins, counts = np.unique(np.clip((score * 1000).astype(int), 0, 999), return_counts=True)
        key = (day * 24 + 12, "spam", 7, backend, "", outcome)
        for cell, count in zip(bins.tolist(), counts.tolist(), strict=True):
            self.rows[schema.tally_scores][(*key, int(cell >= 500), cell, 0.1)] = [count, 0]

    def calls(self, day: int, by: Mapping[tuple[str, int], int]) -> None:
        """Calls of a day at noon, by segment and outcome."""
        for (segment, outcome), count in by.items():
            key = (day * 24 + 12, "spam", 7, "spam-v3", segment, outcome, "ok")
            self.rows[schema.tally_calls][key] = [count, count]

    def labels(self, day: int, source: str, by: Mapping[str, int]) -> None:
        """Labels about predictions of a day at noon, by segment."""
        for segment, count in by.items():
            if count:
                key = (day * 24 + 12, "spam", 7, "spam-v3", segment, 0, 1, 900, 0.1, 0, source, 1)
                self.rows[schema.tally_labels][key] = [count]

    def write(self) -> None:
        """Add to the tallies what was gathered since the last time."""
        with another(self.url) as connection:
            for tally, rows in self.rows.items():
                rolling.add(connection, tally, rows)
        self.rows.clear()


def noon_us(day: int) -> int:
    return day * DAY_US + DAY_US // 2
