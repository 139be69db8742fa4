"""What decisions are worth: by hand, against each other, and how often a move is made for nothing."""

from __future__ import annotations

import os
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import QualityError
from gateway.quality import (
    GRID,
    Costs,
    Labels,
    Predictions,
    calibrated_threshold,
    cost_optimal,
    people_curve,
    value_curve,
)
from tests.quality.populations import POPULATIONS, Floats, Traffic
from tests.quality.reviewed import overlapping, rows, window

LONG = os.environ.get("SIMULATE") == "long"
COSTS = Costs(false_positive=5.0, false_negative=1.0, true_positive=-2.0, review=0.4)
RNG = 3


def per_thousand(flagged: Floats, truth: Floats, costs: Costs = COSTS) -> float:
    return float(-1000 * costs.decision(flagged, truth).mean())


def test_the_calibrated_threshold_is_where_both_mistakes_cost_alike() -> None:
    """At t of true positives among calls of that score, flagging costs as much as not."""
    at = calibrated_threshold(COSTS)
    assert at == pytest.approx(5 / 8)
    flag, leave = 5.0 * (1 - at) - 2.0 * at, 1.0 * at
    assert flag == pytest.approx(leave)


def test_a_fully_labelled_curve_is_the_plain_mean_at_every_threshold() -> None:
    """Nothing is left to doubt, so the interval has no width."""
    score, truth = overlapping(1)
    curve = value_curve(*rows(score, truth), COSTS, np.random.default_rng(RNG))
    for threshold, amount in zip(curve.cut, curve.value, strict=True):
        wanted = per_thousand(score >= threshold, truth)
        assert [amount.low, amount.value, amount.high] == pytest.approx([wanted] * 3)
    assert curve.share == pytest.approx([(score >= threshold).mean() for threshold in GRID])


def test_people_take_over_what_is_less_sure() -> None:
    """By hand: a call below the floor costs a review and what a right decision costs, the others what they did."""
    score, truth = overlapping(2)
    flagged, sure = score >= 0.5, np.maximum(score, 1 - score)
    one = np.ones(len(score))
    curve = people_curve(
        Predictions.of(flagged, sure, one),
        Labels.of(flagged, sure, one, truth),
        COSTS,
        np.random.default_rng(RNG),
    )
    for floor, share, amount in zip(curve.cut, curve.share, curve.value, strict=True):
        aside = sure < floor
        cost = np.where(aside, COSTS.person(truth), COSTS.decision(flagged, truth)).mean()
        assert amount.value == pytest.approx(-1000 * cost)
        assert share == pytest.approx(aside.mean())


@pytest.mark.parametrize("name", ["calibrated", "rare", "common"])
def test_intervals_of_the_curve_hold_its_value(name: str) -> None:
    """At thresholds below, at and above the one that predictions were reviewed by."""
    rng = np.random.default_rng(21)
    windows, held, points = 600 if LONG else 60, 0, 0
    costs, cut = Costs(1.0, 20.0), [0.3, 0.5, 0.6]
    for _ in range(windows):
        traffic = POPULATIONS[name](rng)
        pi = np.where(traffic.score >= 0.5, 0.1, 0.01)
        curve = value_curve(*window(rng, traffic, pi), costs, rng, grid=cut, draws=500)
        for threshold, amount in zip(cut, curve.value, strict=True):
            wanted = of_traffic(traffic, threshold, costs)
            if amount.low is not None and amount.high is not None:
                points += 1
                held += amount.low - 1e-9 <= wanted <= amount.high + 1e-9
    assert points > 2 * windows
    # Three points of a window are wrong together, so that they count once.
    assert held / points > 0.93 - 2.33 * np.sqrt(0.93 * 0.07 / windows)


def of_traffic(traffic: Traffic, threshold: float, costs: Costs) -> float:
    above = traffic.score >= threshold
    wrong = (traffic.count - traffic.positive)[above].sum() * costs.false_positive
    missed = traffic.positive[~above].sum() * costs.false_negative
    return float(-1000 * (wrong + missed) / traffic.count.sum())


def equally_good(rng: np.random.Generator) -> Traffic:
    """Of every score one in five is positive, so that with costs of 1 and 4 any threshold costs the same."""
    count = rng.multinomial(20_000, np.full(200, 1 / 200))
    return Traffic(np.arange(200) / 200, count, rng.binomial(count, 0.2))


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_an_equally_good_threshold_is_left_in_at_most_delta_of_windows(share: float) -> None:
    """The best of a hundred thresholds always looks better; the limit holds over all of them at once."""
    rng = np.random.default_rng(22)
    windows, moved = 1000 if LONG else 100, 0
    looked_better = 0
    for _ in range(windows):
        traffic = equally_good(rng)
        pi = np.where(traffic.score >= 0.5, 3 * share, share)
        move = cost_optimal(*window(rng, traffic, pi), Costs(1.0, 4.0), 0.5, rng, draws=400)
        moved += move.choice.threshold != 0.5
        looked_better += move.best not in (None, 0.5)
    assert moved / windows <= 0.05 + 0.02 + (0.0 if LONG else 2.33 * np.sqrt(0.05 * 0.95 / windows))
    assert looked_better > 0.9 * windows


def test_a_threshold_that_costs_less_is_found() -> None:
    """Scores are probabilities here, so that the formula gives the truth; 4 is what a miss costs."""
    rng = np.random.default_rng(23)
    score = rng.random(20_000)
    truth = rng.random(20_000) < score
    move = cost_optimal(*rows(score, truth), Costs(1.0, 4.0), 0.5, rng)
    assert move.calibrated == pytest.approx(0.2)
    assert move.choice.threshold == pytest.approx(0.2, abs=0.06)
    better = per_thousand(score >= move.choice.threshold, truth, Costs(1.0, 4.0)) - per_thousand(
        score >= 0.5, truth, Costs(1.0, 4.0)
    )
    assert move.gain.value == pytest.approx(better)
    assert move.gain.low is not None
    assert 0 < move.gain.low < better


def test_today_is_kept_with_a_reason() -> None:
    """Few labels show nothing; the best looking threshold is named all the same."""
    score, truth = overlapping(5, 60)
    move = cost_optimal(*rows(score, truth, 0.01), COSTS, 0.55, np.random.default_rng(RNG))
    assert move.choice.threshold == 0.55
    assert move.choice.reason


def test_parts_follow_one_another_and_name_the_plateau() -> None:
    """Two groups of scores: between them every threshold decides alike."""
    rng = np.random.default_rng(24)
    truth = rng.random(4000) < 0.5
    score = np.where(truth, rng.uniform(0.8, 0.9, 4000), rng.uniform(0.1, 0.2, 4000))
    curve = value_curve(*rows(score, truth), Costs(1.0, 1.0), rng)
    ends = [(part.start, part.end) for part in curve.parts]
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    plateau = max(curve.parts, key=lambda part: (part.kind == "plateau") * (part.end - part.start))
    assert plateau.kind == "plateau"
    assert (plateau.start, plateau.end) == (pytest.approx(0.2, abs=0.011), pytest.approx(0.8, abs=0.011))
    before = [part for part in curve.parts if part.end <= plateau.start]
    assert before
    assert all(part.change >= 0 for part in before)
    assert any(part.shown and "rises" in part.words for part in before)


def test_blind_sides_have_no_value() -> None:
    """A miss that nobody could see cannot be priced."""
    score, truth = overlapping(6)
    pi = np.where(score >= 0.4, 0.5, 0.0)
    none, seen = np.zeros(len(score)), score >= 0.4
    curve = value_curve(
        Predictions.of(none, score, pi),
        Labels.of(none[seen], score[seen], pi[seen], truth[seen]),
        COSTS,
        np.random.default_rng(RNG),
        grid=[0.5, 0.9],
    )
    assert [amount.value for amount in curve.value] == [None, None]
    assert all("never reviewed" in str(amount.reason) for amount in curve.value)


@settings(max_examples=25, deadline=None)
@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.2, 0.5, 0.999, 1.0, float("nan"), 7.0, -3.0]),
            st.booleans(),
            st.sampled_from([0.0, 1e-9, 0.3, 1.0]),
            st.integers(0, 40),
        ),
        max_size=12,
    ),
    today=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_any_input_gives_an_amount_or_a_reason(
    cells: list[tuple[float, bool, float, int]], today: float
) -> None:
    """No warning, no NaN, no exception."""
    columns = list(zip(*cells, strict=True)) if cells else [()] * 4
    score, truth, pi, count = (np.array(column) for column in columns)
    none = np.zeros(len(score))
    came = Predictions.of(none, score, pi, count * 3)
    known = Labels.of(none, score, pi, truth.astype(bool), count)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        move = cost_optimal(came, known, COSTS, today, rng, draws=50)
        curves = [make(came, known, COSTS, rng, draws=50) for make in (value_curve, people_curve)]
    words = str([move.as_dict(), *(curve.as_dict() for curve in curves)]).lower()
    assert "nan" not in words.replace("inan", "")
    assert "inf" not in words
    for amount in (*curves[0].value, *curves[1].value, move.gain):
        assert (amount.value is None) == (amount.reason is not None)


def test_costs_that_reward_mistakes_are_refused() -> None:
    """A false positive that is cheaper than a true negative would turn the decision round."""
    for wrong in ({"true_negative": 9.0}, {"true_positive": 2.0}, {"review": -1.0}):
        with pytest.raises(QualityError, match="costs"):
            Costs(**{"false_positive": 5.0, "false_negative": 1.0, **wrong})


def test_a_million_rows_take_less_than_two_seconds() -> None:
    """The curve, its intervals and the best threshold; processor time, so that what else runs does not count."""
    rng = np.random.default_rng(9)
    score, truth = overlapping(9, 1_000_000)
    came, known = rows(score, truth)
    before = time.process_time()
    value_curve(came, known, COSTS, rng)
    cost_optimal(came, known, COSTS, 0.5, rng)
    assert time.process_time() - before < 2.0
