"""What a report tells of an exploration: each arm with its numbers, and why shares are what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gateway.cli.report_arms import render_arms
from gateway.ledger import Ledger, Window
from gateway.ledger.report import make_report
from gateway.ledger.standing import RouteStanding, standings
from tests.autopilot.exploring import LEARNING, Explored
from tests.autopilot.standing import NOW_US


@pytest.fixture
def explored(tmp_path: Path) -> Iterator[Explored]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", clock_us=lambda: NOW_US)
    ledger.open()
    yield Explored(ledger, tmp_path)
    ledger.close()


def shown(standing: RouteStanding) -> str:
    out = Console(width=100, highlight=False, record=True, force_terminal=False)
    with out.capture() as captured:
        render_arms(out, standing, lambda console, words: console.print(words))
    return captured.get()


def test_each_arm_has_its_share_its_belief_and_its_value(explored: Explored) -> None:
    """In the JSON form and on the terminal, from the same numbers."""
    explored.settings(LEARNING)
    explored.say("v3", 50, 50)
    explored.say("v4", 95, 5)
    why = explored.look(60)
    report = make_report(explored.ledger.reader, Window(), ("spam",))
    told = report.as_dict()["routes"]["spam"]["exploration"]
    assert (told["winner"], told["frozen"], told["why"]) == ("v4", None, why)
    assert told["decided"].startswith("the evidence for it is")
    assert told["moved_at"] == "2023-11-14T22:14:20Z"
    v4 = told["arms"]["v4"]
    assert list(told["arms"]) == ["v3", "v4"]
    assert (v4["share"], v4["labels"]) == (0.95, 100)
    assert v4["low"] < v4["mean"] < v4["high"]
    assert v4["snips"]["value"] == pytest.approx(0.95)
    text = shown(standings(explored.ledger.reader, Window())["spam"])
    assert "95.0 %" in text
    assert "v4 is the best: the evidence for it is" in text
    assert "0.950 (0.888 to 0.978)" in text


def test_what_has_no_number_says_why_and_what_is_frozen_says_so(explored: Explored) -> None:
    """Before there is a reward; and where a person has stopped it."""
    explored.settings(LEARNING)
    explored.look()
    text = shown(standings(explored.ledger.reader, Window())["spam"])
    assert "No value of v3: no label of this arm yet." in text
    assert "Shares stay: no reward has come yet." in text
    explored.book.kill("spam", revive=False, author="ann", reason="")
    explored.look(4000)
    assert "Frozen: the kill switch is open." in shown(standings(explored.ledger.reader, Window())["spam"])


def test_a_route_that_explores_nothing_says_nothing() -> None:
    """Not even a heading."""
    assert shown(RouteStanding()) == ""
    assert RouteStanding().arms_as_dict() is None
