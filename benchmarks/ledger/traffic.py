"""Batches of records as a busy gateway's data plane hands them over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import sqlalchemy as sa

from gateway.ledger import Ledger
from gateway.ledger.review import counts
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

START_US, STEP = 1_790_000_000_000_000, 50_000
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
    """Open tasks of one queue, with their decisions and payloads; indexes and the planner's numbers are up to date."""
    on_postgresql = ledger._engine.dialect.name == "postgresql"
    for start in range(0, tasks, STEP):
        work = partial(_fill, start=start, end=min(tasks, start + STEP), on_postgresql=on_postgresql)
        ledger._writer.submit(work).result(600)
    with ledger._engine.connect() as connection:
        if on_postgresql:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("VACUUM ANALYZE" if on_postgresql else "ANALYZE")
        connection.commit()


def _fill(connection: sa.Connection, start: int, end: int, on_postgresql: bool) -> None:
    """By the database itself: a million rows one by one would take longer than what is measured."""
    if on_postgresql:
        numbers = f"generate_series({start}, {end - 1}) AS made (n)"
        decision, payload = "convert_to(lpad(n::text, 16, '0'), 'UTF8')", "decode(repeat('78', 600), 'hex')"
    else:
        numbers = (
            f"(WITH RECURSIVE made (n) AS (SELECT {start} UNION ALL SELECT n + 1 FROM made WHERE n + 1 < {end}) "
            "SELECT n FROM made)"
        )
        decision, payload = "CAST(printf('%016d', n) AS BLOB)", "zeroblob(600)"
    time_us = f"{START_US} + n"
    tables: dict[str, dict[str, str]] = {
        "decisions": {
            "time_us": time_us, "row": "0", "policy": "1", "route": "'spam'", "backend": "'spam-v3'",
            "segment": "''", "outcome": "0", "reason": "'ok'", "label": "'spam'", "score": "0.9", "flagged": "true",
            "stratum": "1", "review_pi": "0.01", "sampled": "true", "propensity": "1.0", "unit": "5",
        },
        "captures": {"time_us": time_us, "request": payload, "answer": payload},
        "review_tasks": {
            "row": "0", "queue": "'moderation'", "home": "'moderation'", "created_us": time_us, "lease_token": "0",
            "lease_until_us": "0", "reviewer": "''",
        },
    }  # fmt: skip
    for table, values in tables.items():
        names, made = ", ".join(["decision", *values]), ", ".join([decision, *values.values()])
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) SELECT {made} FROM {numbers}")
    counts.note(connection, "moderation", "open", end - start)


__all__ = ["ROWS", "SEGMENTS", "batches", "fill_queue"]
