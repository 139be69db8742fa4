"""Counters of labels: they add up as labels come, and a correction takes back what it corrects."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import REVIEW, Ledger, Truth
from gateway.ledger.confusion import Cell, Confusion, LabelCount
from gateway.ledger.retention import Keep
from gateway.types import Outcome
from tests.ledger.making import Clock, label


def test_cells_are_weighted_by_one_over_the_inclusion_probability(ledger: Ledger) -> None:
    """Each reviewed prediction stands for those that were not chosen."""
    counted = Confusion()
    ledger.submit_labels([label(1, True, source=REVIEW), label(2, False, source=REVIEW)]).result()
    counted.read(ledger.reader)
    ledger.submit_labels([label(3, True, source=REVIEW)]).result()
    counted.read(ledger.reader)
    counted.read(ledger.reader)
    tp, fp = (Cell("spam", "device=phone", cell) for cell in ("tp", "fp"))
    assert dict(counted.counts) == {tp: 2, fp: 1}
    assert counted.weighted[tp] == pytest.approx(8.0)
    assert counted.weighted[fp] == pytest.approx(4.0)


def test_a_correction_takes_back_what_it_corrects(ledger: Ledger) -> None:
    """A reviewer who changes their mind is counted once, in the new cell."""
    counted = Confusion()
    for positive in (True, False):
        ledger.submit_labels([label(1, positive, source=REVIEW)]).result()
        counted.read(ledger.reader)
    assert counted.counts[Cell("spam", "device=phone", "tp")] == 0
    assert counted.counts[Cell("spam", "device=phone", "fp")] == 1


def test_feedback_and_holdout_are_counted_as_labels_only(ledger: Ledger) -> None:
    """Nobody knows who gives feedback, and no model judged a held-out unit."""
    counted = Confusion()
    held_out = label(2, True, source=REVIEW)
    held_out = replace(held_out, facts=replace(held_out.facts, outcome=int(Outcome.HOLDOUT)))
    ledger.submit_labels([label(1, True), held_out]).result()
    counted.read(ledger.reader)
    assert dict(counted.counts) == {}
    assert dict(counted.labels) == {
        LabelCount("spam", "app", "label"): 1,
        LabelCount("spam", REVIEW, "label"): 1,
    }


def everything(ledger: Ledger) -> None:
    """Labels, a correction, one that is taken back, signals and an outcome, said twice."""
    taken_back = replace(label(3, source=REVIEW), truth=Truth())
    thumbs = replace(label(4), truth=Truth(value=1.0, signal="thumbs"))
    for rows in (
        [label(1, source=REVIEW), label(2, False, source=REVIEW), label(3, source=REVIEW), label(1)],
        [label(2, True, source=REVIEW), taken_back, thumbs, label(5, value=2.0)],
        [replace(thumbs, truth=Truth(value=-1.0, signal="thumbs")), label(5, value=3.0)],
    ):
        ledger.submit_labels(rows).result()


def test_who_starts_late_counts_what_who_was_there_counted(ledger: Ledger, clock: Clock) -> None:
    """By tallies and indexes it comes to the same as one label after the other, also where hours were rolled."""
    ledger.submit_labels([label(9, route="other")]).result()
    there, late = Confusion(), Confusion()
    there.read(ledger.reader)
    everything(ledger)
    there.read(ledger.reader)
    clock.pass_s(40 * 24 * 3600)
    ledger.tidy(Keep())
    late.read(ledger.reader)
    assert late.labels == there.labels
    assert +Counter(late.counts) == +Counter(there.counts)
    assert late.labels[LabelCount("spam", REVIEW, "label", "corrected")] == 2
    assert late.labels[LabelCount("spam", REVIEW, "label")] == 3


def test_a_start_passes_over_no_labels(sqlite_ledger: Ledger) -> None:
    """Ten million that were right at once cost nothing: what is not in the tallies has an index."""
    everything(sqlite_ledger)
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        seen.append((statement, parameters))

    sa.event.listen(sqlite_ledger.reader._engine, "before_cursor_execute", note)
    Confusion().read(sqlite_ledger.reader)
    sa.event.remove(sqlite_ledger.reader._engine, "before_cursor_execute", note)
    with sqlite_ledger._engine.connect() as connection:
        plans = [
            str(row[3])
            for statement, parameters in seen
            for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
        ]
    assert not [step for step in plans if step.startswith("SCAN labels") and "INDEX" not in step], plans
    for index in ("ix_labels_revised", "ix_labels_signals"):
        assert any(index in step for step in plans), plans
