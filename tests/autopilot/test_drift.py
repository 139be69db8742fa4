"""The watch for drift: learns a week, stays quiet, finds what moves, and forgets nothing over restarts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gateway.autopilot.drift import DRIFT, REFERENCE, DriftWatch, Remembered, drift_report
from gateway.autopilot.drift_words import Advice, FieldDrift, advise, date
from gateway.ledger import Ledger, acts
from gateway.ledger.daily import DAY_US
from tests.autopilot import days
from tests.autopilot.days import DAY, Days


def looked(
    ledger: Ledger, to: Days, today: int, watch: DriftWatch | None = None, more: str = ""
) -> tuple[FieldDrift, ...]:
    """What is said on the morning of a day."""
    to.write()
    standing = SimpleNamespace(settings=days.settings(more), version=7)
    (watch or DriftWatch(ledger)).look(standing, today * DAY_US + DAY_US // 4)
    return said(ledger)


def said(ledger: Ledger, arl_days: float = 3650.0) -> tuple[FieldDrift, ...]:
    return drift_report(Remembered(ledger.states(REFERENCE), ledger.states(DRIFT)), "spam", arl_days)


def of(found: tuple[FieldDrift, ...], kind: str) -> FieldDrift:
    [one] = [one for one in found if one.kind == kind]
    return one


def ordinary(to: Days, rng: np.random.Generator, day: int, moved: float = 0.0, missed: float = 0.05) -> None:
    to.scores(day, rng.beta(2 + moved, 6, 900))
    segment = {"device=phone": rng.binomial(1000, 0.7)}
    segment["device=desk"] = 1000 - segment["device=phone"]
    of_day: dict[tuple[str, int], int] = {}
    for name, count in segment.items():
        fell = int(rng.binomial(count, missed))
        of_day |= {(name, 0): int(count) - fell, (name, 1): fell}
    to.calls(day, of_day)


def test_a_week_is_learnt_then_nothing_is_said_until_scores_move(tmp_path: Path) -> None:
    """Found within days, with the first day, the size and the direction in words; the innocent stay steady."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(1)
    watch = DriftWatch(ledger)
    for day in range(DAY, DAY + 5):
        ordinary(to, rng, day)
    found = looked(ledger, to, DAY + 5, watch)
    assert {one.verdict for one in found} == {"learning"}
    assert (
        of(found, "score").words
        == "What is usual for scores of spam-v3 3 is still being learnt: 4 of 7 whole days."
    )
    for day in range(DAY + 5, DAY + 25):
        ordinary(to, rng, day)
        if day % 6 == 0 or day == DAY + 24:
            found = looked(ledger, to, day + 1, watch)
            assert not [one for one in found if one.verdict == "drifted"], (day, found)
    assert {one.verdict for one in found} == {"steady"}
    assert {one.kind for one in found} == {"score", "fallback", "segment"}
    for day in range(DAY + 25, DAY + 29):
        ordinary(to, rng, day, moved=0.6)
        found = looked(ledger, to, day + 1, watch)
    score = of(found, "score")
    told = ledger.reader.snapshot(acts.history)
    ledger.close()
    assert [(one.route, one.cause, one.act, one.state, one.before) for one in told] == [
        ("spam", "drift", "notify", "done", 7)
    ]
    assert told[0].words.startswith("Scores of spam-v3 3 moved on or about")
    assert score.verdict == "drifted"
    assert score.since is not None
    assert abs(score.since - (DAY + 25)) <= 1
    assert score.reference == (DAY + 1, DAY + 8)
    assert score.words.startswith(
        f"Scores of spam-v3 3 moved on or about {date(score.since)}: they are higher;"
    )
    assert f"against {date(DAY + 1)} to {date(DAY + 7)}" in score.words
    assert score.shift is not None
    assert score.shift.psi is not None
    assert 0.03 < score.shift.psi < 0.2
    assert of(found, "fallback").verdict == of(found, "segment").verdict == "steady"
    assert len(score.days) == 21
    assert sum(part.now for part in score.parts) == pytest.approx(1.0)


def test_fallbacks_and_segments_are_told_by_their_names(tmp_path: Path) -> None:
    """A product person knows what a tablet is."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(2)
    for day in range(DAY, DAY + 12):
        ordinary(to, rng, day)
    for day in range(DAY + 12, DAY + 16):
        to.calls(day, {("device=phone", 0): 500, ("device=phone", 1): 200, ("device=tablet", 0): 300})
    found = looked(ledger, to, DAY + 16)
    ledger.close()
    fallback, segment = of(found, "fallback"), of(found, "segment")
    assert fallback.verdict == segment.verdict == "drifted"
    assert "not answered by it made up 5." in fallback.words
    assert "and now 20.0 %" in fallback.words
    assert "made up 0.0 % and now 30.0 %" in segment.words or "desk made up" in segment.words


def test_a_restart_and_a_holiday_lose_nothing(tmp_path: Path) -> None:
    """One look after all days says what a look each day says."""
    (first, one), (second, other) = (days.made(tmp_path / name) for name in "ab")
    for to in (one, other):
        rng = np.random.default_rng(3)
        for day in range(DAY, DAY + 20):
            ordinary(to, rng, day)
            if to is one and day > DAY + 5 and day % 3 == 0:
                looked(first, to, day + 1)
    looked(first, one, DAY + 20)
    looked(second, other, DAY + 20)
    assert said(first) == said(second)
    first.close()
    second.close()


def test_another_version_of_a_model_begins_anew(tmp_path: Path) -> None:
    """Its scores are its own; the old one's reference is left alone."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(4)
    for day in range(DAY, DAY + 20):
        ordinary(to, rng, day)
    looked(ledger, to, DAY + 20)
    settings = days.SETTINGS.replace('version: "3"', 'version: "4"')
    text, days.SETTINGS = days.SETTINGS, settings
    try:
        for day in range(DAY + 20, DAY + 24):
            ordinary(to, rng, day, moved=3.0)
        found = looked(ledger, to, DAY + 24)
    finally:
        days.SETTINGS = text
    ledger.close()
    assert [one.verdict for one in found if one.subject == "spam-v3 3" and one.kind == "score"] == ["steady"]
    assert "spam-v3 4" in {one.subject for one in found}


def test_fields_that_are_not_wanted_are_not_watched(tmp_path: Path) -> None:
    """And a day is looked at once."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(5)
    for day in range(DAY, DAY + 10):
        ordinary(to, rng, day)
    found = looked(ledger, to, DAY + 10, more="    drift: {fields: [score], reference_h: 72}\n")
    ledger.close()
    assert [(one.kind, one.verdict) for one in found] == [("score", "steady")]
    assert found[0].reference == (DAY + 1, DAY + 4)


def test_an_empty_ledger_has_nothing_to_say(tmp_path: Path) -> None:
    """No traffic, no drift."""
    ledger, to = days.made(tmp_path)
    assert looked(ledger, to, DAY) == ()
    ledger.close()


def test_advice_wants_labels_before_it_says_retrain() -> None:
    """Traffic that moved is a reason to look; only a gate that fails is one to retrain."""
    moved = FieldDrift("score", "spam-v3", "drifted", "Scores moved.", since=DAY)
    steady = FieldDrift("score", "spam-v3", "steady", "Scores stand.")
    fail = "Precision is .80 where .93 is wanted."
    both = advise([moved, steady], [fail], "spam")
    assert both.retrain
    assert both.evidence == (fail, "Scores moved.")
    assert f"--since {date(DAY)}" in both.words
    assert advise([steady], [fail], "spam").retrain
    only = advise([moved], [], "spam")
    assert not only.retrain
    assert "Do not retrain yet" in only.words
    assert advise([steady], [], "spam") == Advice(False, "Nothing speaks for training anew.")
