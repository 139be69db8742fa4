"""What the serving process tells of its review budgets: in the log once, in the metrics all the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.autopilot import ReviewBudget
from gateway.cli.budgets import BudgetWatch, kept_starts, make_budget
from gateway.config import read_text
from gateway.ledger import Ledger, Limits
from gateway.ledger.review_budget import BUDGET_KEY
from gateway.telemetry.instruments import CATALOGUE
from tests.config.examples import TEN_LINES
from tests.ledger.making import HOUR_US, NOW_US, Clock
from tests.ledger.test_review_budget import answer
from tests.ledger.test_review_queue import fill


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01), Clock())
    opened.open()
    yield opened
    opened.close()


def test_the_budget_is_divided_by_what_the_route_is_for() -> None:
    """An objective in the settings moves reviews to the side that is to be known first."""
    text = TEN_LINES + "    review: {per_hour: 60}\n    objective: {preset: fraud_detection}\n"
    settings = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={}).settings
    assert settings is not None
    assert make_budget(settings, {}).kept()["spam"]["objective"] == "recall"


def test_people_who_fall_behind_are_told_of_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning when it begins and not each minute; the metrics have the state, and the catalogue has them."""
    budget = ReviewBudget({"spam": 60.0}, {}, lambda: 0.0)
    ledger.keep_policy({"routes": [], BUDGET_KEY: budget.kept()}, author="a", reason="b")
    fill(ledger, *range(1, 121))
    for _ in range(10):
        answer(ledger)
    watch = BudgetWatch(ledger.reader, lambda: budget)
    told = {(point.name, *point.attributes.values()): point.value for point in watch.points()}
    assert told["gateway.review.budget", "spam", "wanted"] == 60
    assert told["gateway.review.share", "spam", "flagged"] == 0.05
    assert ("gateway.review.workload", "spam", "overload") not in told, "nobody has looked yet"
    with caplog.at_level(logging.DEBUG):
        monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
        watch.look()
        assert not [line for line in caplog.records if line.levelno >= logging.WARNING]
        monkeypatch.setattr("time.time_ns", lambda: (NOW_US + 2 * HOUR_US) * 1000)
        for _ in range(3):
            watch.look()
    [line] = [line for line in caplog.records if line.levelno >= logging.WARNING]
    assert "review budget of spam: people did 10 of the 120" in line.getMessage()
    points = list(watch.points())
    told = {(point.name, *point.attributes.values()): point.value for point in points}
    assert told["gateway.review.workload", "spam", "overload"] == 1
    assert told["gateway.review.workload", "spam", "balanced"] == 0
    assert told["gateway.review.budget", "spam", "done"] == 5
    for point in points:
        assert set(point.attributes) == set(CATALOGUE[point.name].attributes)


def test_a_kept_budget_of_another_form_begins_anew(ledger: Ledger) -> None:
    """A policy of an older version must not keep a newer gateway from starting."""
    assert kept_starts(ledger.reader) == {}
    budget = ReviewBudget({"spam": 60.0}, {}, lambda: 0.0)
    kept = {**budget.kept(), "old": {"per_hour": 60}, "odd": []}
    ledger.keep_policy({"routes": [], BUDGET_KEY: kept}, author="a", reason="b")
    assert set(kept_starts(ledger.reader)) == {"spam"}
