"""Late labels: what is there is not what will be, and the correction must be right on average."""

from __future__ import annotations

import os
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.duration.survfunc import SurvfuncRight

from gateway.errors import QualityError
from gateway.quality.delay import LEAST_SHARE, corrected_share, delay_distribution, expected_count
from gateway.quality.intervals import wilson_interval

LONG = os.environ.get("SIMULATE") == "long"
RUNS = 2000 if LONG else 300
DAY = 24.0
TRUTH = 0.8
Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


def sixty_days(rng: np.random.Generator) -> Rows:
    """96 flagged predictions a day, 80 % right; hours of delay and of age of those whose label has come."""
    age = np.repeat(np.arange(60 * DAY), 4)
    right = rng.random(len(age)) < TRUTH
    delay = np.floor(np.where(right, rng.exponential(2 * DAY, len(age)), rng.exponential(9 * DAY, len(age))))
    there = delay <= age
    return delay[there], age[there], right[there]


def test_the_correction_is_right_on_average_where_the_labels_that_are_there_are_not() -> None:
    """And so are not those of predictions of which 90 % of the labels have come."""
    rng = np.random.default_rng(20_271)
    within = 21 * DAY
    corrected, naive, mature, held = [], [], [], 0
    for _ in range(RUNS):
        delay, age, right = sixty_days(rng)
        found = corrected_share(delay, age, right, within=within)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        corrected.append(found.value)
        held += found.low <= TRUTH <= found.high
        recent = age <= within
        from_age = delay_distribution(delay, age).age_of(0.9)
        assert from_age is not None
        naive.append(right[recent].mean())
        mature.append(right[recent & (age >= from_age)].mean())
    error = float(np.std(corrected)) / sqrt(RUNS)
    figures = [float(np.mean(of)) for of in (corrected, naive, mature)], held / RUNS
    assert abs(figures[0][0] - TRUTH) < 4 * error + 0.001, figures  # a thousandth comes after the 60 days
    assert figures[0][1] > TRUTH + 20 * error, figures
    assert figures[0][2] > TRUTH + 10 * error, figures
    assert wilson_interval(held, RUNS, 0.99)[1] > 0.95, figures


def test_it_is_the_product_limit_estimate_of_survival_backwards_in_time() -> None:
    """statsmodels has it for times that are truncated on the left; a delay that is truncated on the right is one."""
    rng = np.random.default_rng(5)
    age = rng.integers(0, 50, 4000).astype(float)
    delay = np.floor(rng.exponential(12, len(age)))
    there = delay <= age
    mine = delay_distribution(delay[there], age[there])
    last = 60.0
    back = SurvfuncRight(last - delay[there], np.ones(there.sum()), entry=last - age[there] - 0.5)
    # P(X <= x) = P(last - X >= last - x): what survives beyond just before last - x.
    survival = np.concatenate([[1.0], back.surv_prob])
    before = survival[np.searchsorted(back.surv_times, last - mine.delay, side="left")]
    known = mine.delay <= mine.horizon
    scale = before[known][-1]
    assert mine.by(mine.delay[known]) == pytest.approx(before[known] / scale, abs=1e-9)


def test_without_truncation_it_is_the_share_that_came() -> None:
    """Old predictions alone: plain counting."""
    delay = np.array([0.0, 1.0, 1.0, 4.0] * 10)
    found = delay_distribution(delay, np.full(40, 100.0))
    assert found.by([-1, 0, 0.9, 1, 3, 4, 50]) == pytest.approx([0, 0.25, 0.25, 0.75, 0.75, 1, 1])
    assert found.age_of(0.9) == 4.0
    assert found.age_of(0.5) == 1.0


def test_rows_with_counts_are_labels_one_by_one() -> None:
    """The ledger gives cells; a cell of three is three labels."""
    rng = np.random.default_rng(6)
    age = rng.integers(0, 9, 300).astype(float)
    delay = np.minimum(rng.integers(0, 9, 300).astype(float), age)
    yes = rng.random(300) < 0.5
    count = rng.integers(0, 4, 300)
    one = corrected_share(delay, age, yes, count)
    rows = [np.repeat(column, count) for column in (delay, age, yes)]
    other = corrected_share(rows[0], rows[1], rows[2])
    assert one.labels == other.labels
    assert one.value == pytest.approx(other.value)
    assert one.low == pytest.approx(other.low)


def test_predictions_too_young_to_speak_are_left_out() -> None:
    """One label where a hundred will be is no ground to reckon with a hundred."""
    delay = np.concatenate([np.zeros(10), np.full(90, 5.0)])
    of = delay_distribution(delay, np.full(100, 9.0))
    assert float(of.by(0.0)) < LEAST_SHARE
    young = expected_count(of, [0.0, 5.0], [7, 50])
    assert young.seen == 50
    assert young.total == pytest.approx(50.0)


def test_what_cannot_be_known_is_said() -> None:
    """No labels, few, only one kind, only one age, and ages that never overlap."""
    none = corrected_share([], [], [])
    assert (none.value, none.reason, none.missing) == (None, "no label has come yet", 20)
    few = corrected_share([1.0] * 5, [9.0] * 5, [True] * 5)
    assert few.value is None
    assert few.missing == 15
    assert "5 of the 20 labels" in str(few.reason)
    every = corrected_share(np.arange(30.0), np.full(30, 40.0), [True] * 30)
    assert every.value == 1.0
    assert every.low is not None
    assert 0.5 < every.low < 1.0
    parted = delay_distribution([0.0] * 30 + [9.0] * 30, [5.0] * 30 + [20.0] * 30)
    assert parted.reason is not None
    assert parted.age_of() is None
    assert list(parted.by([1.0, 30.0])) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("delay", "age", "count"),
    [
        ([np.nan], [1.0], None),
        ([-1.0], [1.0], None),
        ([2.0], [1.0], None),
        ([1.0], [np.nan], None),
        ([1.0], [1.0, 2.0], None),
        ([1.0], [2.0], [-1]),
    ],
)
def test_nonsense_is_refused(delay: list[float], age: list[float], count: list[int] | None) -> None:
    """A clock that ran backwards must not turn into a number."""
    with pytest.raises(QualityError):
        delay_distribution(delay, age, count)
