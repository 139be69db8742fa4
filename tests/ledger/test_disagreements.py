"""Reviewers who contradict each other are counted by route, and widen what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from gateway.ledger import Ledger, Window, schema
from gateway.ledger.disagreements import disagreements
from gateway.ledger.quality import route_quality
from gateway.quality import Disagreement
from tests.report import traffic


def test_pairs_of_answers_widen_the_interval(tmp_path: Path) -> None:
    """Of 100 tasks with two answers a fifth was settled between contradictions; the value stays what it was."""
    made = traffic.make(2000, seed=3, pi=(0.8, 0.2))
    ledger = traffic.write(tmp_path, made)
    try:
        sampled = np.flatnonzero(made.sampled)
        rows = [traffic.label(made, int(at), "review", bool(made.truth[at])) for at in sampled]
        half = len(rows) // 2
        ledger.submit_labels(rows[half:]).result(30.0)
        alone = route_quality(ledger.reader, "spam")
        assert disagreements(ledger.reader, Window()) == {}
        ledger.submit_labels(
            [
                replace(row, reviews=2, agreement=0.5 if index < 20 else 1.0)
                for index, row in enumerate(rows[:100])
            ]
        ).result(30.0)
        ledger.submit_labels(rows[100:half]).result(30.0)
        answered_twice(ledger, 100, rows[:100])
        assert disagreements(ledger.reader, Window(route="spam")) == {"spam": Disagreement(100, 20)}
        assert disagreements(ledger.reader, Window(until_us=0)) == {}
        found = route_quality(ledger.reader, "spam")
    finally:
        ledger.close()
    precision, before = found.numbers.precision, alone.numbers.precision
    assert "contradict each other in 20 of 100 pairs" in str(precision.note)
    assert precision.high is not None
    assert precision.low is not None
    assert before.high is not None
    assert before.low is not None
    assert precision.high - precision.low > before.high - before.low, "twice the labels, and less sure"
    assert found.rates.accuracy.value is not None


def answered_twice(ledger: Ledger, many: int, rows: list) -> None:
    task = schema.review_tasks
    wanted = [row.decision for row in rows]
    changed = ledger.submit(
        lambda connection: (
            connection.execute(
                sa.update(task).where(task.c.decision.in_(wanted)).values(reviews=2, done_us=traffic.NOW_US)
            ).rowcount
        )
    ).result(10.0)
    assert changed == many
