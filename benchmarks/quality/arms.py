"""How long a look at explored arms takes: 100 routes of 5 arms, whose shares follow the rewards.

Run as `python benchmarks/quality/arms.py [ROUTES] [LABELS_A_ROUTE]`.

    arithmetic  for every route: values by SNIPS with intervals, posteriors, the probability of being best by 4,000
                draws, shares within floor and cap, and whether to stop; from sums, nothing is read
    look        all of `Exploration.look`: a week of labels read from an SQLite ledger, judged, and remembered; without
                the publishing of policies, as the algorithm is `fixed` here

Prints the median of three, with the memory that the process has come to.
"""

from __future__ import annotations

import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gateway.autopilot.arms import known
from gateway.autopilot.exploration import Exploration
from gateway.config import Settings, read_text
from gateway.ledger import Ledger, Limits
from gateway.ledger.grid import HOUR_US
from gateway.quality.bandits import best_probabilities, bounded
from gateway.quality.rewards import Rewards, RewardSums

ARMS = 5
HOURS = 160
NOW_US = 500_000 * HOUR_US


@dataclass
class Standing:
    """Settings in force, and nothing learnt."""

    settings: Settings
    version: int = 1
    stopped: frozenset[str] = frozenset()
    learnt: dict[str, Any] = field(default_factory=dict)


def settings(routes: int) -> Settings:
    names = [f"m{arm}" for arm in range(ARMS)]
    text = "backends:\n" + "".join(f'  {name}: {{grpc: "127.0.0.1:8001"}}\n' for name in names) + "routes:\n"
    for number in range(routes):
        text += (
            f"  route-{number}:\n    chain: [m0]\n"
            "    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}\n"
            f"    explore: {{arms: [{', '.join(names)}]}}\n"
        )
    loaded = read_text(text, name="bench.yaml", folder=Path("/nowhere"), env={})
    assert loaded.settings is not None, loaded.faults
    return loaded.settings


def fill(file: Path, routes: int, labels: int) -> None:
    """Labels of a week, by a statement of the database itself; ten policy versions, each with its propensities."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n < {routes * labels}) "
        "INSERT INTO labels (decision, row, source, kind, revision, positive, author, received_us, time_us, policy, "
        "route, backend, segment, outcome, score, flagged, review_pi, sampled, arm, propensity) "
        f"SELECT CAST(printf('%016d', n) AS BLOB), 0, 'users', 'label', 1, (n * 7919 % 100) < 85 - n % {ARMS}, 'ann', "
        f"{NOW_US} - (n * 2654435761 % {HOURS}) * {HOUR_US} - 1, "
        f"{NOW_US} - (n * 2654435761 % {HOURS}) * {HOUR_US} - 2, "
        f"n * 2654435761 % {HOURS} / 16, 'route-' || (n % {routes}), 'm0', '', 0, 0.9, 1, 0.0, 0, "
        f"'m' || (n / {routes} % {ARMS}), 0.1 + (n * 2654435761 % {HOURS} / 16) / 100.0 FROM numbers"
    )
    connection.close()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def arithmetic(made: Settings, sums: list[RewardSums]) -> None:
    rng = np.random.default_rng(1)
    for (_, route), one in zip(made.routes.items(), sums, strict=True):
        assert route.explore is not None
        told = known(one, route.explore)
        bounded(best_probabilities(told.beliefs, rng), 0.05, 0.2)


def main() -> None:
    routes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    labels = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    made = settings(routes)
    rng = np.random.default_rng(2)
    sums = [
        RewardSums.of(
            Rewards.cells(
                np.full(ARMS, 0.2),
                np.arange(ARMS),
                ARMS,
                np.full(ARMS, 400),
                right := rng.binomial(400, 0.8, ARMS),
                right,
            )
        )
        for _ in range(routes)
    ]
    arithmetic(made, sums)  # imports what it imports
    rows = {"arithmetic": [timed(lambda: arithmetic(made, sums)) for _ in range(3)], "look": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        ledger = Ledger(f"sqlite:///{file}", Limits(), lambda: NOW_US)
        ledger.open()
        fill(file, routes, labels)
        print(f"{routes} routes x {ARMS} arms, {routes * labels:,} labels in {HOURS} h", flush=True)
        for turn in range(3):
            part = Exploration(ledger, None, lambda make: make())  # type: ignore[arg-type]
            rows["look"].append(timed(partial(part.look, Standing(made), NOW_US + turn)))
        assert len(ledger.states("arms")) == routes
        ledger.close()
    for name, seconds in rows.items():
        print(f"{name:<12}{1000 * statistics.median(seconds):>8.0f} ms", flush=True)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
