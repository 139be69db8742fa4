"""One gate's sentence and memory, without a ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.autopilot.judging import Memory, judge, target_of
from gateway.config.gates import Gate
from gateway.quality import Detector, Estimate

GATE = Gate(name="holds", metric="precision", at_least=0.93)
FRESH = Memory(("precision", 0.93, True), 1, 1)
NOW_US = 1_790_000_000_000_000


def known(value: float, low: float, high: float, labels: int = 100) -> Estimate:
    return Estimate.known(value, (low, high), labels, "test")


@pytest.mark.parametrize(
    ("gate", "estimate", "verdict", "words"),
    [
        (
            GATE,
            known(0.97, 0.94, 0.99),
            "pass",
            "precision 0.97 [0.94, 0.99] from 100 labels; wanted at least 0.93: pass",
        ),
        (GATE, known(0.94, 0.90, 0.97), "inconclusive", "wanted at least 0.93: neither is shown"),
        (GATE, known(0.20, 0.10, 0.30), "inconclusive", "wanted at least 0.93: neither is shown"),
        (GATE, known(0.99, 0.95, 1.0, 9), "inconclusive", "fewer than the 50 labels that it takes"),
        (
            GATE,
            Estimate.unknown("3 of 10", 3, 7),
            "inconclusive",
            "precision is not known (3 of 10); wanted at least",
        ),
        (
            Gate(name="a", metric="false_positive_rate", at_most=0.025),
            known(0.0111, 0.005, 0.02),
            "pass",
            "false positive rate 0.011 [0.005, 0.020] from 100 labels; wanted at most 0.025: pass",
        ),
        (
            Gate(name="a", metric="f0.5", at_least=0.5, pass_at=0.6),
            known(0.6, 0.55, 0.7),
            "inconclusive",
            "f0.5 0.60 [0.55, 0.70] from 100 labels; wanted at least 0.5 (0.6 for a pass): neither is shown",
        ),
    ],
)
def test_the_sentence(gate: Gate, estimate: Estimate, verdict: str, words: str) -> None:
    """The interval alone never fails a gate: looked at again and again it would, by chance."""
    target = target_of(gate)
    memory = Memory((target.metric, target.bound, target.at_least), 1, 1)
    said, number, told, _ = judge(gate, memory, estimate, None, 0, NOW_US)
    assert said == verdict
    assert words in told
    assert number == estimate


def test_an_alarm_fails_until_it_has_left_the_window() -> None:
    """With its own beginning, whatever was seen between; without labels enough it is no verdict yet."""
    alarmed = Memory(("precision", 0.93, True), 1, 1, Detector(labels=70), alarm_us=500)
    bad = known(0.8, 0.7, 0.87, 70)
    said, _, words, memory = judge(GATE, alarmed, bad, None, 400, NOW_US)
    assert (said, memory.since_us, memory.row) == ("fail", NOW_US, 1)
    assert words.endswith("fail since 2026-09-21 14:13 UTC")
    said, _, again, memory = judge(GATE, memory, bad, None, 450, NOW_US + 10**9)
    assert (said, again, memory.row) == ("fail", words, 1)
    said, _, _, memory = judge(GATE, memory, bad, None, 501, NOW_US + 2 * 10**9)
    assert (said, memory.since_us, memory.row, memory.alarm_us) == ("inconclusive", None, 0, None)
    few = Memory(("precision", 0.93, True), 1, 1, Detector(labels=20), alarm_us=500)
    assert judge(GATE, few, known(0.2, 0.1, 0.4, 20), None, 400, NOW_US)[0] == "inconclusive"


def test_memory_survives_json_and_nothing_else_is_taken_for_it() -> None:
    """What another version kept begins anew, it does not stop the gate."""
    memory = Memory(("recall", 0.5, True), 5, 9, Detector(labels=3), 7, True, 8, 2, 3, "pass", "fail", 11)
    assert Memory.of(json.loads(json.dumps(memory.as_dict()))) == memory
    for broken in (
        {},
        {"target": ["a", 1, 2]},
        memory.as_dict() | {"cursor_us": "x"},
        memory.as_dict() | {"detector": 5},
    ):
        assert Memory.of(broken) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(FRESH.as_dict())), value=JSON)
def test_a_broken_memory_never_breaks_a_look(name: str, value: Any) -> None:
    """Either it is refused, or the gate can be judged by it."""
    memory = Memory.of({**FRESH.as_dict(), name: value})
    if memory is not None:
        judge(GATE, memory, known(0.8, 0.7, 0.9), None, 0, NOW_US)
