"""What gates read, on both databases: tallies, new labels in their order, what is open, and what was done."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from gateway.autopilot.gates import GateWatch
from gateway.ledger import Ledger, Limits, Window, acts, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.gate_input import changed_us, gate_cells, label_marks, new_labels, oldest_open_us
from gateway.ledger.grid import HOUR_US
from tests.autopilot.labelled import START_US, Flow, Model, Writer, close_tasks, open_task, settings


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url, Limits(linger_s=0.0), lambda: START_US)
    opened.open()
    yield opened
    opened.close()


def test_cells_add_up_to_what_the_report_reads(ledger: Ledger) -> None:
    """The same predictions and labels, in fewer rows; those of other routes and hours are left out."""
    writer = Writer(ledger, 1101)
    for hour in range(3):
        writer.hour(["spam", "mail"], START_US + hour * HOUR_US, Model(0.9), segment="device=tv")
    first = START_US // HOUR_US
    predictions, labels = gate_cells(ledger.reader, first + 1, first + 3, "spam")
    population = ledger.reader.population(Window(START_US + HOUR_US, START_US + 3 * HOUR_US, "spam"))
    labelled = ledger.reader.labelled(Window(START_US + HOUR_US, START_US + 3 * HOUR_US, "spam"))
    for flagged in (True, False):
        of = predictions.flagged == flagged
        assert predictions.count[of].sum() == population.rows[population.flagged == flagged].sum()
        known = labelled.flagged == flagged
        for positive in (True, False):
            here = (labels.flagged == flagged) & (labels.positive == positive)
            assert labels.count[here].sum() == (known & (labelled.positive == positive)).sum()
    assert set(predictions.route.tolist()) == {"spam"}
    both, _ = gate_cells(ledger.reader, first, first + 3)
    assert set(both.route.tolist()) == {"mail", "spam"}
    assert both.count.sum() == 3 * 2 * 240
    assert set(both.segment.tolist()) == {"device=tv"}
    empty = gate_cells(ledger.reader, first + 9, first + 9)
    assert [len(one.count) for one in empty] == [0, 0]


def test_new_labels_come_in_the_order_of_their_predictions(ledger: Ledger) -> None:
    """Later hours were answered first; what is outside the two times is not read."""
    writer = Writer(ledger, 1102)
    for hour in (2, 0, 1):
        writer.hour(["spam"], START_US + hour * HOUR_US, Model(0.9), Flow(20, 20))
    found = new_labels(ledger.reader, START_US + HOUR_US, START_US + 3 * HOUR_US)
    assert len(found.time_us) > 10
    assert (np.diff(found.time_us) >= 0).all()
    assert found.time_us.min() > START_US + HOUR_US
    assert len(new_labels(ledger.reader, START_US - 1, START_US + 3 * HOUR_US).time_us) > len(found.time_us)
    last = int(found.time_us[-1])
    assert last not in new_labels(ledger.reader, START_US, last).time_us
    marks = label_marks(ledger.reader, 0)
    assert set(marks) == {"spam"}
    assert label_marks(ledger.reader, marks["spam"]) == {}


def test_what_is_open_and_what_was_done(ledger: Ledger) -> None:
    """The oldest open prediction by route; acts that changed a route, not those that only told."""
    writer = Writer(ledger, 1103)
    writer.hour(["spam"], START_US, Model(0.5), Flow(40, 0), hold_back=True)
    first, second = sorted(writer.late, key=lambda row: row["time_us"])[:2]
    for row in (second, first):
        open_task(ledger, row, START_US + HOUR_US)
    assert oldest_open_us(ledger.reader, START_US) == {"spam": first["time_us"]}
    assert oldest_open_us(ledger.reader, START_US + 2 * HOUR_US) == {}
    between, after = second["time_us"], second["time_us"] + 1
    assert oldest_open_us(ledger.reader, START_US, {"spam": between}) == {"spam": second["time_us"]}
    assert oldest_open_us(ledger.reader, START_US, {"spam": after, "mail": 0}) == {}
    close_tasks(ledger, START_US + HOUR_US)
    assert oldest_open_us(ledger.reader, START_US) == {}
    for at, state, after in ((1, "done", 5), (2, "done", None), (3, "begun", 6), (4, "proposed", None)):
        act = Act(START_US + at, "spam", "holds", "roll_back", state, "", "autopilot", 4, after)
        ledger.transact(partial(acts.note, act=act)).result()
    assert changed_us(ledger.reader, START_US) == {"spam": START_US + 1}
    assert changed_us(ledger.reader, START_US + 2) == {}


def test_a_cycle_on_either_database(ledger: Ledger) -> None:
    """From rows to a verdict that is kept, with its memory."""
    writer, watch = Writer(ledger, 1104), GateWatch(ledger)
    made = settings(["spam"], "{name: each, metric: precision, at_least: 0.9, segment: device}")
    for hour in range(0, 12, 3):
        at_us = START_US + hour * HOUR_US
        writer.hour(["spam"], at_us, Model(0.5), Flow(60, 60), "device=tv")
        writer.hour(["spam"], at_us, Model(1.0), Flow(60, 60), "device=pc")
    judged = watch.evaluate(made, 7, START_US + 40 * HOUR_US)
    assert {one.verdict.segment: one.verdict.verdict for one in judged} == {
        "device=tv": "fail",
        "device=pc": "pass",
    }
    kept = ledger.reader.snapshot(verdicts.latest)
    assert sorted(kept, key=lambda one: one.segment) == [one.verdict for one in judged]
    assert set(ledger.states("gate")) == {("spam", "each|device=tv"), ("spam", "each|device=pc")}
