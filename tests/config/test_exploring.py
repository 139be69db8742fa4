"""Exploration as a user writes it: what its shares begin with, and which settings could never be kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gateway.config import read_text
from gateway.config.exploring import Explore
from tests.config.examples import TEN_LINES

MODELS = '  spam-v4: {grpc: "h:1", model: spam}\n  spam-v5: {grpc: "h:2", model: spam}\nroutes:'


def faults(explore: str, *, prediction: str | None = None, chain: str | None = None) -> list[str]:
    """Of the ten lines with two more models and an `explore` block."""
    text = TEN_LINES.replace("routes:", MODELS, 1) + f"    explore: {explore}\n"
    if prediction is not None:
        text = text.replace("{scores: probabilities, classes: [ham, spam], positive: spam}", prediction)
    if chain is not None:
        text = text.replace("chain: [spam-v3, ham]", f"chain: {chain}")
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    return [str(fault) for fault in loaded.faults]


def explore(**given: object) -> Explore:
    return Explore.model_validate({"arms": ["a", "b", "c"]} | given)


def test_without_an_algorithm_shares_stay_as_they_were_written() -> None:
    """As in every file written before there were algorithms."""
    fixed = explore()
    assert (fixed.algorithm, fixed.learns) == ("fixed", False)
    assert fixed.start("a") == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def test_names_alone_begin_within_the_cap() -> None:
    """What is new gets a tenth each, not a third, before anything is known of it."""
    start = explore(algorithm="thompson").start("a")
    assert start == {"a": 0.8, "b": 0.1, "c": 0.1}
    assert math.fsum(start.values()) == 1.0
    uneven = explore(arms=["a", "b", "c", "d"], algorithm="thompson", cap=0.2, floor=0.05).start("a")
    assert uneven == {"a": 0.8002, "b": 0.0666, "c": 0.0666, "d": 0.0666}
    assert explore(algorithm="thompson", cap=1.0).start("a") == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    given = {"a": 0.85, "b": 0.1, "c": 0.05}
    assert explore(arms=given, algorithm="thompson").start("a") == given


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (
            "{arms: {spam-v3: 0.97, spam-v4: 0.03}, algorithm: thompson}",
            "spam-v4 starts at 0.03; wanted the floor of 0.05",
        ),
        (
            "{arms: {spam-v3: 0.7, spam-v4: 0.3}, algorithm: thompson}",
            "start at 0.3 together; wanted the cap of 0.2",
        ),
        (
            "{arms: [spam-v4, spam-v5], algorithm: thompson}",
            "spam-v3, the first of the chain, is no arm; wanted",
        ),
        (
            "{arms: [spam-v3, spam-v4], algorithm: thomson}",
            'found "thomson"; wanted fixed, thompson or epsilon_greedy',
        ),
        (
            "{arms: [spam-v3, spam-v4], reward: outcome, range: [5, 1]}",
            "5 to 1; wanted the lower number first",
        ),
        ("{arms: [spam-v3, spam-v4], until: sunday}", 'found "sunday"; wanted winner or never'),
        ("{arms: [spam-v3, spam-v4], algorithm: thompson, every_s: 0}", "found 0; wanted more than 0"),
        ("{arms: [spam-v3, spam-v4], algorithm: thompson, delta: 0}", "found 0; wanted more than 0"),
    ],
)
def test_what_cannot_be_kept_is_one_fault_with_its_line(block: str, fault: str) -> None:
    """Before anything is served."""
    [found] = faults(block)
    assert found.startswith("g.yaml:11:")
    assert fault in found


def test_learning_wants_something_to_learn_from() -> None:
    """A route whose predictions are values has no right and wrong."""
    blocks = "{arms: [spam-v3, spam-v4], algorithm: epsilon_greedy}"
    bare = "{scores: probabilities, classes: [ham, spam]}"
    [found] = faults(blocks, prediction=bare)
    assert "epsilon_greedy without a reward; wanted reward: outcome or signal:<name>" in found
    [found] = faults(blocks.replace("}", ", reward: label}"), prediction=bare)
    assert "label without prediction.positive" in found
    assert faults(blocks.replace("}", ", reward: 'signal:kept'}"), prediction=bare) == []
