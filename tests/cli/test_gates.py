"""`gateway gates`: verdicts as a table or JSON, exit 1 where one fails, and nothing kept by looking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.autopilot.gates import GateWatch
from gateway.cli.gates import gates
from gateway.ledger import Ledger, verdicts
from tests.autopilot.labelled import SETTINGS, START_US, Flow, Model, Writer, opened, settings
from tests.ledger.making import HOUR_US

GATE = "{name: holds, metric: precision, at_least: 0.93}"
ROUTE = f"""\
  spam:
    chain: [spam-v3, spam-v2, ham]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    review: {{per_hour: 60, capture: [inputs]}}
    gates: [{GATE}]
  mail: {{chain: [spam-v3]}}
"""
NOW_US = START_US + 30 * HOUR_US


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "gateway.yaml"
    made.write_text(f"ledger: sqlite:///{tmp_path}/ledger.db\n{SETTINGS}{ROUTE}")
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path, [NOW_US]) as made:
        yield made


def asked(where: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, str]:
    """The exit status, and what was printed."""
    usual: dict[str, Any] = {"overrides": [], "json": True, "route": None, "history": None}
    try:
        gates(where, **{**usual, **options})
    except typer.Exit as ended:
        return ended.exit_code, capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.mark.parametrize(("precision", "verdict", "status"), [(0.99, "pass", 0), (0.5, "fail", 1)])
def test_the_verdict_now_and_the_exit(
    ledger: Ledger,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    precision: float,
    verdict: str,
    status: int,
) -> None:
    """A script stops where a gate fails; looking keeps nothing and changes nothing."""
    writer = Writer(ledger, 901)
    for hour in range(0, 24, 6):
        writer.hour(["spam"], START_US + hour * HOUR_US, Model(precision), Flow(flagged=150))
    found, printed = asked(file, capsys)
    assert found == status
    [one] = json.loads(printed)["gates"]
    assert (one["route"], one["gate"], one["segment"], one["verdict"]) == ("spam", "holds", None, verdict)
    assert one["low"] < one["value"] < one["high"]
    assert one["words"].startswith("precision ")
    assert one["time"].startswith("20")
    assert ledger.states("gate") == {}
    assert ledger.reader.snapshot(verdicts.latest) == []
    found, printed = asked(file, capsys, json=False)
    assert found == status
    [line] = [line for line in printed.splitlines() if line.startswith("spam ")]
    assert line.split()[:3] == ["spam", "holds", verdict]
    assert line.rstrip().endswith(one["words"])


def test_what_the_running_gateway_said(ledger: Ledger, tmp_path: Path, file: Path, capsys: Any) -> None:
    """By the folder of the state: no settings are needed; and the history, which is no failure by itself."""
    made, watch = settings(["spam"], GATE), GateWatch(ledger)
    watch.evaluate(made, 1, START_US)
    writer = Writer(ledger, 902)
    writer.hour(["spam"], START_US, Model(0.4), Flow(flagged=200))
    watch.evaluate(made, 1, START_US + 26 * HOUR_US)
    found, printed = asked(tmp_path, capsys)
    assert found == 1
    assert [one["verdict"] for one in json.loads(printed)["gates"]] == ["fail"]
    found, printed = asked(file, capsys, history=48.0)
    assert found == 0
    assert [one["verdict"] for one in json.loads(printed)["gates"]] == ["inconclusive", "fail"]
    assert json.loads(asked(file, capsys, history=1.0)[1])["gates"] == []


def test_without_gates_it_says_so(ledger: Ledger, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would look like all is well."""
    file.write_text(file.read_text().replace(f"    gates: [{GATE}]\n", ""))
    assert asked(file, capsys, json=False) == (0, "no route has gates, or an objective\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"route": "luck"}, "wanted one of the routes \\(spam, mail\\)"), ({"history": 0.0}, "--history")],
)
def test_what_makes_no_sense_is_named(
    ledger: Ledger, file: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    """Wrong use is exit 2, as everywhere."""
    with pytest.raises(typer.BadParameter, match=words):
        asked(file, capsys, **options)
