"""Thresholds keep what they promise as often as they say; beside MAPIE and scikit-learn where those do the same."""

from __future__ import annotations

import os
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController
from scipy.stats import binom
from sklearn.metrics import precision_recall_curve

from gateway.errors import QualityError
from gateway.quality import GRID, Choice, Labels, Predictions, guaranteed, recall_first
from tests.quality.populations import POPULATIONS, Floats, Traffic
from tests.quality.reviewed import overlapping, rows, window

LONG = os.environ.get("SIMULATE") == "long"
DELTA = 0.1


def flat(traffic: Traffic) -> Floats:
    """1,000 labels."""
    return np.full(len(traffic.count), 0.05)


def steep(traffic: Traffic) -> Floats:
    """A hundredfold between what scores high and low, as a budget divided by Neyman may have it."""
    return np.where(traffic.score >= 0.7, 0.5, np.where(traffic.score >= 0.4, 0.03, 0.005))


def sloped(traffic: Traffic) -> Floats:
    """Most labels near the threshold, so that the heaviest ones score highest."""
    return np.where((traffic.score >= 0.5) & (traffic.score < 0.8), 0.2, 0.02)


@pytest.mark.parametrize("reviewed", [flat, steep, sloped])
@pytest.mark.parametrize(("name", "wanted"), [("common", 0.9), ("rare", 0.5)])
def test_the_promised_precision_is_missed_in_at_most_delta_of_windows(
    name: str, wanted: float, reviewed: object
) -> None:
    """The guarantee itself, with equal weights and with unequal ones; the best point estimate misses it in 20-50 %."""
    assert callable(reviewed)
    rng = np.random.default_rng(11)
    windows = 1000 if LONG else 80
    missed = chosen = naive = 0
    for _ in range(windows):
        traffic = POPULATIONS[name](rng)
        came, known = window(rng, traffic, reviewed(traffic))
        choice = guaranteed(came, known, wanted, rng, delta=DELTA)
        if choice.threshold is not None:
            chosen += 1
            above = traffic.score >= choice.threshold
            missed += int(traffic.positive[above].sum()) < wanted * int(traffic.count[above].sum())
        naive += misses_naively(traffic, came, known, wanted)
    spread = 2.33 * np.sqrt(DELTA * (1 - DELTA) / windows)
    assert missed / windows <= DELTA + 0.02 + (0.0 if LONG else spread)
    assert chosen >= windows * 0.3, "a method that never chooses would keep every promise"
    assert naive / windows > 0.15, "these windows would not find a method that does not hold"


def misses_naively(traffic: Traffic, came: Predictions, known: Labels, wanted: float) -> bool:
    """Whether the lowest threshold whose estimated precision is high enough has too low a one."""
    weight = known.count / known.pi
    for threshold in GRID:
        above = known.score >= threshold
        if weight[above].sum() > 0 and (
            (weight * known.positive)[above].sum() >= wanted * weight[above].sum()
        ):
            flagged = traffic.score >= threshold
            return bool(traffic.positive[flagged].sum() < wanted * traffic.count[flagged].sum())
    return False


@pytest.mark.parametrize("name", ["common", "blind_spots"])
def test_the_promised_recall_is_missed_in_at_most_delta_of_windows(name: str) -> None:
    """Also where two of five positives score like negatives, and few misses are in the sample."""
    rng = np.random.default_rng(12)
    windows = 300 if LONG else 25
    wanted, missed = 0.7, 0
    for _ in range(windows):
        traffic = POPULATIONS[name](rng)
        pi = np.where(traffic.score >= 0.5, 0.3, 0.02)
        choice = recall_first(*window(rng, traffic, pi), wanted, rng, delta=DELTA, draws=500)
        if choice.threshold is not None:
            above = traffic.score >= choice.threshold
            missed += int(traffic.positive[above].sum()) < wanted * int(traffic.positive.sum())
    spread = 2.33 * np.sqrt(DELTA * (1 - DELTA) / windows)
    assert missed / windows <= DELTA + 0.02 + (0.0 if LONG else spread)


def test_every_threshold_that_mapie_allows_is_allowed_here() -> None:
    """MAPIE bounds the same hypotheses by Hoeffding and Bentkus, never below the exact binomial used here."""
    grid = np.linspace(0.95, 0.2, 76)
    for seed in range(6):
        score, truth = overlapping(seed)
        oracle = BinaryClassificationController(
            lambda x: np.column_stack([1 - x, x]),
            "precision",
            0.85,
            confidence_level=1 - DELTA,
            list_predict_params=grid,
            fwer_method="fixed_sequence",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it finds nothing
            oracle.calibrate(score, truth.astype(int))
        allowed = np.asarray(oracle.valid_predict_params)
        choice = guaranteed(
            *rows(score, truth), 0.85, np.random.default_rng(0), delta=DELTA, grid=np.sort(grid)
        )
        assert choice.threshold is not None
        if len(allowed):
            assert choice.threshold <= float(allowed.min()) + 1e-12


def test_the_threshold_is_that_of_binomial_p_values_one_by_one() -> None:
    """By hand with scipy's binomial: down from the first threshold with labels enough, while each p-value is small."""
    score, truth = overlapping(3)
    wanted = 0.85
    first = 2 * np.log(DELTA) / np.log(wanted)
    expected = None
    for threshold in GRID[::-1]:
        above = score >= threshold
        if above.sum() < first:
            continue
        if binom.sf(truth[above].sum() - 1, above.sum(), wanted) > DELTA:
            break
        expected = threshold
    choice = guaranteed(*rows(score, truth), wanted, np.random.default_rng(0), delta=DELTA)
    assert choice.threshold == expected


def test_the_window_at_the_chosen_threshold_agrees_with_scikit_learn() -> None:
    """What is printed beside a threshold is its point of the precision-recall curve."""
    score, truth = overlapping(4)
    choice = guaranteed(*rows(score, truth), 0.8, np.random.default_rng(0))
    assert choice.threshold is not None
    precision, recall, thresholds = precision_recall_curve(truth, score)
    place = int(np.searchsorted(thresholds, choice.threshold))
    assert choice.precision.value == pytest.approx(precision[place])
    assert choice.recall.value == pytest.approx(recall[place])
    assert choice.flagged == pytest.approx((score >= choice.threshold).mean())


def test_too_few_labels_are_counted() -> None:
    """An abstention says what would end it."""
    score, truth = np.full(10, 0.9), np.ones(10)
    choice = guaranteed(*rows(score, truth, 0.5), 0.9, np.random.default_rng(0))
    assert choice.threshold is None
    assert choice.missing == 44 - 10  # 2 ln(.1)/ln(.9) = 43.7
    assert "10 labels of the 44" in str(choice.reason)


def test_the_labels_that_are_missing_would_do() -> None:
    """With as many more as are asked for, what was never shown is shown in most windows."""
    rng = np.random.default_rng(5)
    traffic = POPULATIONS["common"](rng)
    pi = np.full(len(traffic.count), 0.012)
    asked = shown = windows = 0
    while asked < 20:
        came, known = window(rng, traffic, pi)
        windows += 1
        choice = guaranteed(came, known, 0.93, rng)
        if choice.missing is None:
            continue
        asked += 1
        more = np.minimum(pi * (1 + choice.missing / known.count.sum()), 1.0)
        shown += guaranteed(*window(rng, traffic, more), 0.93, rng).threshold is not None
    assert shown >= 11
    assert windows < 60, "before that, most windows say nothing about how many would do"


def test_a_model_that_is_never_that_precise_is_told_so() -> None:
    """More labels do not help where nothing scores well enough."""
    rng = np.random.default_rng(6)
    choice = guaranteed(*rows(rng.random(4000), rng.random(4000) < 0.3), 0.9, rng)
    assert (choice.threshold, choice.missing) == (None, None)
    assert "better model" in str(choice.reason)


def test_nothing_is_promised_of_what_is_never_reviewed() -> None:
    """Recall needs the unflagged, precision the flagged; probability 0 forbids either."""
    score, truth = overlapping(7)
    none = np.zeros(len(score))
    rng = np.random.default_rng(0)
    for blind, choose in ((score >= 0.9, guaranteed), (score < 0.1, recall_first)):
        pi = np.where(blind, 0.0, 0.5)
        seen = ~blind
        choice = choose(
            Predictions.of(none, score, pi),
            Labels.of(none[seen], score[seen], pi[seen], truth[seen]),
            0.8,
            rng,
        )
        unseen_flagged = choice.threshold is not None and choice.threshold > 0.1
        assert choice.threshold is None or not unseen_flagged, choice


def test_recall_first_flags_no_more_than_it_must() -> None:
    """With everything labelled the limit is the recall itself, so the next threshold of the grid falls short."""
    score, truth = overlapping(8)
    choice = recall_first(*rows(score, truth), 0.9, np.random.default_rng(0))
    assert choice.threshold is not None
    recall = [truth[score >= threshold].sum() / truth.sum() for threshold in GRID]
    assert choice.threshold == GRID[max(i for i, r in enumerate(recall) if r >= 0.9)]


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.2, 0.5, 0.5, 0.999, 1.0, float("nan"), 7.0, -3.0]),
            st.booleans(),
            st.sampled_from([0.0, 1e-9, 0.3, 1.0]),
            st.integers(0, 40),
        ),
        max_size=12,
    ),
    choose=st.sampled_from([guaranteed, recall_first]),
    wanted=st.sampled_from([0.01, 0.5, 0.99]),
)
def test_any_input_gives_a_threshold_or_a_reason(
    cells: list[tuple[float, bool, float, int]], choose: object, wanted: float
) -> None:
    """No warning, no NaN, no exception: ties, no score, scores out of range, probability 0, one class, nothing."""
    assert callable(choose)
    columns = list(zip(*cells, strict=True)) if cells else [()] * 4
    score, truth, pi, count = (np.array(column) for column in columns)
    none = np.zeros(len(score))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose(
            Predictions.of(none, score, pi, count * 3),
            Labels.of(none, score, pi, truth.astype(bool), count),
            wanted,
            np.random.default_rng(0),
        )
    assert isinstance(choice, Choice)
    assert (choice.threshold is None) == (choice.reason is not None)
    assert "nan" not in str(choice.as_dict()).lower()


@pytest.mark.parametrize("wrong", [{"precision": 1.0}, {"precision": 0.9, "delta": 0.7}])
def test_a_promise_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """A precision of 1 is shown by no number of labels."""
    with pytest.raises(QualityError, match="wanted a share"):
        guaranteed(*rows(np.ones(3), np.ones(3)), rng=np.random.default_rng(0), **wrong)


def test_a_grid_must_rise() -> None:
    """Out of order, the first failure would not be the first."""
    with pytest.raises(QualityError, match="rise"):
        guaranteed(*rows(np.ones(3), np.ones(3)), 0.9, np.random.default_rng(0), grid=[0.5, 0.4])


def test_a_million_rows_take_less_than_two_seconds() -> None:
    """Processor time, so that what else runs does not count."""
    rng = np.random.default_rng(9)
    score, truth = overlapping(9, 1_000_000)
    pi = np.where(score >= 0.5, 0.5, 0.1) * rng.uniform(0.9, 1.0, len(score))
    none = np.zeros(len(score))
    came, known = Predictions.of(none, score, pi), Labels.of(none, score, pi, truth)
    before = time.process_time()
    guaranteed(came, known, 0.9, rng)
    assert time.process_time() - before < 2.0
