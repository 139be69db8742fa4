"""The demo ends well, counts right, and shows that the net is worth having."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from examples.demo.callers import Answer, decide
from examples.demo.data import FEATURES, Call, Images, Sample, draw_calls
from examples.demo.tally import endings, quality
from examples.demo.traffic import PHASES, Exchange

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One short run, as JSON."""
    folder = tmp_path_factory.mktemp("demo") / "work"
    command = [sys.executable, "-m", "examples.demo", "--calls", "900", "--dir", str(folder), "--json"]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env=environ
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_demo_ends_well_and_the_report_agrees_with_the_callers(numbers: dict[str, Any]) -> None:
    """Every call that was made is in the report, under the outcome that its caller was told."""
    assert numbers["differences"] == []
    outcomes = {outcome for outcome, _, _ in numbers["endings"]}
    assert {"model", "fallback", "static", "holdout"} <= outcomes
    reasons = {reason for _, reason, _ in numbers["endings"]}
    assert {
        "ok",
        "low_confidence",
        "invalid_output",
        "backend_error",
        "deadline",
        "holdout",
        "rule:known-sender",
    } <= reasons


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_demo_shows_what_the_net_is_worth(numbers: dict[str, Any]) -> None:
    """Behind the gateway no call fails; without it the dead and the NaN phases are lost."""
    net, alone = numbers["with_net"], numbers["without_net"]
    assert net["failed_calls"] == net["useless_answers"] == 0
    assert alone["failed_calls"] > 50
    assert alone["useless_answers"] > 50
    assert net["recall"] > alone["recall"]


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_estimates_of_the_demo_are_there_with_their_labels(numbers: dict[str, Any]) -> None:
    """Precision and recall come from the review sample; feedback stands beside them, each label once."""
    report = numbers["report"]
    assert report["review"]["open"] == 0
    assert numbers["reviewed"] == report["review"]["done"] > 100
    for name in ("precision", "recall"):
        estimate = report[name]
        assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
    # What is said of the holdout is kept, and says nothing of the model.
    assert 0 < report["feedback"]["app"]["labels"] <= numbers["feedback"]["kept"]
    assert report["shadows"]["eight-v2"]["compared"] > 0


def test_callers_send_no_image_that_trained_a_model() -> None:
    """Else the truth beside the estimate would flatter the models."""
    images = Images(seed=1)
    assert not set(images.training) & set(images.calling)
    assert len(images.training) + len(images.calling) == 1797


def test_calls_are_the_same_for_the_same_seed() -> None:
    """A run can be repeated; known senders never send eights; now and then there is a batch."""
    drawn = [draw_calls(Images(seed=1), 200, np.random.default_rng(5)) for _ in range(2)]
    assert [call.metadata for call in drawn[0]] == [call.metadata for call in drawn[1]]
    assert np.array_equal(drawn[0][-1].features, drawn[1][-1].features)
    assert {len(call.samples) for call in drawn[0]} == {1, 4}
    known = [call for call in drawn[0] if call.sender.endswith("@example.org")]
    assert known
    assert not any(sample.is_eight for call in known for sample in call.samples)


def test_page_about_the_demo_says_what_is_done() -> None:
    """docs/demo.md names every phase, and the shares that stand in the settings."""
    page = (ROOT / "docs" / "demo.md").read_text()
    settings = YAML(typ="safe").load(ROOT / "examples" / "demo" / "gateway.yaml")
    route = settings["routes"]["eight"]
    for phase in PHASES:
        assert f"| {phase.name} |" in page
    assert f"{route['holdout']['share']:.0%}".replace("%", " % of users are the **holdout**") in page
    assert f"{route['mirror'][0]['share']:.0%}".replace("%", " % of users are **mirrored**") in page
    share = route["review"]["share"]
    assert f"flagged ones with probability {share['flagged']}, others with {share['unflagged']}" in page
    assert f"after {settings['backends']['eight-v1']['timeout_ms']} ms `deadline`" in page


def test_phases_share_out_all_calls() -> None:
    """Nothing is drawn and never sent."""
    assert sum(phase.share for phase in PHASES) == pytest.approx(1.0)


def test_nan_is_no_answer() -> None:
    """Neither an eight nor another digit."""
    assert decide(np.array([[0.5, 0.5], [np.nan, np.nan], [0.9, 0.1]]), 3) == (True, None, False)
    assert decide(None, 2) == (None, None)


def exchange(truth: bool, through: bool | None, alone: bool | None, outcome: str = "model") -> Exchange:
    call = Call((Sample(np.zeros(FEATURES, np.float32), truth),), "u", "phone", "s")
    said = {"outcome": outcome, "reason": "ok"}
    error = None if alone is not None else "UNAVAILABLE"
    return Exchange("p", call, Answer((through,), 0.1, None, said), Answer((alone,), 0.1, error, {}))


def test_holdout_batch_says_nothing_of_the_model() -> None:
    """The gateway names an outcome for each row of a batch; none of a holdout's counts."""
    call = Call((Sample(np.zeros(FEATURES, np.float32), True),) * 2, "u", "phone", "s")
    held = Answer((False, False), 0.1, None, {"outcome": "holdout,holdout", "reason": "holdout,holdout"})
    assert quality([Exchange("p", call, held, Answer((True, True), 0.1, None, {}))], net=True).images == 0


def test_eight_without_an_answer_counts_as_missed() -> None:
    """By hand: of three eights the gateway finds two, the model alone one; one is a false alarm of both."""
    exchanges = [
        exchange(True, True, True),
        exchange(True, True, None),
        exchange(True, False, False),
        exchange(False, True, True),
        exchange(True, False, True, outcome="holdout"),
    ]
    net, alone = quality(exchanges, net=True), quality(exchanges, net=False)
    assert (net.images, net.failed, net.precision, net.recall) == (4, 0, 2 / 3, 2 / 3)
    assert (alone.images, alone.failed, alone.precision, alone.recall) == (4, 1, 1 / 2, 1 / 3)
    assert endings(exchanges) == {("model", "ok"): 4, ("holdout", "ok"): 1}
