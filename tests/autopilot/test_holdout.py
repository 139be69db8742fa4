"""The holdout's report from a real ledger: what the model is worth, and whether the split can be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sqlalchemy as sa

from gateway.autopilot.holdout import holdout_reports
from gateway.ledger import Facts, LabelRow, Ledger, Truth, Window, schema
from gateway.ledger.grid import HOUR_US
from gateway.types import Outcome
from tests.autopilot import days
from tests.autopilot.days import DAY, Days
from tests.ledger.making import another


def told(ledger: Ledger, rng: np.random.Generator, held: int, treated: int, gain: float) -> None:
    """Outcomes of calls, by the source `sales`."""
    rows = []
    for at in range(held + treated):
        out = Outcome.HOLDOUT if at < held else Outcome.MODEL
        facts = Facts(days.noon_us(DAY), 7, "spam", "spam-v3", "", int(out), 0.9, True, 0.1, False)
        value = float(rng.normal(10.0 + gain * (at >= held), 4.0))
        rows.append(
            LabelRow((at + 1).to_bytes(16, "big"), 0, "sales", Truth(value=value), facts, facts.time_us + 1)
        )
    ledger.submit_labels(rows).result(30.0)


def policy(to: Days, share: float) -> None:
    """Version 7, with that share."""
    document = f'{{"routes": [{{"name": "spam", "holdout": {{"share": {share}, "answer": ["ham"]}}}}]}}'
    with another(to.url) as connection:
        connection.execute(
            sa.insert(schema.policies).values(
                version=7, hash="x", document=document, created_us=0, author="", reason=""
            )
        )


def sampled(to: Days, units: int, calls: int) -> None:
    """Sampled calls, some of each unit."""
    rows = [
        {
            "decision": (10**6 + at).to_bytes(16, "big"),
            "row": 0,
            "time_us": days.noon_us(DAY),
            "policy": 7,
            "route": "spam",
            "backend": "spam-v3",
            "segment": "",
            "outcome": 0,
            "reason": "ok",
            "review_pi": 0.5,
            "sampled": True,
            "propensity": 1.0,
            "unit": at // calls,
        }
        for at in range(units * calls)
    ]
    with another(to.url) as connection:
        connection.execute(sa.insert(schema.decisions), rows)


def test_the_model_is_worth_what_it_brings(tmp_path: Path) -> None:
    """In the outcome's unit, with the split beside it."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(1)
    to.calls(DAY, {("", 0): 9010, ("", int(Outcome.HOLDOUT)): 990})
    to.write()
    policy(to, 0.1)
    told(ledger, rng, 200, 1800, 1.5)
    found = holdout_reports(ledger.reader, Window())["spam"]
    ledger.close()
    [sales] = found.lifts
    assert (found.calls, found.held) == (10_000, 990)
    assert found.ratio is not None
    assert not found.ratio.suspect
    assert "10.00 % of units are set to be, and chance explains the difference" in found.words
    assert sales.lift.low is not None
    assert sales.lift.high is not None
    assert 0 < sales.lift.low < 1.5 < sales.lift.high
    assert sales.worth is not None
    assert abs(sales.worth - sales.lift.value * 9010) < 1e-6 if sales.lift.value is not None else False
    assert sales.words.startswith("With the model outcomes are higher, by sales: +1.")
    assert "too narrow where units call often" in sales.words
    assert found.as_dict()["outcomes"]["sales"]["says"] == "better"


def test_a_split_that_chance_does_not_explain_is_told_first(tmp_path: Path) -> None:
    """With few calls a unit; where a few units make many, chance does explain it."""
    for name, calls, suspect in (("few", 2, True), ("many", 40, False)):
        ledger, to = days.made(tmp_path / name)
        to.calls(DAY, {("", 0): 8800, ("", int(Outcome.HOLDOUT)): 1200})
        to.write()
        policy(to, 0.1)
        sampled(to, 2000 // calls, calls)
        found = holdout_reports(ledger.reader, Window())["spam"]
        ledger.close()
        assert found.ratio is not None
        assert found.ratio.suspect == suspect, name
        assert ("something else decides who is held out" in found.words) == suspect


def test_what_cannot_be_said_is_said(tmp_path: Path) -> None:
    """Few outcomes of the holdout, no holdout at all, and outcomes before the window."""
    ledger, to = days.made(tmp_path)
    to.calls(DAY, {("", 0): 900, ("", int(Outcome.HOLDOUT)): 100})
    to.write()
    told(ledger, np.random.default_rng(2), 3, 100, 0.0)
    found = holdout_reports(ledger.reader, Window())["spam"]
    [sales] = found.lifts
    assert found.ratio is None
    assert sales.words == (
        "What the model is worth by sales cannot be said: 3 of the 30 outcomes of the holdout that it takes at least; "
        "27 more would do."
    )
    assert holdout_reports(ledger.reader, Window(since_us=(DAY + 1) * 24 * HOUR_US)) == {}
    ledger.close()


def test_a_route_without_a_holdout_has_no_such_report(tmp_path: Path) -> None:
    """Nothing is compared with nothing."""
    ledger, to = days.made(tmp_path)
    to.calls(DAY, {("", 0): 900})
    to.write()
    assert holdout_reports(ledger.reader, Window()) == {}
    ledger.close()
