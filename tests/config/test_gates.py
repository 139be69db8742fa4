"""Objectives and gates as a user writes them: what they mean, and which of them could never come to a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gateway.config import Loaded, Route, read_text
from gateway.config.gates import ACTS, Metric
from gateway.config.objective import PRESETS, Preset
from gateway.quality.sequential import METRICS
from tests.config.examples import TEN_LINES

FLOOR = "    confidence: {floor: 0.8}"


def read(*lines: str) -> Loaded:
    """The ten lines with further ones in the route."""
    text = TEN_LINES + "".join(f"    {line}\n" for line in lines)
    return read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})


def route(*lines: str) -> Route:
    loaded = read(*lines)
    assert loaded.settings is not None, loaded.faults
    return loaded.settings.routes["spam"]


@pytest.mark.parametrize(
    ("objective", "first"),
    [
        ("{prioritise: recall, precision: 0.9}", "recall"),
        ("{precision: 0.9}", "precision"),
        ("{recall: 0.9}", "recall"),
        ("{precision: 0.9, recall: 0.5}", "both"),
        ("{preset: fraud_detection}", "recall"),
        ("{preset: limited_space, recall: 0.5}", "precision"),
    ],
)
def test_what_comes_first(objective: str, first: str) -> None:
    """The review budget is divided by it."""
    wanted = route(f"objective: {objective}").objective
    assert wanted is not None
    assert wanted.first == first


def test_every_preset_has_a_side() -> None:
    """Three of each, as product people know them."""
    assert set(PRESETS) == set(get_args(Preset))
    assert sorted(PRESETS.values()) == ["precision"] * 3 + ["recall"] * 3


def test_an_objective_without_gates_makes_gates_that_only_tell() -> None:
    """Nobody's traffic is moved by a gate that he did not write."""
    made = route("objective: {prioritise: precision, precision: 0.95, recall: 0.6}").watched
    assert [(gate.name, gate.metric, gate.at_least, gate.then.name) for gate in made] == [
        ("objective-precision", "precision", 0.95, "notify"),
        ("objective-recall", "recall", 0.6, "notify"),
    ]
    assert route("objective: {preset: compliance}").watched == ()
    assert route().watched == ()


def test_written_gates_stand_alone() -> None:
    """Gates beside an objective are all there are."""
    made = route(
        "objective: {precision: 0.95}",
        "gates: [{name: a, metric: recall, at_most: 0.9, pass_at: 0.8, then: {roll_back: ham}}]",
    ).watched
    assert [(gate.name, gate.bound, gate.passes_at, gate.then.backend) for gate in made] == [
        ("a", 0.9, 0.8, "ham")
    ]


@pytest.mark.parametrize("act", ACTS)
def test_each_act_may_be_written_as_a_word(act: str) -> None:
    """As rules write theirs."""
    explore = ["explore: {arms: [spam-v3, spam-v4]}"] if act == "stop_exploring" else []
    text = TEN_LINES.replace("routes:", '  spam-v4: {grpc: "h:1"}\nroutes:')
    lines = [*explore, f"gates: [{{name: a, metric: f1, at_least: 0.9, then: {act}}}]"]
    loaded = read_text(
        text + "".join(f"    {line}\n" for line in lines), name="g.yaml", folder=Path("/nowhere"), env={}
    )
    assert loaded.settings is not None, loaded.faults
    assert loaded.settings.routes["spam"].gates[0].then.name == act


def test_settings_and_arithmetic_know_the_same_metrics() -> None:
    """`config` may not import `quality`, so the list stands twice."""
    assert get_args(Metric) == METRICS


GATE = "gates: [{name: a, metric: recall, at_least: 0.9}]"


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        ([GATE], "nobody reviews this route"),
        (["objective: {precision: 0.9}"], "nobody reviews this route"),
        ([GATE, "review: {share: {flagged: 0.5, low: 0}}"], "what is not flagged is never reviewed"),
        ([GATE, "review: {share: {flagged: 0, low: 0.1}}"], "what is flagged is never reviewed"),
    ],
)
def test_a_gate_that_can_never_come_to_a_verdict_is_told(lines: list[str], warning: str) -> None:
    """A net that never closes must not look like one."""
    loaded = read(*lines)
    assert not loaded.faults
    assert sum(warning in str(one) for one in loaded.warnings) == 1, loaded.warnings


@pytest.mark.parametrize(
    "lines",
    [
        [GATE, "review: {per_hour: 60}"],
        ["objective: {precision: 0.9}", "review: {share: {flagged: 0.5, low: 0}}"],
        ["objective: {preset: compliance}"],
    ],
)
def test_gates_that_can_come_to_a_verdict_are_not_warned_of(lines: list[str]) -> None:
    """Precision needs flagged labels alone."""
    assert not [str(one) for one in read(*lines).warnings if "never" in str(one)]


def test_gates_need_a_class_that_they_are_about() -> None:
    """Without `positive` no prediction is right or wrong."""
    text = TEN_LINES.replace(", positive: spam", "") + f"    {GATE}\n"
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    found, *others = [str(fault) for fault in loaded.faults]
    assert not others
    assert found == (
        "g.yaml:9:5: routes.spam.gates: gates without prediction.positive; wanted the class that precision and recall "
        "are about (for example positive: spam)"
    )
