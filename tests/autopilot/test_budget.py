"""The review budget is kept, whatever the traffic is made of."""

from __future__ import annotations

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


def batch(unflagged: int, flagged: int, policy: int = 1) -> Batch:
    rows = unflagged + flagged
    return Batch(
        records={
            "policy": np.full(rows, policy, np.uint32),
            "route": np.zeros(rows, np.uint16),
            "row": np.zeros(rows, np.uint32),
            "stratum": np.repeat(np.array([0, 1], np.uint8), [unflagged, flagged]),
        },
        attempts={},
        mirrors={},
        strings=(),
        captures=(),
        names=NAMES,
    )


@given(budget=st.floats(1e-4, 100), unflagged=rates, flagged=rates)
def test_split_spends_the_budget_and_never_more(budget: float, unflagged: float, flagged: float) -> None:
    """Expected reviews equal the budget, or everything where there is less traffic than budget."""
    shares = split(budget, unflagged, flagged)
    assert 0 <= shares.flagged <= 1
    assert 0 <= shares.unflagged <= 1
    expected = shares.flagged * flagged + shares.unflagged * unflagged
    assert expected == pytest.approx(min(budget, unflagged + flagged), rel=1e-6, abs=1e-9)


def test_rare_flagged_predictions_are_over_sampled() -> None:
    """One prediction in a hundred is flagged: each is far likelier to be reviewed than one that was not."""
    shares = split(60 / 3600, unflagged=0.99, flagged=0.01)
    assert shares.flagged > 50 * shares.unflagged


def test_shares_follow_traffic_and_rest_when_it_is_steady() -> None:
    """A new policy comes with the first traffic, and none while nothing changes."""
    clock = Clock()
    budget = ReviewBudget({"spam": 3600.0}, {}, clock)
    assert budget.shares == {"spam": Shares(*FIRST_SHARES)}
    clock.now = 9.0
    budget.consume(batch(990, 10))
    assert budget.revise() is None, "nine seconds are too short a look"
    clock.now = 10.0
    revised = budget.revise()
    assert revised is not None
    assert revised["spam"].flagged == pytest.approx(0.5)
    assert revised["spam"].unflagged == pytest.approx(0.5 / 99)
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
