"""Costs as a user writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import read_text
from gateway.quality import Costs
from tests.config.examples import TEN_LINES
from tests.config.test_gates import read, route


def test_two_numbers_are_enough() -> None:
    """Being right costs nothing, and nobody reviews."""
    costs = route("costs: {false_positive: 5, false_negative: 1}").costs
    assert costs is not None
    assert costs.model_dump() == {
        "false_positive": 5.0,
        "false_negative": 1.0,
        "true_positive": 0.0,
        "true_negative": 0.0,
        "review": 0.0,
    }


def test_what_settings_allow_is_what_the_arithmetic_takes() -> None:
    """The same names, and no refusal behind the first one."""
    costs = route("costs: {false_positive: 5, false_negative: 1, true_positive: -3, review: 0.4}").costs
    assert costs is not None
    assert Costs(**costs.model_dump()).true_positive == -3.0


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ("{false_positive: 0, false_negative: 1}", "a false_positive costs 0"),
        ("{false_positive: 1, false_negative: 2, true_positive: 2}", "a false_negative costs 2"),
        ("{false_positive: 1, false_negative: 2, review: -1}", "at least 0"),
        ("{false_positive: 1}", "false_negative"),
        ("{false_positive: 1, false_negative: 2, reviews: 1}", "did you mean review?"),
    ],
)
def test_costs_that_make_no_sense_are_one_fault(costs: str, words: str) -> None:
    """At their line, with the mend."""
    faults = read(f"costs: {costs}").faults
    assert len(faults) == 1
    assert words in str(faults[0])


def test_costs_need_to_know_what_is_positive() -> None:
    """Without the class there is neither kind of mistake."""
    without = TEN_LINES.replace(", positive: spam", "")
    assert without != TEN_LINES
    text = without + "    costs: {false_positive: 1, false_negative: 2}\n"
    found = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={}).faults
    assert any("costs without prediction.positive" in str(fault) for fault in found)
