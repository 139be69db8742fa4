"""What watchers remember, what gates said, and what was done: kept, found again, and taken away when it is old."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from gateway.errors import LedgerError
from gateway.ledger import Ledger, acts, audit, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.retention import Keep
from gateway.ledger.states import MOST_BYTES
from gateway.ledger.verdicts import Verdict
from tests.ledger.making import NOW_US, Clock

DAY_US = 86_400_000_000
SAID = Verdict(NOW_US, 3, "spam", "holds", "", "fail", 0.8, 0.7, 0.9, 212, "precision 0.80, wanted 0.93")
DONE = Act(NOW_US, "spam", "holds", "roll_back", "proposed", "precision fell", "autopilot", before=3)


def test_a_state_is_replaced_as_a_whole_and_forgotten_when_told(ledger: Ledger) -> None:
    """What is left of an older state would be believed."""
    ledger.put_states("gate", {("spam", "holds"): {"a": [1.5], "b": 2}, ("spam", "other"): {}})
    ledger.put_states("drift", {("spam", "holds"): {"c": None}})
    ledger.put_states("gate", {("spam", "holds"): {"a": [2.5]}, ("spam", "other"): None})
    assert ledger.states("gate") == {("spam", "holds"): {"a": [2.5]}}
    assert ledger.states("drift") == {("spam", "holds"): {"c": None}}


@pytest.mark.parametrize("value", [{"a": "x" * MOST_BYTES}, {"a": float("nan")}])
def test_a_state_that_cannot_be_kept_changes_nothing(ledger: Ledger, value: dict[str, object]) -> None:
    """NaN is no JSON: PostgreSQL and other readers would stumble over it for ever."""
    ledger.put_states("gate", {("spam", "holds"): {"a": 1}})
    with pytest.raises((LedgerError, ValueError)):
        ledger.put_states("gate", {("spam", "aaa"): {"a": 1}, ("spam", "holds"): value})
    assert ledger.states("gate") == {("spam", "holds"): {"a": 1}}


def test_the_last_verdict_of_each_gate_and_segment_is_found(ledger: Ledger) -> None:
    """A gate that passes in one segment may fail in another."""
    said = [
        SAID,
        replace(SAID, time_us=NOW_US + 1, verdict="pass"),
        replace(SAID, segment="device=phone", value=None, low=None, high=None, verdict="inconclusive"),
        replace(SAID, route="fraud", time_us=NOW_US + 2),
    ]
    ledger.transact(partial(verdicts.note, verdicts=said)).result()
    assert ledger.reader.snapshot(verdicts.latest) == [said[3], said[1], said[2]]
    assert ledger.reader.snapshot(partial(verdicts.latest, route="fraud")) == [said[3]]
    assert ledger.reader.snapshot(partial(verdicts.history, route="spam", limit=2)) == [said[1], said[2]]
    assert ledger.reader.snapshot(partial(verdicts.history, since_us=NOW_US + 1)) == [said[1], said[3]]


def test_a_proposal_waits_until_it_is_answered(ledger: Ledger) -> None:
    """Twice approved would be done twice."""
    first = ledger.transact(partial(acts.note, act=DONE)).result()
    second = ledger.transact(partial(acts.note, act=replace(DONE, route="fraud"))).result()
    assert [one.id for one in ledger.reader.snapshot(acts.waiting)] == [first, second]
    answer = replace(DONE, state="done", of=first, after=4, actor="ann", details={"version": 2})
    ledger.transact(partial(acts.note, act=answer)).result()
    assert [one.id for one in ledger.reader.snapshot(acts.waiting)] == [second]
    assert ledger.reader.snapshot(partial(acts.waiting, route="spam")) == []
    found = ledger.reader.snapshot(partial(acts.history, route="spam"))
    assert [(one.state, one.of, one.after, one.details) for one in found] == [
        ("proposed", None, None, {}),
        ("done", first, 4, {"version": 2}),
    ]
    assert ledger.reader.snapshot(partial(acts.find, entry=first)) == found[0]
    trail = ledger.reader.snapshot(partial(audit.entries, action="autopilot"))
    assert [(one.actor, one.action) for one in trail][::2] == [
        ("autopilot", "autopilot.proposed"),
        ("ann", "autopilot.done"),
    ]


def test_old_verdicts_and_acts_go_with_the_audit_trail(ledger: Ledger, clock: Clock) -> None:
    """A gate that is looked at every minute must not fill the disk."""
    ledger.transact(partial(verdicts.note, verdicts=[SAID])).result()
    ledger.transact(partial(acts.note, act=DONE)).result()
    clock.pass_s(2 * 86_400)
    ledger.transact(partial(verdicts.note, verdicts=[replace(SAID, time_us=clock())])).result()
    gone = ledger.tidy(Keep(audit_us=DAY_US))
    assert (gone.deleted["verdicts.age"], gone.deleted["acts.age"]) == (1, 1)
    assert len(ledger.reader.snapshot(verdicts.latest)) == 1
