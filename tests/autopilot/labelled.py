"""Days of traffic with reviews, written into a ledger as tallies and labels: what gates are judged from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from gateway.config import Settings, read_text
from gateway.ledger import Ledger, Limits, label_tally, rolling, schema
from gateway.ledger.grid import HOUR_US, score_bin

START_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
DAY_US = 24 * HOUR_US

SETTINGS = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam}
  spam-v2: {grpc: "127.0.0.1:8002", model: spam}
  ham: {answer: {label: ham, score: 0.0}}
identity: {unit: "metadata:x-user-id", segments: {device: "metadata:x-device"}}
routes:
"""


def settings(routes: Sequence[str], *gates: str) -> Settings:
    """Settings in which every route has these gates."""
    text = SETTINGS
    for name in routes:
        text += f"  {name}:\n    chain: [spam-v3, spam-v2, ham]\n"
        text += "    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}\n"
        text += "    review: {per_hour: 60, capture: [inputs]}\n"
        text += "    gates:\n" + "".join(f"      - {gate}\n" for gate in gates)
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    assert loaded.settings is not None, loaded.faults
    return loaded.settings


@dataclass(frozen=True)
class Model:
    """What of the flagged is right, and what of the unflagged is positive; scores say nothing more."""

    precision: float = 0.96
    missed: float = 0.002


@dataclass(frozen=True)
class Flow:
    """Predictions an hour, and the probabilities with which they are reviewed."""

    flagged: int = 40
    unflagged: int = 200
    pi_flagged: float = 0.5
    pi_unflagged: float = 0.0625


class Writer:
    """Writes hours of predictions, and the labels of those that were sampled, all at once or later."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger, self._rng = ledger, np.random.default_rng(seed)
        self._number = 0
        self.late: list[dict[str, Any]] = []
        """Labels that were held back."""

    def hour(
        self,
        routes: Sequence[str],
        at_us: int,
        model: Model,
        flow: Flow = Flow(),
        segment: str = "",
        *,
        hold_back: bool = False,
    ) -> int:
        """An hour of each route; returns how many labels of flagged predictions that made."""
        scores: Counter[tuple[Any, ...]] = Counter()
        rows: list[dict[str, Any]] = []
        for route in routes:
            for flagged, count, pi, rate in (
                (True, flow.flagged, flow.pi_flagged, model.precision),
                (False, flow.unflagged, flow.pi_unflagged, model.missed),
            ):
                score = self._rng.integers(0, 5, count) / 10 + (0.55 if flagged else 0.05)
                sampled = self._rng.random(count) < pi
                positive = self._rng.random(count) < rate
                time_us = at_us + np.sort(self._rng.integers(0, HOUR_US, count))
                for at, bin_ in zip(time_us, score_bin(score), strict=True):
                    scores[
                        int(at) // HOUR_US, route, 1, "spam-v3", segment, 0, int(flagged), int(bin_), pi
                    ] += 1
                rows += [
                    self._label(
                        route, segment, flagged, pi, int(at), float(score[index]), bool(positive[index])
                    )
                    for index, at in enumerate(time_us)
                    if sampled[index]
                ]
        tally = {key: [count, 0] for key, count in scores.items() if count}
        self._ledger.transact(lambda connection: rolling.add(connection, schema.tally_scores, tally)).result()
        if hold_back:
            self.late += rows
        else:
            self.answer(rows)
        return sum(row["flagged"] for row in rows)

    def answer(self, rows: list[dict[str, Any]]) -> None:
        """Reviewers say what they know."""
        cells = Counter(label_tally.cell_of(row) for row in rows)

        def work(connection: sa.Connection) -> None:
            if rows:
                connection.execute(sa.insert(schema.labels), rows)
                label_tally.apply(connection, {cell: n for cell, n in cells.items() if cell is not None})

        self._ledger.transact(work).result()

    def _label(
        self, route: str, segment: str, flagged: bool, pi: float, time_us: int, score: float, positive: bool
    ) -> dict[str, Any]:
        self._number += 1
        return {
            "decision": self._number.to_bytes(16, "big"),
            "row": 0,
            "source": "review",
            "kind": "label",
            "name": "",
            "revision": 1,
            "label": "spam" if positive else "ham",
            "positive": positive,
            "value": None,
            "author": "ann",
            "received_us": time_us,
            "time_us": time_us,
            "policy": 1,
            "route": route,
            "backend": "spam-v3",
            "segment": segment,
            "outcome": 0,
            "score": score,
            "flagged": flagged,
            "review_pi": pi,
            "sampled": True,
            "propensity": 1.0,
        }


@contextmanager
def opened(folder: Path, now_us: list[int]) -> Iterator[Ledger]:
    """A ledger whose clock is the list's one number."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", Limits(linger_s=0.0), lambda: now_us[0])
    ledger.open()
    try:
        yield ledger
    finally:
        ledger.close()


def open_task(ledger: Ledger, row: dict[str, Any], created_us: int) -> None:
    """A review task of a sampled prediction that nobody has answered, with its decision."""

    def work(connection: sa.Connection) -> None:
        facts = ("decision", "row", "time_us", "policy", "route", "backend", "segment", "outcome", "score")
        decision = {name: row[name] for name in (*facts, "flagged", "review_pi", "sampled", "propensity")}
        connection.execute(sa.insert(schema.decisions), {**decision, "reason": "ok", "unit": 1})
        task = {"decision": row["decision"], "row": 0, "queue": "q", "home": "q", "created_us": created_us}
        lease = {"lease_token": 0, "lease_until_us": 0, "reviewer": ""}
        connection.execute(sa.insert(schema.review_tasks), {**task, **lease})

    ledger.transact(work).result()


def close_tasks(ledger: Ledger, done_us: int) -> None:
    """All tasks are answered."""
    done = sa.update(schema.review_tasks).values(done_us=done_us)
    ledger.transact(lambda connection: connection.execute(done).rowcount).result()
