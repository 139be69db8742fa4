"""Batches of records as a busy gateway's data plane hands them over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import sqlalchemy as sa

from gateway.ledger import Ledger, schema
from gateway.ledger.database import insert_tasks
from gateway.runtime.batch import Batch, PolicyNames
from gateway.types import NO_INDEX

ROWS = 4096
"""Records a batch: as many as the data plane hands over at once."""

SEGMENTS = tuple(
    f"device={device},country={country}" for device in ("phone", "web") for country in ("de", "fr", "us", "")
)
LABELS = ("ham", "spam")
NAMES = {1: PolicyNames(("spam", "fraud"), ("spam-v3", "spam-lite", "ham"), (("allow-list",), ()))}
PROBABILITIES = np.array([0.002, 0.004, 0.01, 0.02, 0.02, 0.01], dtype=np.float32)
"""Of review, by stratum: score bins on both sides of the threshold."""

REQUEST, ANSWER = b"x" * 600, b"y" * 200


def batches(seed: int, start_us: int, records_per_s: float) -> Iterator[Batch]:
    """Without end; times go on as if `records_per_s` came in.

    Two routes, three backends, eight segments, all 1,000 bins of scores: about 0.5 distinct keys of tally_scores a
    record within one batch. 0.4 % of the records are sampled for review, with their payload.
    """
    rng = np.random.default_rng(seed)
    time_us = start_us
    while True:
        score = rng.beta(0.6, 2.5, ROWS)
        stratum = np.minimum((score * 6).astype(np.uint8), 5)
        pi = PROBABILITIES[stratum]
        fallback = rng.random(ROWS) < 0.05
        ids = rng.integers(0, 2**63, ROWS, dtype=np.uint64)
        sampled = rng.random(ROWS) < pi
        times = time_us + (np.arange(ROWS) * (1e6 / records_per_s)).astype(np.int64)
        time_us = int(times[-1])
        records = {
            "id_hi": np.full(ROWS, time_us, dtype=np.uint64),
            "id_lo": ids,
            "row": np.zeros(ROWS, dtype=np.uint32),
            "rows": np.ones(ROWS, dtype=np.uint32),
            "time_us": times,
            "duration_us": np.full(ROWS, 2_000, dtype=np.uint32),
            "overhead_us": rng.lognormal(3.7, 0.5, ROWS).astype(np.float32),
            "policy": np.ones(ROWS, dtype=np.uint32),
            "route": (rng.random(ROWS) < 0.2).astype(np.uint16),
            "backend": fallback.astype(np.uint16),
            "outcome": fallback.astype(np.uint8),
            "reason": fallback.astype(np.uint8),
            "rule": np.full(ROWS, NO_INDEX, dtype=np.uint16),
            "label": (8 + (score >= 0.5)).astype(np.uint32),
            "flagged": (score >= 0.5).astype(np.uint8),
            "score": score,
            "confidence": np.maximum(score, 1 - score),
            "segment": rng.integers(0, 8, ROWS).astype(np.uint32),
            "unit": ids,
            "stratum": stratum,
            "review_pi": pi,
            "sampled": sampled.astype(np.uint8),
            "arm": np.full(ROWS, NO_INDEX, dtype=np.uint16),
            "propensity": np.ones(ROWS, dtype=np.float32),
            "status": np.zeros(ROWS, dtype=np.uint8),
        }
        captures = [
            {
                "id": int(records["id_hi"][at]).to_bytes(8, "big") + int(ids[at]).to_bytes(8, "big"),
                "rows": [0],
                "route": "spam",
                "queue": "moderation",
                "request": REQUEST,
                "answer": ANSWER,
                "policy": 1,
                "time_us": int(times[at]),
            }
            for at in np.flatnonzero(sampled)
        ]
        none = {name: np.zeros(0, dtype=np.int64) for name in ("route", "policy", "row")}
        yield Batch(records, {}, none, [*SEGMENTS, *LABELS], captures, NAMES, none)


def fill_queue(ledger: Ledger, tasks: int) -> None:
    """Open tasks of one queue, with their decisions and payloads."""
    for start in range(0, tasks, 20_000):
        numbers = range(start, min(tasks, start + 20_000))
        ids = [number.to_bytes(16, "big") for number in numbers]
        times = [1_790_000_000_000_000 + number for number in numbers]
        rows = list(zip(ids, times, strict=True))
        ledger._writer.submit(partial(_insert, rows=rows)).result(120)
    analyse = "VACUUM ANALYZE" if ledger._engine.dialect.name == "postgresql" else "ANALYZE"
    with ledger._engine.connect().execution_options(
        **({"isolation_level": "AUTOCOMMIT"} if analyse != "ANALYZE" else {})
    ) as connection:
        connection.exec_driver_sql(analyse)


def _insert(connection: sa.Connection, rows: list[tuple[bytes, int]]) -> None:
    facts = {
        "row": 0, "policy": 1, "route": "spam", "backend": "spam-v3", "segment": "", "outcome": 0, "reason": "ok",
        "label": "spam", "score": 0.9, "flagged": True, "stratum": 1, "review_pi": 0.01, "sampled": True,
        "propensity": 1.0, "unit": 5,
    }  # fmt: skip
    ids = [{"decision": decision, "time_us": time_us} for decision, time_us in rows]
    connection.execute(sa.insert(schema.decisions), [{**one, **facts} for one in ids])
    connection.execute(
        sa.insert(schema.captures), [{**one, "request": REQUEST, "answer": ANSWER} for one in ids]
    )
    insert_tasks(
        connection,
        [
            {
                "decision": decision,
                "row": 0,
                "queue": "moderation",
                "created_us": time_us,
                "lease_token": 0,
                "lease_until_us": 0,
                "reviewer": "",
            }
            for decision, time_us in rows
        ],
    )


__all__ = ["ROWS", "SEGMENTS", "batches", "fill_queue"]
