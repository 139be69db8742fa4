"""Scores as probabilities: against scikit-learn where it computes the same, by simulation where nobody does."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from gateway.errors import QualityError
from gateway.quality import Calibration, Labels, Recalibration, calibration, recalibrate
from gateway.quality.recalibration import pooled
from tests.quality.populations import Floats


def labelled(score: Floats, truth: Floats, pi: float | Floats = 1.0) -> Labels:
    return Labels.of(np.zeros(len(score)), score, np.broadcast_to(pi, score.shape), truth)


def perfect(rng: np.random.Generator, n: int) -> Labels:
    score = rng.beta(0.8, 2.0, n)
    return labelled(score, rng.random(n) < score)


def too_sure(rng: np.random.Generator, n: int) -> tuple[Labels, Floats]:
    """Log odds twice what they should be: what deep models say."""
    truth = rng.beta(1.5, 2.5, n)
    odds = 2.0 * np.log(truth / (1 - truth))
    score = 1 / (1 + np.exp(-odds))
    return labelled(score, rng.random(n) < truth), truth


def plug_in(labels: Labels, bins: int = 10) -> float:
    order = np.argsort(labels.score)
    parts = np.array_split(order, bins)
    n = len(order)
    return float(
        sum(len(p) / n * abs(labels.positive[p].mean() - labels.score[p].mean()) for p in parts if len(p))
    )


@pytest.mark.parametrize("n", [100, 500])
def test_a_perfect_model_is_not_blamed_for_chance(n: int) -> None:
    """The plain error would say .12 with 100 labels; a third of that is left, and the interval reaches 0."""
    rng = np.random.default_rng(31)
    windows = [perfect(rng, n) for _ in range(120)]
    errors = [calibration(one).error for one in windows]
    values = [one.value for one in errors if one.value is not None]
    assert np.mean(values) < 0.5 * np.mean([plug_in(one) for one in windows])
    assert np.mean([one.low == 0.0 for one in errors]) > 0.9


def test_the_error_of_a_wrong_model_is_found() -> None:
    """On average within .015 of what a million labels say: a tenth of it is taken for chance."""
    rng = np.random.default_rng(32)
    truth = calibration(too_sure(rng, 400_000)[0]).error.value
    found = [calibration(too_sure(rng, 600)[0]).error for _ in range(100)]
    assert truth is not None
    assert truth > 0.1
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.015)
    held = [one.low is not None and one.high is not None and one.low <= truth <= one.high for one in found]
    assert np.mean(held) > 0.9


def test_the_table_and_the_brier_score_are_those_of_scikit_learn() -> None:
    """Unweighted, without ties: bins of equal mass."""
    rng = np.random.default_rng(33)
    labels = too_sure(rng, 5000)[0]
    found = calibration(labels)
    rate, score = calibration_curve(labels.positive, labels.score, n_bins=10, strategy="quantile")
    assert [one.rate for one in found.table] == pytest.approx(rate, abs=0.005)
    assert [one.score for one in found.table] == pytest.approx(score, abs=0.005)
    assert found.brier.value == pytest.approx(brier_score_loss(labels.positive, labels.score))
    assert sum(one.labels for one in found.table) == 5000
    assert sum(one.share for one in found.table) == pytest.approx(1.0)


def test_weights_speak_for_what_was_not_reviewed() -> None:
    """High scores reviewed ten times as often: the weighted Brier score is that of everything, scikit-learn's too."""
    rng = np.random.default_rng(34)
    every, _ = too_sure(rng, 60_000)
    pi = np.where(every.score > 0.5, 0.5, 0.05)
    seen = rng.random(len(pi)) < pi
    labels = labelled(every.score[seen], every.positive[seen], pi[seen])
    found = calibration(labels).brier
    weighted = brier_score_loss(labels.positive, labels.score, sample_weight=1 / labels.pi)
    assert found.value == pytest.approx(weighted)
    whole = float(np.mean((every.score - every.positive) ** 2))
    assert found.low is not None
    assert found.high is not None
    assert found.low < whole < found.high
    plain = float(np.mean((labels.score - labels.positive) ** 2))
    assert not found.low < plain < found.high, "unweighted it would be wrong"


def test_adjacent_violators_are_pooled_as_scikit_learn_does() -> None:
    """With ties in the rates and unequal weights."""
    rng = np.random.default_rng(35)
    for _ in range(20):
        rate, weight = np.round(rng.random(50), 1), rng.uniform(0.1, 5.0, 50)
        fit, _ = pooled(rate, weight)
        wanted = IsotonicRegression().fit_transform(np.arange(50), rate, sample_weight=weight)
        assert fit == pytest.approx(wanted)
    with pytest.raises(QualityError, match="none"):
        pooled(np.zeros(0), np.zeros(0))


def test_platts_table_is_a_logistic_regression() -> None:
    """Scikit-learn's, without a penalty, on the log odds; the smoothed targets differ by what 2,000 labels allow."""
    rng = np.random.default_rng(36)
    labels, truth = too_sure(rng, 2000)
    odds = np.log(labels.score / (1 - labels.score)).reshape(-1, 1)
    oracle = LogisticRegression(C=1e9).fit(odds, labels.positive)
    table = recalibrate(labels, rng, method="platt")
    assert table.map(labels.score) == pytest.approx(oracle.predict_proba(odds)[:, 1], abs=0.004)
    assert np.abs(table.map(labels.score) - truth).mean() < 0.03


@pytest.mark.parametrize(("n", "method"), [(300, "platt"), (4000, "isotonic")])
def test_a_table_mends_a_model_that_is_too_sure(n: int, method: str) -> None:
    """Chosen by the number of labels; judged on labels that it was not fitted on, and on new ones here."""
    rng = np.random.default_rng(37)
    table = recalibrate(too_sure(rng, n)[0], rng)
    assert table.method == method
    assert table.better
    fresh, _ = too_sure(rng, 20_000)
    mended = labelled(table.map(fresh.score), fresh.positive)
    before, after = calibration(fresh).error.value, calibration(mended).error.value
    assert before is not None
    assert after is not None
    assert after < 0.4 * before


def test_a_good_model_gains_nothing_and_is_told_so() -> None:
    """Out of its own labels every table looks better; on the other half it does not."""
    rng = np.random.default_rng(38)
    seen = [recalibrate(perfect(rng, 400), rng).better for _ in range(30)]
    assert np.mean(seen) < 0.6


def test_a_model_that_is_upside_down_has_no_rising_table() -> None:
    """The table may not turn the order of scores round: that takes another model, or `positive` the other way."""
    rng = np.random.default_rng(39)
    score = rng.random(500)
    table = recalibrate(labelled(score, rng.random(500) < 1 - score), rng)
    assert table.method is None
    assert "higher scores" in str(table.reason)
    with pytest.raises(QualityError, match="no table"):
        table.map([0.5])


cells = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.2, 0.5, 0.999, 1.0, float("nan"), 7.0, -3.0]),
        st.booleans(),
        st.sampled_from([0.0, 1e-9, 0.3, 1.0]),
        st.integers(0, 400),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(cells=cells, method=st.sampled_from(["auto", "platt", "isotonic"]))
def test_any_input_gives_a_table_that_rises_or_a_reason(
    cells: list[tuple[float, bool, float, int]], method: str
) -> None:
    """No warning, no NaN; what the data plane would refuse never comes out."""
    columns = list(zip(*cells, strict=True)) if cells else [()] * 4
    score, truth, pi, count = (np.array(column) for column in columns)
    labels = Labels.of(np.zeros(len(score)), score, pi, truth.astype(bool), count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calibration(labels)
        table = recalibrate(labels, np.random.default_rng(0), method=method)
    assert isinstance(found, Calibration)
    assert isinstance(table, Recalibration)
    assert "nan" not in str([found.as_dict(), table.as_dict()]).lower()
    assert (table.reason is None) == bool(table.x)
    if table.x:
        assert 2 <= len(table.x) <= 1000
        assert np.all(np.diff(table.x) > 0)
        assert np.all(np.diff(table.y) >= 0)
        assert min(*table.x, *table.y) >= 0
        assert max(*table.x, *table.y) <= 1


def test_a_million_labels_take_less_than_two_seconds() -> None:
    """Processor time, so that what else runs does not count."""
    rng = np.random.default_rng(9)
    labels, _ = too_sure(rng, 1_000_000)
    before = time.process_time()
    calibration(labels)
    assert time.process_time() - before < 2.0
