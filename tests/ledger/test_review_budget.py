"""What a review budget rests on: labels by stratum, the last policy's division, and what people do."""

from __future__ import annotations

from typing import Any

from gateway.ledger import REVIEW, Lease, Ledger
from gateway.ledger.review_budget import BUDGET_KEY, kept_budgets, stratum_labels, workloads
from tests.ledger.making import HOUR_US, NOW_US, Clock, batch, decision, label, sampled
from tests.ledger.test_review_queue import fill, lease, says

KEPT = {"spam": {"per_hour": 60.0, "shares": {}, "rates": [], "everything": False}}


def answer(ledger: Ledger, positive: bool = True) -> Lease:
    task = lease(ledger)
    ledger.submit_review(task.task, task.token, "ann", says(positive)).result()
    return task


def row(number: int, **facts: Any) -> dict[str, Any]:
    return {
        "id_lo": number,
        "sampled": 1,
        "review_pi": 0.5,
        "score": 0.1,
        "flagged": 0,
        "stratum": 0,
        **facts,
    }


def test_labels_are_counted_by_stratum_and_side(ledger: Ledger) -> None:
    """Guesses of where positives are rest on these."""
    captures = [sampled(number).captures[0] for number in (1, 2, 3)]
    records = [row(1), row(2, stratum=3, flagged=1), row(3, stratum=3)]
    ledger.write_batch(batch(records, captures=captures))
    assert ledger.flush()
    for positive in (False, True, True):
        answer(ledger, positive)
    found = stratum_labels(ledger.reader)
    cells = zip(found.route, found.stratum, found.flagged, found.labels, found.positive, strict=True)
    assert sorted((str(a), int(b), int(c), int(d), int(e)) for a, b, c, d, e in cells) == [
        ("spam", 0, 0, 1, 0),
        ("spam", 3, 0, 1, 1),
        ("spam", 3, 1, 1, 1),
    ]
    assert stratum_labels(ledger.reader, newest=1).labels.sum() == 1, "the newest only"


def test_what_a_budget_rested_on_is_kept_and_makes_no_other_policy(ledger: Ledger) -> None:
    """A restart finds it; rates alone, which never stand still, are no new version."""
    assert kept_budgets(ledger.reader) == {}
    first = ledger.keep_policy({"routes": [], BUDGET_KEY: KEPT}, author="a", reason="b")
    assert kept_budgets(ledger.reader) == KEPT
    other = {"spam": {**KEPT["spam"], "rates": [1.0]}}
    assert ledger.keep_policy({"routes": [], BUDGET_KEY: other}, author="a", reason="b") == first
    assert ledger.keep_policy({"routes": [{}], BUDGET_KEY: other}, author="a", reason="b") > first


def test_what_people_do_is_held_against_the_budget(ledger: Ledger, clock: Clock) -> None:
    """Two hours of a budget of 60 an hour with ten tasks done of 120: overload, with the number that would fit."""
    ledger.keep_policy({"routes": [], BUDGET_KEY: KEPT}, author="a", reason="b")
    assert workloads(ledger.reader, NOW_US)["spam"].state == "unknown"
    fill(ledger, *range(1, 121))
    for _ in range(10):
        answer(ledger)
    clock.now_us = now_us = NOW_US + 2 * HOUR_US
    found = workloads(ledger.reader, now_us)["spam"]
    assert (found.state, found.open, found.made_per_hour, found.done_per_hour) == ("overload", 110, 60, 5)
    assert "lower per_hour to 5" in found.words
    assert decision(1)  # the ids that were made


def test_a_day_ago_is_not_now(ledger: Ledger, clock: Clock) -> None:
    """What was done long ago says nothing of how people keep up."""
    ledger.keep_policy({"routes": [], BUDGET_KEY: KEPT}, author="a", reason="b")
    fill(ledger, 1)
    answer(ledger)
    found = workloads(ledger.reader, NOW_US + 30 * HOUR_US)["spam"]
    assert (found.made_per_hour, found.done_per_hour, found.hours) == (0, 0, 24)
    assert found.state == "balanced", "no task waits: there is nothing that people have not done"


def test_a_corrected_answer_counts_once_in_its_last_form(ledger: Ledger) -> None:
    """A reviewer who changes an answer must not stand for two labels, one of them wrong."""
    fill(ledger, 1)
    answer(ledger, positive=True)
    ledger.submit_labels([label(1, False, source=REVIEW)]).result()
    found = stratum_labels(ledger.reader)
    assert (found.labels.tolist(), found.positive.tolist()) == ([1], [0])
