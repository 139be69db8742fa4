"""What came day by day, and what came of it, on both databases."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from gateway.ledger import Facts, LabelRow, Ledger, Truth, Window, rolling, schema
from gateway.ledger.daily import (
    DAY_US,
    by_day,
    confidence_by_day,
    delays,
    first_day,
    held_out,
    outcome_sums,
    stated,
    statements_by_day,
    units,
)
from gateway.types import Outcome
from tests.ledger.making import another

DAY = 20_700
HOUR_US = DAY_US // 24


def at_noon(day: int) -> int:
    return day * DAY_US + DAY_US // 2


def said(
    number: int, truth: Truth, day: int = DAY, late_h: float = 1.0, source: str = "app", **facts: object
) -> LabelRow:
    made = at_noon(day)
    known = {
        "policy": 7,
        "route": "spam",
        "backend": "v3",
        "segment": "device=phone",
        "outcome": 0,
        "score": 0.9,
    }
    usual = Facts(made, flagged=True, review_pi=0.5, sampled=True, **{**known, **facts})  # type: ignore[arg-type]
    return LabelRow(number.to_bytes(16, "big"), 0, source, truth, usual, made + round(late_h * HOUR_US))


def test_days_are_added_up_whether_or_not_they_are_rolled(ledger: Ledger, url: str) -> None:
    """Two hours of one day are one row; the rolled day is not read twice."""
    key = ("spam", 7, "v3", "", int(Outcome.MODEL), "ok")
    with another(url) as connection:
        rows = {(DAY * 24 + hour, *key): [10, 11] for hour in (0, 5, 23, 24, 30)}
        rolling.add(connection, schema.tally_calls, rows)
    for rolled in (False, True):
        if rolled:
            with another(url) as connection:
                assert rolling.roll(connection, schema.tally_calls, 24, (DAY + 3) * 24)
        found = by_day(ledger.reader, schema.tally_calls, ("route",), ("calls", "rows"), DAY, DAY + 2)
        assert sorted(tuple(map(int, (row[0], *row[2:]))) for row in found) == [
            (DAY, 30, 33),
            (DAY + 1, 20, 22),
        ]
    assert first_day(ledger.reader) == DAY
    assert [tuple(row) for row in held_out(ledger.reader, Window())] == [("spam", 7, False, 50)]


def test_what_people_answered_is_no_prediction(ledger: Ledger, url: str) -> None:
    """Nor is the holdout."""
    with another(url) as connection:
        rows = {(DAY * 24, "spam", 7, "v3", "", int(one), 1, 900, 0.5): [5, 1] for one in Outcome}
        rolling.add(connection, schema.tally_scores, rows)
    [row] = by_day(ledger.reader, schema.tally_scores, ("route",), ("rows",), DAY, DAY + 1, predicted=True)
    assert int(row[-1]) == 5 * (len(Outcome) - 2)


def test_nothing_is_known_of_an_empty_ledger(ledger: Ledger) -> None:
    """No day, no delay, no unit."""
    assert first_day(ledger.reader) is None
    assert delays(ledger.reader, 0, at_noon(DAY)) == {}
    assert len(units(ledger.reader, Window(), "spam", "app").unit) == 0


def test_confidences_weigh_by_their_probability(ledger: Ledger, url: str) -> None:
    """Sums of weights and of their squares, by cell."""
    rows = [
        {
            "decision": at.to_bytes(16, "big"),
            "row": 0,
            "time_us": at_noon(DAY),
            "policy": 7,
            "route": "spam",
            "backend": "v3",
            "segment": "",
            "outcome": int(Outcome.MODEL if at else Outcome.HOLDOUT),
            "reason": "ok",
            "confidence": 0.801,
            "review_pi": 0.25 if at % 2 else 0.5,
            "sampled": True,
            "propensity": 1.0,
            "unit": at // 3,
        }
        for at in range(7)
    ]
    with another(url) as connection:
        connection.execute(sa.insert(schema.decisions), rows)
    [found] = confidence_by_day(ledger.reader, DAY, DAY + 1)
    assert tuple(found[:4]) == (DAY, "spam", "v3", 80)
    assert [float(one) for one in found[4:]] == [3 * 4 + 3 * 2, 3 * 16 + 3 * 4]
    ledger.submit_labels([said(3, Truth(value=2.5))]).result(30.0)
    sampled = units(ledger.reader, Window(), "spam", "app")
    assert sorted(sampled.unit.tolist()) == [0, 0, 1, 1, 1, 2]
    assert np.nansum(sampled.value) == 2.5
    assert np.isfinite(sampled.value).sum() == 1
    assert set(sampled.weight.tolist()) == {2.0, 4.0}


def test_signals_and_outcomes_are_counted_by_their_day_and_name(ledger: Ledger) -> None:
    """A correction is no further one."""
    rows = [said(at, Truth(value=1.0, signal="click"), DAY + at % 2) for at in range(5)]
    rows += [said(9, Truth(value=4.0)), said(9, Truth(value=5.0), late_h=2.0)]
    for row in rows:
        ledger.submit_labels([row]).result(30.0)
    found = {(row[0], row[4]): int(row[5]) for row in statements_by_day(ledger.reader, DAY, DAY + 2)}
    assert found == {(DAY, "click"): 3, (DAY + 1, "click"): 2, (DAY, ""): 1}
    [(route, source, held, count, total, squared)] = outcome_sums(ledger.reader, Window())
    assert (route, source, held, count, float(total), float(squared)) == ("spam", "app", 0, 1, 5.0, 25.0)
    assert stated("app", "click") == "app (click)"
    assert stated("app", "") == "app (outcome)"


def test_delays_are_hours_to_the_first_thing_said(ledger: Ledger) -> None:
    """By source, with what it says of flagged predictions, and how old these are."""
    rows = [said(at, Truth(positive=at % 2 == 0), late_h=0.5 + at) for at in range(6)]
    rows += [
        said(0, Truth(positive=False), late_h=20.0),
        said(7, Truth(value=1.0, signal="click"), late_h=2.5),
    ]
    for row in rows:
        ledger.submit_labels([row]).result(30.0)
    now = at_noon(DAY) + 30 * HOUR_US
    found = delays(ledger.reader, at_noon(DAY) - DAY_US, now)
    assert set(found) == {("spam", "app"), ("spam", "app (click)")}
    app = found["spam", "app"]
    assert sorted(app.delay_h.tolist()) == [0, 1, 2, 3, 4, 5]
    assert set(app.age_h.tolist()) == {30.0}
    assert app.positive[np.argmin(app.delay_h)] == 1
    assert set(app.flagged.tolist()) == {1}


def test_of_many_labels_whole_hours_are_read(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million labels would say the same; hours are skipped so that none of the day is always left out."""
    monkeypatch.setattr("gateway.ledger.daily.MOST_DELAYS", 50)
    rows = []
    for at in range(400):
        row = said(at, Truth(positive=True))
        made = at_noon(DAY) + at * HOUR_US
        facts = Facts(made, 7, "spam", "v3", "", 0, 0.9, True, 0.5, True)
        rows.append(LabelRow(row.decision, 0, "app", row.truth, facts, made + HOUR_US))
    ledger.submit_labels(rows).result(30.0)
    found = delays(ledger.reader, at_noon(DAY) - DAY_US, at_noon(DAY) + 500 * HOUR_US)["spam", "app"]
    assert 20 <= len(found.delay_h) <= 50
    assert len({int(age) % 24 for age in found.age_h}) > 12
