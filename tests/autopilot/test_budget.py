"""The review budget is kept, whatever the traffic is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.autopilot import ReviewBudget, Shares, Start
from gateway.autopilot.division import CELLS, SURGE_S, divide, expected
from gateway.ledger.review_budget import StratumLabels
from gateway.quality import Objective
from gateway.runtime import FIRST_SHARES
from gateway.types import Stratum
from tests.autopilot.stream import Clock, batch, by_stratum

rates = st.one_of(st.just(0.0), st.floats(1e-3, 1e5))
objectives = st.sampled_from(["both", "precision", "recall"])


@settings(max_examples=60, deadline=None)
@given(
    budget=st.floats(1e-4, 100), traffic=st.tuples(rates, rates, rates, rates, rates), objective=objectives
)
def test_a_division_spends_the_budget_and_never_more(
    budget: float, traffic: tuple[float, ...], objective: Objective
) -> None:
    """Expected reviews equal the budget, or everything where there is less traffic than budget."""
    cells = by_stratum(*traffic)
    shares = divide(budget, cells, objective=objective)
    assert all(0 <= share <= 1 for share in shares)
    if min(cells.sum(axis=1)[cells.sum(axis=1) > 0], default=0) > cells.sum() / 50:  # none is usually rare
        assert expected(shares, cells) == pytest.approx(min(budget, sum(traffic)), rel=1e-6, abs=1e-9)
    assert expected(shares, cells) <= min(budget, sum(traffic)) * (1 + 1e-6) + 1e-9


@settings(max_examples=40, deadline=None)
@given(budget=st.floats(1e-3, 1), traffic=st.tuples(*[st.floats(100, 1e4)] * 5))
def test_what_scores_low_begins_with_two_fifths_of_what_is_not_flagged(
    budget: float, traffic: tuple[float, ...]
) -> None:
    """Missed positives that score low are found nowhere else, however much there is near the threshold."""
    cells = by_stratum(*traffic)
    shares = divide(budget, cells)
    assert shares.flagged * cells[Stratum.FLAGGED].sum() == pytest.approx(budget / 2)
    assert shares.low * cells[Stratum.LOW].sum() == pytest.approx(0.4 * budget / 2)


@settings(max_examples=60, deadline=None)
@given(
    traffic=st.tuples(*[st.floats(100, 1e4)] * 5),
    seen=st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=10, max_size=10),
    objective=objectives,
)
def test_floors_hold_whatever_labels_say(
    traffic: tuple[float, ...], seen: list[tuple[int, float]], objective: Objective
) -> None:
    """A stratum of which nothing came up must not be given up: then nothing could."""
    cells = by_stratum(*traffic)
    labels = np.array([n for n, _ in seen], dtype=float).reshape(CELLS)
    positive = np.floor(labels * np.array([part for _, part in seen]).reshape(CELLS))
    shares = divide(1.0, cells, labels, positive, objective)
    spent = {one: getattr(shares, one.text) * cells[one].sum() for one in Stratum}
    rest = sum(spent.values()) - spent[Stratum.FLAGGED]
    assert spent[Stratum.FLAGGED] >= 0.2 - 1e-6
    assert rest >= 0.2 - 1e-6
    assert spent[Stratum.LOW] >= 0.3 * rest - 1e-6
    assert min(spent.values()) > 0


def test_labels_move_the_division_towards_what_tells_most() -> None:
    """Flagged ones that are all right need few labels, and what is near and often positive many."""
    cells = by_stratum(low=9000.0, flagged=500.0, near=500.0)
    start = divide(1.0, cells)
    labels, positive = np.zeros(CELLS), np.zeros(CELLS)
    for stratum, side, n, x in (
        (Stratum.FLAGGED, 1, 400, 400),
        (Stratum.NEAR, 0, 200, 90),
        (Stratum.LOW, 0, 500, 0),
    ):
        labels[stratum, side], positive[stratum, side] = n, x
    learnt = divide(1.0, cells, labels, positive)
    assert learnt.flagged < 0.8 * start.flagged
    assert learnt.near > 1.2 * start.near


def test_an_outage_spends_at_most_so_much_before_the_next_look() -> None:
    """Fallbacks have been rare; now every answer is one: not all of them are reviewed."""
    shares = divide(60 / 3600, by_stratum(low=990.0, flagged=10.0, fallback=1e-4))
    assert shares.fallback * 1000 <= SURGE_S * 60 / 3600 * 1.001


def test_what_has_not_come_yet_keeps_its_first_share() -> None:
    """An outage must not put every fallback before people until the next look."""
    assert divide(1.0, by_stratum(flagged=10.0, low=100.0)).fallback == FIRST_SHARES.fallback


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
    assert revised["spam"].disagreement == pytest.approx((1 / 2) * (0.2 / 0.6) / 10, rel=0.01)


def test_rare_flagged_predictions_are_over_sampled() -> None:
    """One prediction in a hundred is flagged: each is far likelier to be reviewed than one that was not."""
    shares = divide(60 / 3600, by_stratum(flagged=0.01, low=0.99))
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
    assert revised["spam"].flagged == pytest.approx(0.5, rel=0.01)
    assert revised["spam"].low == pytest.approx(0.5 / 99, rel=0.01)
    for _ in range(5):
        clock.now += 10.0
        budget.consume(batch(990, 10))
        assert budget.revise() is None


def test_a_route_without_traffic_keeps_its_shares() -> None:
    """Silence teaches nothing about rates."""
    clock = Clock()
    budget = ReviewBudget({"spam": 60.0}, {"spam": Start(Shares(0.2, 0.1))}, clock)
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


def test_a_restart_goes_on_from_the_last_policy() -> None:
    """What is kept is read back; a first look after it moves the shares by little; another form is left alone."""
    clock = Clock()
    budget = ReviewBudget({"spam": 3600.0}, {}, clock)
    for _ in range(30):
        budget.consume(batch(990, 10))
        clock.now += 10.0
        budget.revise()
    start = Start.of(budget.kept()["spam"])
    assert start is not None
    again = ReviewBudget({"spam": 3600.0}, {"spam": start}, clock)
    assert again.shares == budget.shares
    assert again.kept() == budget.kept(), "the policy of a restart is the one before it"
    again.consume(batch(985, 15))  # 10 s in which half as many again were flagged
    clock.now += 10.0
    assert again.revise() is None
    for other in ({}, {"rates": [[1.0]]}, {**budget.kept()["spam"], "rates": "all"}):
        assert Start.of(other) is None


def test_another_budget_begins_with_as_many_times_the_shares() -> None:
    start = Start(Shares(0.4, 0.1, 0.1, 0.1, 0.1), 60.0)
    assert ReviewBudget({"spam": 120.0}, {"spam": start}, Clock()).shares["spam"].flagged == pytest.approx(
        0.8
    )
    assert ReviewBudget({"spam": 600.0}, {"spam": start}, Clock()).shares["spam"].flagged == 1.0


def test_labels_of_the_ledger_reach_the_division() -> None:
    clock = Clock()
    budget = ReviewBudget({"spam": 60.0}, {}, clock)
    for _ in range(7):
        budget.consume(batch(990, 10))
        clock.now += 10.0
        before = budget.revise() or budget.shares
    budget.learn(
        StratumLabels(
            np.array(["spam", "other"]),
            np.array([int(Stratum.FLAGGED)] * 2),
            np.array([1, 1]),
            np.array([500, 500]),
            np.array([500, 0]),
        )
    )
    for _ in range(7):
        budget.consume(batch(990, 10))
        clock.now += 10.0
        budget.revise()
    assert budget.shares["spam"].flagged < 0.8 * before["spam"].flagged


def test_all_that_comes_is_reviewed_and_still_too_few() -> None:
    """The load says so: no share can be raised, and less is expected than was wanted."""
    clock = Clock()
    budget = ReviewBudget({"spam": 3600.0}, {}, clock)
    for _ in range(3):
        budget.consume(batch(1, 1, pi=1.0))
        clock.now += 10.0
        budget.revise()
    load = budget.loads()["spam"]
    assert load.everything
    assert load.expected_per_hour == pytest.approx(720)
    assert load.per_hour == 3600
