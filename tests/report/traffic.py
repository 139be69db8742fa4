"""A real ledger with traffic whose truth is known, written as the data plane and the services write it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.ledger import Facts, LabelRow, Ledger, Truth
from gateway.runtime.batch import Batch, PolicyNames
from gateway.types import NO_INDEX, NO_STRING, UNKNOWN, Outcome, Reason

NOW_US = 1_795_000_000_000_000 + 1_234_567
HOUR_US = 3_600_000_000
NAMES = {1: PolicyNames(("spam", "quiet"), ("spam-v3", "spam-lite", "ham", "spam-v4"), (("allow-list",), ()))}
STRINGS = ("", "ham", "spam")


@dataclass(frozen=True)
class Made:
    """One window of route spam: columns of shape (n,)."""

    score: NDArray[np.float64]
    truth: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    pi: NDArray[np.float64]
    sampled: NDArray[np.bool_]
    time_us: NDArray[np.int64]
    outcome: NDArray[np.uint8]

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Not in the holdout."""
        return np.asarray(self.outcome != Outcome.HOLDOUT)

    @property
    def precision(self) -> float:
        return float(self.truth[self.flagged & self.counted].mean())

    @property
    def recall(self) -> float:
        return float(self.flagged[self.truth & self.counted].mean())


def make(size: int = 6000, seed: int = 1, pi: tuple[float, float] = (0.5, 0.05)) -> Made:
    """15 % are positive; the last 200 predictions belong to the holdout, where everything is called ham.

    `pi`: flagged, unflagged.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.15
    score = np.where(truth, rng.beta(5, 2, size), rng.beta(2, 6, size))
    outcome = rng.choice(
        [Outcome.MODEL, Outcome.FALLBACK, Outcome.STATIC], size, p=[0.93, 0.05, 0.02]
    ).astype(np.uint8)
    outcome[-200:] = Outcome.HOLDOUT
    flagged = (score >= 0.5) & (outcome != Outcome.HOLDOUT)
    chance = np.where(flagged, *pi).astype(np.float32).astype(np.float64)
    return Made(
        score,
        truth,
        flagged,
        chance,
        rng.random(size) < chance,
        NOW_US - HOUR_US - rng.integers(0, 5 * HOUR_US, size),
        outcome,
    )


def identifier(index: int) -> bytes:
    return struct.pack(">QQ", 0x0190_0000_0000_7000, index + 1)


def batch(made: Made, route: int = 0) -> Batch:
    """The records of all calls, comparisons with shadow spam-v4 for the first 1,000, captures for the sampled."""
    size = len(made.score)
    reasons = np.select(
        [made.outcome == Outcome.FALLBACK, made.outcome == Outcome.STATIC, made.outcome == Outcome.HOLDOUT],
        [int(Reason.LOW_CONFIDENCE), int(Reason.RULE), int(Reason.HOLDOUT)],
        int(Reason.OK),
    )
    index = np.arange(size)
    records = {
        "id_hi": np.full(size, 0x0190_0000_0000_7000, np.uint64),
        "id_lo": (index + 1).astype(np.uint64),
        "row": np.zeros(size, np.uint32),
        "rows": np.ones(size, np.uint32),
        "time_us": made.time_us,
        "duration_us": np.full(size, 1500, np.uint32),
        "overhead_us": (30 + index % 100).astype(np.float32),
        "policy": np.ones(size, np.uint32),
        "route": np.full(size, route, np.uint16),
        "backend": np.where(made.outcome == Outcome.MODEL, 0, 2).astype(np.uint16),
        "outcome": made.outcome,
        "reason": reasons.astype(np.uint8),
        "rule": np.where(made.outcome == Outcome.STATIC, 0, NO_INDEX).astype(np.uint16),
        "label": np.where(made.flagged, 2, 1).astype(np.uint32),
        "flagged": made.flagged.astype(np.uint8),
        "score": made.score,
        "confidence": np.maximum(made.score, 1 - made.score),
        "segment": np.zeros(size, np.uint32),
        "unit": index.astype(np.uint64),
        "stratum": made.flagged.astype(np.uint8),
        "review_pi": made.pi.astype(np.float32),
        "sampled": made.sampled.astype(np.uint8),
        "arm": np.full(size, NO_INDEX, np.uint16),
        "propensity": np.ones(size, np.float32),
        "status": np.zeros(size, np.uint8),
        "request_bytes": np.full(size, 300, np.uint32),
        "answer_bytes": np.full(size, 100, np.uint32),
        **{name: np.zeros(size, np.uint64) for name in ("trace_hi", "trace_lo", "span", "parent")},
        "traced": np.zeros(size, np.uint8),
        "method": np.full(size, NO_STRING, np.uint32),
    }
    few = min(size, 1000)
    mirrors = {
        "time_us": made.time_us[:few],
        "policy": np.ones(few, np.uint32),
        "route": np.full(few, route, np.uint16),
        "backend": np.zeros(few, np.uint16),
        "to": np.full(few, 3, np.uint16),
        "noise": np.zeros(few, np.uint8),
        "segment": np.zeros(few, np.uint32),
        "result": (index[:few] % 50 == 0).astype(np.uint8),
        "agree": np.where(index[:few] % 50 == 0, UNKNOWN, index[:few] % 25 != 1).astype(np.uint8),
        "difference": np.where(index[:few] % 50 == 0, np.nan, 0.02),
        "id_hi": records["id_hi"][:few],
        "id_lo": records["id_lo"][:few],
        "row": np.zeros(few, np.uint32),
    }
    captures = [
        {
            "id": identifier(at),
            "rows": [0],
            "route": "spam",
            "queue": "moderation",
            "request": b"",
            "answer": b"",
            "policy": 1,
            "time_us": int(made.time_us[at]),
        }
        for at in np.flatnonzero(made.sampled)
    ]
    return Batch(records, {}, mirrors, list(STRINGS), captures, NAMES)


def label(made: Made, at: int, source: str, positive: bool) -> LabelRow:
    """What a receipt and a truth make of prediction `at`."""
    facts = Facts(
        time_us=int(made.time_us[at]),
        policy=1,
        route="spam",
        backend="spam-v3",
        segment="",
        outcome=int(made.outcome[at]),
        score=float(made.score[at]),
        flagged=bool(made.flagged[at]),
        review_pi=float(made.pi[at]),
        sampled=bool(made.sampled[at]),
    )
    return LabelRow(identifier(at), 0, source, Truth("spam" if positive else "ham", positive), facts, NOW_US)


def write(folder: Path, made: Made) -> Ledger:
    """An open ledger with the window's records in `folder`/ledger.db."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", clock_us=lambda: NOW_US)
    ledger.open()
    ledger.write_batch(batch(made))
    assert ledger.flush(30.0)
    return ledger


def answer(ledger: Ledger, made: Made, most: int | None = None) -> int:
    """A reviewer who knows the truth answers tasks, oldest first; returns how many."""
    truth = {identifier(at): bool(made.truth[at]) for at in np.flatnonzero(made.sampled)}
    done = 0
    while most is None or done < most:
        task = ledger.lease("moderation", "ann", 600.0).result(10.0)
        if not hasattr(task, "token"):
            break
        positive = truth[task.decision]
        ledger.submit_review(
            task.task, task.token, "ann", lambda _route, p=positive: Truth("spam" if p else "ham", p)
        ).result(10.0)
        done += 1
    return done
