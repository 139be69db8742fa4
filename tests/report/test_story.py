"""A month in which the scores moved and a button was taken away, as the terminal, JSON and the page tell it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from gateway.autopilot.drift import DriftWatch
from gateway.autopilot.drift_words import date
from gateway.autopilot.flow import FlowWatch
from gateway.autopilot.loop import Autopilot
from gateway.autopilot.story import Story, as_json, stories
from gateway.cli.report_html import render_html
from gateway.cli.report_text import render
from gateway.ledger import Facts, LabelRow, Ledger, Truth, Window
from gateway.ledger.daily import DAY_US
from gateway.ledger.report import Report, make_report
from gateway.types import Outcome
from tests.autopilot import days
from tests.autopilot.days import DAY

LAST = 34
NOW_US = (DAY + LAST) * DAY_US + DAY_US // 4
COSTS = "    costs: {false_positive: 5.0, false_negative: 1.0}\n"


@dataclass(frozen=True)
class Month:
    report: Report
    stories: dict[str, Story]
    failures: dict[str, int]


def reviews(ledger: Ledger, rng: np.random.Generator) -> None:
    """Of each day, by reviewers within hours; and what was sold."""
    rows = []
    for number in range(1200):
        made = days.noon_us(DAY + number % LAST) + number
        score = float(rng.beta(2, 3))
        facts = Facts(made, 7, "spam", "spam-v3", "device=phone", 0, score, score >= 0.5, 0.1, True)
        late = made + int(rng.exponential(10.0) * 3.6e9)
        if late < NOW_US:
            truth = Truth(positive=bool(rng.random() < score))
            rows.append(LabelRow(number.to_bytes(16, "big"), 0, "review", truth, facts, late))
    for number in range(2000, 2400):
        out = int(Outcome.HOLDOUT if number % 4 == 0 else Outcome.MODEL)
        made = days.noon_us(DAY + number % LAST)
        facts = Facts(made, 7, "spam", "spam-v3", "", out, 0.9, True, 0.1, False)
        value = float(rng.normal(10.0 + 2.0 * (out == Outcome.MODEL), 3.0))
        rows.append(LabelRow(number.to_bytes(16, "big"), 0, "sales", Truth(value=value), facts, made + 1))
    ledger.submit_labels(rows).result(30.0)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Month:
    ledger, to = days.made(Path(tmp_path_factory.mktemp("month")))
    rng = np.random.default_rng(8)
    for at in range(LAST):
        to.scores(DAY + at, rng.beta(2 + (0.8 if at >= LAST - 4 else 0.0), 3, 900))
        to.calls(
            DAY + at, {("device=phone", 0): 600, ("device=desk", 0): 250, ("", int(Outcome.HOLDOUT)): 50}
        )
        phone = 0 if at >= LAST - 4 else int(rng.poisson(30))
        to.labels(DAY + at, "thumbs", {"device=phone": phone, "device=desk": int(rng.poisson(12))})
    to.write()
    reviews(ledger, rng)
    settings = days.settings(COSTS)
    standing = SimpleNamespace(settings=settings, version=7)
    pilot = Autopilot([DriftWatch(ledger), FlowWatch(ledger)], lambda: standing, clock_us=lambda: NOW_US)
    pilot.cycle()
    window = Window(DAY * DAY_US, NOW_US)
    report = make_report(ledger.reader, window, now_us=NOW_US)
    found = Month(report, stories(ledger.reader, window, report, NOW_US, settings), dict(pilot.failures))
    ledger.close()
    return found


def test_the_watches_are_parts_of_the_loop(month: Month) -> None:
    """They look, fail nowhere, and what they found is in the story."""
    assert month.failures == {}
    spam = month.stories["spam"]
    assert {one.kind: one.verdict for one in spam.drift}["score"] == "drifted"
    assert {one.source: one.verdict for one in spam.flow}["thumbs"] == "starved"


def test_the_page_says_first_what_needs_somebody(month: Month) -> None:
    """The stopped source by name, the drift, and what to do; then plots of each."""
    page = render_html(month.report, month.stories, NOW_US)
    news = re.findall(r'<div class="news[^"]*">(.*?)</div>', page)
    assert any(
        one.startswith(f"The source thumbs stopped in segment device=phone since {date(DAY + LAST - 4)}")
        for one in news
    )
    assert any(one.startswith("Scores of spam-v3 3 moved on or about") for one in news)
    assert any("Do not retrain yet" in one for one in news)
    titles = set(re.findall(r"<title>(.*?)</title>", page))
    assert {
        "Calls by day and outcome",
        "Drift of score spam-v3 3",
        "Labels of thumbs by day",
        "Precision against recall",
        "Reliability",
        "Value of 1,000 calls by threshold",
        "Precision and recall by day",
    } <= titles
    assert "With the model outcomes are higher, by sales" in page
    assert "<td>sales</td>" in page


def test_the_terminal_and_json_tell_the_same(month: Month) -> None:
    """One story in three forms."""
    spam = month.stories["spam"]
    out = Console(file=io.StringIO(), width=100, highlight=False, markup=False, emoji=False)
    render(out, month.report, NOW_US, month.stories)
    assert isinstance(out.file, io.StringIO)
    text = " ".join(out.file.getvalue().split())
    told = json.loads(json.dumps(as_json(month.report, month.stories), allow_nan=False))["routes"]["spam"]
    [score] = [one for one in told["drift"] if one["kind"] == "score"]
    assert score["verdict"] == "drifted"
    assert score["words"] in text
    assert told["flow"]["thumbs"]["starved"] == ["device=phone"]
    assert told["flow"]["thumbs"]["words"] in text
    assert told["maturity"]["review"]["mature_through"] in text
    assert told["holdout"]["outcomes"]["sales"]["says"] == "better"
    assert told["holdout"]["outcomes"]["sales"]["words"] in text
    assert told["advice"]["retrain"] is False
    assert told["advice"]["words"] in text
    assert told["value"]["best"] is not None
    assert spam.curve[0].recall.value is not None
    assert told["by_threshold"][0]["recall"]["value"] == pytest.approx(spam.curve[0].recall.value)


def test_a_ledger_that_nobody_watched_has_no_drift_and_no_flow(tmp_path: Path) -> None:
    """And says nothing of them; the rest is told all the same."""
    ledger, to = days.made(tmp_path)
    to.calls(DAY, {("", 0): 900})
    to.write()
    report = make_report(ledger.reader, Window(), now_us=NOW_US)
    found = stories(ledger.reader, Window(), report, NOW_US)
    ledger.close()
    assert (found["spam"].drift, found["spam"].flow, found["spam"].advice) == ((), (), None)
    page = render_html(report, found, NOW_US)
    assert "Whether the traffic changed" not in page
    assert "Nothing that is watched here needs anybody now." in page
