"""`gateway replay`: the calls of a real ledger decided once more, against what is known of them."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from gateway.cli.replay import replay
from gateway.types import Outcome
from tests.cli.test_threshold import SETTINGS
from tests.report import traffic


@pytest.fixture(scope="module")
def made() -> traffic.Made:
    """The first model answered everybody but the holdout."""
    made = traffic.make(5000, seed=6, pi=(0.8, 0.2))
    return changed(
        made, outcome=np.where(made.outcome == Outcome.HOLDOUT, made.outcome, Outcome.MODEL).astype(np.uint8)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made: traffic.Made) -> Path:
    where = tmp_path_factory.mktemp("replay")
    ledger = traffic.write(where, made)
    try:
        sampled = np.flatnonzero(made.sampled)
        rows = [traffic.label(made, int(at), "review", bool(made.truth[at])) for at in sampled]
        arms = np.random.default_rng(1).random(len(rows)) < 0.25
        ledger.submit_labels(
            [
                changed(
                    row,
                    facts=changed(
                        row.facts,
                        backend="spam-v4" if arm else "spam-v3",
                        arm="spam-v4" if arm else "spam-v3",
                        propensity=0.25 if arm else 0.75,
                    ),
                )
                for row, arm in zip(rows, arms, strict=True)
            ]
        ).result(30.0)
    finally:
        ledger.close()
    (where / "gateway.yaml").write_text(SETTINGS)
    return where


def run(folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> Any:
    usual: dict[str, Any] = {"threshold": None, "floor": None, "policy": None, "hours": 0.0, "overrides": []}
    replay(options.pop("route", "spam"), folder / "gateway.yaml", **(usual | {"json": True} | options))
    text = capsys.readouterr().out
    return json.loads(text) if options.get("json", True) else text


def test_another_threshold_is_counted_exactly_and_rated_with_its_interval(
    folder: Path, made: traffic.Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every prediction's score is in the tallies, so that flags need no sample; what they are worth does."""
    found = run(folder, capsys, threshold=0.7)
    score, truth = made.score[made.counted], made.truth[made.counted]
    assert found["predictions"] == len(score)
    assert found["no_longer_flagged"] == ((score >= 0.5) & (score < 0.7)).sum()
    assert found["newly_flagged"] == 0
    after = found["after"]
    assert after["flagged_share"] == pytest.approx((score >= 0.7).mean())
    precision = truth[score >= 0.7].mean()
    recall = (truth & (score >= 0.7)).sum() / truth.sum()
    assert after["precision"]["low"] <= precision <= after["precision"]["high"]
    assert after["recall"]["low"] <= recall <= after["recall"]["high"]
    assert found["before"]["precision"]["value"] < after["precision"]["value"]


def test_a_higher_floor_sends_calls_to_the_answer_behind_it(
    folder: Path, made: traffic.Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind the model stands ham: what is not sure enough is not flagged."""
    found = run(folder, capsys, floor=0.85)
    score = made.score[made.counted]
    unsure = np.maximum(score, 1 - score) < 0.85
    assert found["would_miss"] == pytest.approx(unsure.sum(), abs=0.002 * len(score))
    assert found["unknown"] == 0
    wanted = ((score >= 0.5) & ~unsure).mean()
    assert found["after"]["flagged_share"] == pytest.approx(wanted, abs=0.002)


def test_a_model_that_was_not_asked_is_left_out_and_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another policy, whose second of the chain is a model: nothing is guessed of it; what else differs is named."""
    other = tmp_path / "other.yaml"
    text = SETTINGS.replace("floor: 0.8", "floor: 0.9").replace("[spam-v3, ham]", "[spam-v3, lite, ham]")
    other.write_text(text.replace("  ham:", '  lite: {grpc: "127.0.0.1:8002"}\n  ham:', 1))
    found = run(folder, capsys, policy=other)
    assert found["unknown"] == found["would_miss"] > 0
    assert any("was not asked" in note for note in found["notes"])
    assert found["not_replayed"] == ["chain"]
    assert found["after"]["floor"] == 0.9
    told = run(folder, capsys, policy=other, json=False)
    assert "not replayed, though it differs: chain" in told


def test_arms_are_compared_as_if_each_had_had_all_the_traffic(
    folder: Path, made: traffic.Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both arms are the same model here, so that both intervals hold its precision."""
    arms = run(folder, capsys, threshold=0.5)["arms"]
    assert set(arms) == {"spam-v3", "spam-v4"}
    flagged = (made.score >= 0.5) & made.counted
    for one in arms.values():
        assert one["low"] <= made.truth[flagged].mean() <= one["high"]
    assert arms["spam-v4"]["labels"] < arms["spam-v3"]["labels"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to replay"),
        ({"threshold": 2.0}, "--threshold: found 2"),
        ({"route": "eggs", "floor": 0.5}, "has no 'eggs', wanted one of spam"),
    ],
)
def test_what_makes_no_sense_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        run(folder, capsys, **options)
