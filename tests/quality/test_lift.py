"""Lift: unbiased, with intervals that hold the truth, and a check that the split is what was set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare, ttest_ind
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from gateway.errors import QualityError
from gateway.quality.intervals import wilson_interval
from gateway.quality.lift import SUSPECT_P, Outcomes, design_effect, lift, sample_ratio

LONG = os.environ.get("SIMULATE") == "long"
RUNS = 2000 if LONG else 400
SHARE = 0.02
TRUTH = 0.5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Calls of units, some of them held out; money is spent as units are, not as calls are."""

    unit: NDArray[np.int64]
    held: NDArray[np.bool_]
    value: Floats


def clustered(rng: np.random.Generator, units: int = 6000) -> Drawn:
    """8 calls a unit on average, some with hundreds; outcomes are alike within a unit."""
    calls = 1 + rng.negative_binomial(0.7, 0.7 / (0.7 + 7.0), units)
    held = rng.random(units) < SHARE
    taste = rng.gamma(2.0, 2.0, units)
    unit = np.repeat(np.arange(units), calls)
    value = taste[unit] + rng.gamma(1.0, 2.0, len(unit)) + TRUTH * ~held[unit]
    return Drawn(unit, held[unit], value)


def test_welch_is_that_of_scipy_and_statsmodels() -> None:
    """Value, interval and p, from sums alone."""
    rng = np.random.default_rng(1)
    treated, holdout = rng.gamma(2.0, 3.0, 900), rng.gamma(1.0, 5.0, 70)
    mine = lift(Outcomes.of(treated), Outcomes.of(holdout))
    low, high = CompareMeans(DescrStatsW(treated), DescrStatsW(holdout)).tconfint_diff(usevar="unequal")
    assert mine.low == pytest.approx(low, rel=1e-6)
    assert mine.high == pytest.approx(high, rel=1e-6)
    assert mine.p == pytest.approx(ttest_ind(treated, holdout, equal_var=False).pvalue, rel=1e-6)


def test_the_sample_ratio_check_is_scipys_chi_squared() -> None:
    """One setting, calls that stand for units."""
    found = sample_ratio([10_000], [240], [SHARE])
    assert found.p == pytest.approx(chisquare([240, 9760], [200, 9800]).pvalue, rel=1e-9)
    assert found.found == pytest.approx(0.024)
    assert not found.suspect
    assert sample_ratio([10_000], [300], [SHARE]).suspect


def test_lift_is_unbiased_and_its_interval_holds_the_truth() -> None:
    """Skewed money, independent calls, 2 % held out."""
    rng = np.random.default_rng(20_301)
    values, held = [], 0
    for _ in range(RUNS):
        size = rng.binomial(20_000, SHARE)
        treated = rng.gamma(0.5, 8.0, 20_000 - size) + TRUTH
        found = lift(Outcomes.of(treated), Outcomes.of(rng.gamma(0.5, 8.0, size)))
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        values.append(found.value)
        held += found.low <= TRUTH <= found.high
    assert abs(float(np.mean(values)) - TRUTH) < 4 * float(np.std(values)) / sqrt(RUNS)
    low, high = wilson_interval(held, RUNS, 0.99)
    assert low < 0.96
    assert high > 0.93


def test_calls_that_come_in_units_need_the_design_effect() -> None:
    """Without it the interval is too narrow and fair splits look unfair; with it both keep their promise.

    The effects are estimated from a sample of one call in five whose unit is known, as the ledger has it.
    """
    rng = np.random.default_rng(20_302)
    runs = RUNS // 2
    held, plain, suspect, suspect_plain, values = 0, 0, 0, 0, []
    for _ in range(runs):
        drawn = clustered(rng)
        groups = Outcomes.of(drawn.value[~drawn.held]), Outcomes.of(drawn.value[drawn.held])
        known = ~drawn.held & (rng.random(len(drawn.unit)) < 0.2)
        weight = np.full(int(known.sum()), 5.0)
        of_mean = design_effect(drawn.unit[known], weight, drawn.value[known])
        of_count = design_effect(drawn.unit[known], weight)
        assert of_mean is not None
        assert of_count is not None
        with_it, without = lift(*groups, of_mean), lift(*groups)
        assert with_it.value is not None
        values.append(with_it.value)
        held += (with_it.low or 0.0) <= TRUTH <= (with_it.high or 0.0)
        plain += (without.low or 0.0) <= TRUTH <= (without.high or 0.0)
        split = [len(drawn.held)], [int(drawn.held.sum())], [SHARE]
        suspect += sample_ratio(*split, of_count).suspect
        suspect_plain += sample_ratio(*split).suspect
    figures = held / runs, plain / runs, suspect / runs, suspect_plain / runs, np.mean(values), np.std(values)
    assert abs(float(np.mean(values)) - TRUTH) < 4 * float(np.std(values)) / sqrt(runs), figures
    low, high = wilson_interval(held, runs, 0.99)
    assert low < 0.96, figures
    assert high > 0.92, figures
    assert plain / runs < 0.85, figures
    assert suspect <= 0.02 * runs, figures
    assert suspect_plain > 0.05 * runs, figures


def test_a_relative_lift_is_given_where_its_base_is_known() -> None:
    """The delta method against many draws; and none where the base may be nought."""
    rng = np.random.default_rng(20_303)
    held = 0
    for _ in range(RUNS):
        found = lift(Outcomes.of(rng.gamma(2, 1.1, 3000)), Outcomes.of(rng.gamma(2, 1.0, 300)))
        assert found.relative_low is not None
        assert found.relative_high is not None
        held += found.relative_low <= 0.1 <= found.relative_high
    low, high = wilson_interval(held, RUNS, 0.99)
    assert low < 0.96
    assert high > 0.93
    assert lift(Outcomes.of(rng.normal(0, 1, 300)), Outcomes.of(rng.normal(0, 1, 300))).relative is None


def test_what_is_said_of_a_lift() -> None:
    """Better, worse, unclear; and nothing where it cannot be known."""
    many = Outcomes(1000, 2000.0, 5000.0)
    assert lift(many, Outcomes(100, 150.0, 350.0)).says == "better"
    assert lift(many, Outcomes(100, 250.0, 750.0)).says == "worse"
    assert lift(many, Outcomes(100, 200.0, 500.0)).says == "unclear"
    few = lift(many, Outcomes(3, 6.0, 13.0))
    assert few.says == "unknown"
    assert few.reason == "3 of the 30 outcomes of the holdout that it takes at least"
    assert few.missing == 27
    assert (few.treated, few.holdout) == (2.0, 2.0)
    none = lift(many, Outcomes(0, 0.0, 0.0))
    assert none.holdout is None
    same = lift(Outcomes(50, 50.0, 50.0), Outcomes(50, 50.0, 50.0))
    assert same.reason == "all outcomes of a group are the same"


def test_shares_that_changed_are_weighed_by_their_calls() -> None:
    """A week of 2 % and one of 10 % are no mismatch."""
    assert not sample_ratio([10_000, 5_000], [201, 496], [0.02, 0.10]).suspect
    found = sample_ratio([10_000, 5_000], [0, 0], [0.02, 0.10])
    assert found.p is not None
    assert found.p < SUSPECT_P
    assert sample_ratio([], [], []).p is None
    assert sample_ratio([100], [0], [0.0]).p == 1.0
    assert sample_ratio([100], [5], [0.0]).p == 0.0


def test_an_effect_is_not_guessed_from_a_few_pairs() -> None:
    """Nobody called twice, or the sample is too small to see it."""
    assert design_effect(np.arange(500), np.full(500, 2.0)) is None
    assert design_effect([], []) is None
    assert design_effect(np.repeat(np.arange(40), 2), np.ones(80)) == pytest.approx(2.0)
    assert design_effect(np.repeat(np.arange(40), 2), np.ones(80), np.ones(80)) is None


def test_nonsense_is_refused() -> None:
    """Sums that no outcomes have, NaN, shares above one."""
    good = Outcomes(100, 200.0, 500.0)
    with pytest.raises(QualityError, match="holdout"):
        lift(good, Outcomes(100, float("nan"), 1.0))
    with pytest.raises(QualityError, match="design_effect"):
        lift(good, good, 0.5)
    with pytest.raises(QualityError, match="outcomes"):
        Outcomes.of([1.0, float("inf")])
    with pytest.raises(QualityError):
        sample_ratio([1], [2], [0.5])
    with pytest.raises(QualityError):
        sample_ratio([1], [1, 1], [0.5])
    with pytest.raises(QualityError):
        design_effect([1, 1], [0.5, 1.0])
