"""The review budget is kept, whatever the traffic is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.autopilot.budget import ReviewBudget, Shares, split
from gateway.runtime import FIRST_SHARES, Batch, PolicyNames

NAMES = {1: PolicyNames(routes=("spam",), backends=("m",), rules=((),))}
rates = st.floats(0, 1e5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def batch(unflagged: int, flagged: int, policy: int = 1, segment: str = "") -> Batch:
    rows = unflagged + flagged
    return Batch(
        records={
            "policy": np.full(rows, policy, np.uint32),
            "route": np.zeros(rows, np.uint16),
            "row": np.zeros(rows, np.uint32),
            "segment": np.zeros(rows, np.uint32),
            "stratum": np.repeat(np.array([0, 1], np.uint8), [unflagged, flagged]),
        },
        attempts={},
        mirrors={},
        strings=(segment,),
        captures=(),
        names=NAMES,
    )


def of(
    flagged: float, low: float, near: float = 0.0, fallback: float = 0.0, contradicted: float = 0.0
) -> Shares:
    return Shares(flagged, low, near, fallback, contradicted)


@given(budget=st.floats(1e-4, 100), traffic=st.tuples(rates, rates, rates, rates, rates))
def test_split_spends_the_budget_and_never_more(budget: float, traffic: tuple[float, ...]) -> None:
    """Expected reviews equal the budget, or everything where there is less traffic than budget."""
    shares = split(budget, Shares(*traffic))
    assert all(0 <= share <= 1 for share in shares)
    expected = sum(share * rate for share, rate in zip(shares, traffic, strict=True))
    assert expected == pytest.approx(min(budget, sum(traffic)), rel=1e-6, abs=1e-9)


@given(budget=st.floats(1e-3, 1), traffic=st.tuples(*[st.floats(1, 1e4)] * 5))
def test_what_scores_low_keeps_two_fifths_of_what_is_not_flagged(
    budget: float, traffic: tuple[float, ...]
) -> None:
    """Missed positives that score low are found nowhere else, however much there is near the threshold."""
    shares, rate = split(budget, Shares(*traffic)), Shares(*traffic)
    assert shares.flagged * rate.flagged == pytest.approx(budget / 2)
    assert shares.low * rate.low == pytest.approx(0.4 * budget / 2)


def test_what_has_not_come_yet_keeps_its_first_share() -> None:
    """An outage must not put every fallback before people until the next look."""
    assert split(1.0, of(flagged=10.0, low=100.0)).fallback == FIRST_SHARES.fallback


def test_a_segment_that_is_reviewed_more_takes_more_of_the_budget() -> None:
    """The data plane multiplies its shares, so the shares themselves must be smaller."""
    spent = []
    for factors in ({}, {"spam": {"device=phone": 3.0}}):
        clock = Clock()
        budget = ReviewBudget({"spam": 360.0}, {}, clock, factors)
        budget.consume(batch(1000, 0, segment="device=phone,country=de"))
        clock.now = 10.0
        revised = budget.revise()
        assert revised is not None
        spent.append(revised["spam"].low)
    assert spent[0] == pytest.approx(3 * spent[1])


def test_contradicted_predictions_have_a_part_of_the_budget() -> None:
    """A comparison comes after the record: it is counted from the mirrors, once, and noise does not count."""
    clock = Clock()
    budget = ReviewBudget({"spam": 3600.0}, {}, clock)
    made = batch(1000, 1000)
    mirrors = {
        "policy": np.ones(400, np.uint32),
        "route": np.zeros(400, np.uint16),
        "agree": np.repeat(np.array([0, 1, 0, 255], np.uint8), 100),
        "noise": np.repeat(np.array([0, 0, 1, 0], np.uint8), 100),
    }
    budget.consume(replace(made, mirrors=mirrors))
    clock.now = 10.0
    revised = budget.revise()
    assert revised is not None
    assert revised["spam"].disagreement == pytest.approx((1 / 2) * (0.2 / 0.6) / 10)


def test_rare_flagged_predictions_are_over_sampled() -> None:
    """One prediction in a hundred is flagged: each is far likelier to be reviewed than one that was not."""
    shares = split(60 / 3600, of(flagged=0.01, low=0.99))
    assert shares.flagged > 50 * shares.low


def test_shares_follow_traffic_and_rest_when_it_is_steady() -> None:
    """A new policy comes with the first traffic, and none while nothing changes."""
    clock = Clock()
    budget = ReviewBudget({"spam": 3600.0}, {}, clock)
    assert budget.shares == {"spam": FIRST_SHARES}
    clock.now = 9.0
    budget.consume(batch(990, 10))
    assert budget.revise() is None, "nine seconds are too short a look"
    clock.now = 10.0
    revised = budget.revise()
    assert revised is not None
    assert revised["spam"].flagged == pytest.approx(0.5)
    assert revised["spam"].low == pytest.approx(0.5 / 99)
    for _ in range(5):
        clock.now += 10.0
        budget.consume(batch(990, 10))
        assert budget.revise() is None


def test_a_route_without_traffic_keeps_its_shares() -> None:
    """Silence teaches nothing about rates."""
    clock = Clock()
    budget = ReviewBudget({"spam": 60.0}, {"spam": Shares(0.2, 0.1)}, clock)
    clock.now = 100.0
    assert budget.revise() is None
    assert budget.shares == {"spam": Shares(0.2, 0.1)}


def test_records_of_an_unknown_policy_are_left_out() -> None:
    """A batch may hold rows of a policy whose names are forgotten; they do not stop the count."""
    clock = Clock()
    budget = ReviewBudget({"spam": 60.0}, {}, clock)
    budget.consume(batch(5, 5, policy=9))
    clock.now = 100.0
    assert budget.revise() is None
