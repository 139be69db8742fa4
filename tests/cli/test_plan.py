"""`gateway plan`: from traffic that was seen, or that is assumed; and what is said when there is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.autopilot import plan as planning
from gateway.cli import plan as command
from gateway.ledger import Ledger
from tests.report import traffic
from tests.wire.gateway_process import run_gateway


def test_assumed_traffic_needs_no_ledger() -> None:
    """Before there is a model: how many people will it take?"""
    result = run_gateway("plan", "--traffic", "36000", "--flagged", "0.01", "--within", "0.1", "--json")
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout)["routes"]["assumed"]
    assert made["reviews_per_hour"] == pytest.approx(60, rel=0.02)
    assert made["strata"]["flagged"]["share"] > 20 * made["strata"]["low"]["share"]
    by_metric = {one["metric"]: one for one in made["known_to_within"]}
    assert 0 < by_metric["precision"]["hours"] < by_metric["recall"]["hours"]
    assert by_metric["precision"]["reviews"] == pytest.approx(by_metric["precision"]["hours"] * 60, rel=0.03)


@pytest.mark.parametrize("aim", ["both", "precision", "recall"])
def test_a_plan_for_one_side_says_what_makes_it_so(aim: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its hours must not be taken for what comes without that setting."""
    command.plan(
        Path("none"),
        route=None,
        within=[0.1],
        per_hour=None,
        objective=aim,
        hours=168.0,
        traffic=36_000.0,
        flagged=0.02,
        precision=0.8,
        recall=0.6,
    )
    assert (f"objective: {{prioritise: {aim}}}" in capsys.readouterr().out) == (aim != "both")


def test_the_traffic_of_the_ledger_and_its_labels_are_planned_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same division as the autopilot's, of what the tallies say came."""
    monkeypatch.setattr("time.time_ns", lambda: traffic.NOW_US * 1000)
    made = traffic.make(3000, seed=7, pi=(0.3, 0.05))
    ledger: Ledger = traffic.write(tmp_path, made)
    try:
        answered = traffic.answer(ledger, made, most=60)
    finally:
        ledger.close()
    arguments = {
        "overrides": [],
        "json": True,
        "route": None,
        "within": [0.1],
        "per_hour": None,
        "objective": "both",
        "hours": 168.0,
        "traffic": None,
        "flagged": 0.02,
        "precision": 0.8,
        "recall": 0.6,
    }
    command.plan(tmp_path, **arguments)  # type: ignore[arg-type]
    spam = json.loads(capsys.readouterr().out)["routes"]["spam"]
    counted = int(made.counted.sum())
    assert spam["predictions_per_hour"] == pytest.approx(counted / 6, rel=0.2), "five to six hours of them"
    assert sum(one["labels"] for one in spam["strata"].values()) <= answered
    assert not spam["guessed"]
    assert spam["per_hour"] == command.USUAL_PER_HOUR
    command.plan(tmp_path, **{**arguments, "json": False})  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "spam: 60 reviews an hour" in text
    assert "precision to within 0.1: about" in text


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--traffic", "100", "--within", "0.7"], "--within: found 0.7"),
        (["--traffic", "0"], "--traffic: found 0"),
        (["--traffic", "100", "--flagged", "2"], "--flagged: found 2"),
        (["--traffic", "100", "--objective", "luck"], "--objective: found 'luck'"),
    ],
)
def test_what_makes_no_sense_is_named(arguments: list[str], found: str) -> None:
    result = run_gateway("plan", *arguments)
    assert result.returncode == 2
    assert found in result.stderr


def test_without_a_ledger_it_says_what_to_do(tmp_path: Path) -> None:
    result = run_gateway("plan", str(tmp_path))
    assert result.returncode == 1
    assert "there is no ledger at" in result.stderr


def test_assumptions_are_met_by_the_cells() -> None:
    """Precision and recall of the assumed cells are those that were assumed."""
    came, rate = planning.assumed_cells(planning.Assumed(1000, 0.1, 0.8, 0.5))
    true, all_of_them = (came * rate)[1, 1], (came * rate).sum()
    assert came.sum() == 1000
    assert true / came[1, 1] == pytest.approx(0.8)
    assert true / all_of_them == pytest.approx(0.5)
