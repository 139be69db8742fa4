"""Intervals of one rate, against statsmodels and scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from gateway.errors import QualityError
from gateway.quality import clopper_pearson_interval, normal_quantile, wilson_interval

COUNTS = [(0, 1), (1, 1), (0, 200), (200, 200), (1, 200), (37, 120), (999, 1000), (5_000, 1_000_000)]


@pytest.mark.parametrize(("events", "trials"), COUNTS)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_wilson_agrees_with_statsmodels(events: int, trials: int, level: float) -> None:
    """An oracle that computes the same thing."""
    wanted = proportion_confint(events, trials, 1 - level, method="wilson")
    assert wilson_interval(events, trials, level) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("events", "trials"), COUNTS)
def test_clopper_pearson_agrees_with_scipy_and_statsmodels(events: int, trials: int) -> None:
    """Two oracles that compute the same thing."""
    exact = binomtest(events, trials).proportion_ci(0.95, method="exact")
    found = clopper_pearson_interval(events, trials)
    assert found == pytest.approx((exact.low, exact.high), abs=1e-10)
    assert found == pytest.approx(proportion_confint(events, trials, 0.05, method="beta"), abs=1e-10)


def test_wilson_stays_within_zero_and_one_exactly() -> None:
    """A bound of -1e-17 would be shown as such somewhere."""
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


def test_a_finite_population_narrows_the_interval_down_to_nothing() -> None:
    """When everything was looked at there is nothing left to be unsure of."""
    endless = wilson_interval(60, 100)
    half = wilson_interval(60, 100, population=200)
    assert endless[0] < half[0] < 0.6 < half[1] < endless[1]
    assert wilson_interval(60, 100, population=100) == (0.6, 0.6)
    assert wilson_interval(60, 100, population=10**9) == pytest.approx(endless, abs=1e-6)


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
@pytest.mark.parametrize(
    ("events", "trials", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]
)
def test_impossible_counts_are_refused(interval, events: int, trials: int, level: float) -> None:  # type: ignore[no-untyped-def]
    """Never a NaN: what has no answer says so."""
    with pytest.raises(QualityError, match="wanted"):
        interval(events, trials, level)


def test_the_normal_quantile_is_the_usual_one() -> None:
    """1.96 covers 95 %."""
    assert normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
