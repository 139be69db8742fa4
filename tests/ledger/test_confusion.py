"""Counters of labels: they add up as labels come, and a correction takes back what it corrects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ledger import REVIEW, Ledger
from gateway.ledger.confusion import Cell, Confusion, LabelCount
from gateway.types import Outcome
from tests.ledger.making import label


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
