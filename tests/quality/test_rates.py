"""The rates beside precision and recall: against scikit-learn, by simulation, and with reviewers who err."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score

from gateway.errors import QualityError
from gateway.quality import Disagreement, Estimate, Labels, Predictions, Rates, measure, rates
from tests.quality.populations import POPULATIONS, review, shares

NAMES = ("precision", "recall", "accuracy", "false_positive_rate", "prevalence")


def estimates(found: Rates) -> list[Estimate]:
    return [*(getattr(found, name) for name in NAMES), *found.f.values()]


def test_a_fully_labelled_window_agrees_with_scikit_learn_and_is_sure() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(3000)
    truth, flagged, one = rng.random(3000) < score, score >= 0.6, np.ones(3000)
    found = rates(Predictions.of(flagged, score, one), Labels.of(flagged, score, one, truth), rng)
    wanted = {
        "precision": precision_score(truth, flagged),
        "recall": recall_score(truth, flagged),
        "accuracy": accuracy_score(truth, flagged),
        "false_positive_rate": flagged[~truth].mean(),
        "prevalence": truth.mean(),
    }
    for name, value in wanted.items():
        estimate = getattr(found, name)
        assert [estimate.low, estimate.value, estimate.high] == pytest.approx([value] * 3, abs=1e-12)
    for beta, estimate in found.f.items():
        assert estimate.value == pytest.approx(fbeta_score(truth, flagged, beta=beta))


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_the_truth(name: str) -> None:
    """As often as those of precision and recall, which they share their draws' distribution with."""
    rng = np.random.default_rng(41)
    windows = 80
    held = dict.fromkeys(("f2", "accuracy", "false_positive_rate", "prevalence"), 0)
    for _ in range(windows):
        traffic = POPULATIONS[name](rng)
        came, known = review(rng, [(traffic, shares(traffic))])
        found = rates(came, known, rng, betas=(2.0,), draws=500)
        flagged, count, yes = traffic.flagged, traffic.count, traffic.positive
        hits, every = yes[flagged].sum(), count.sum()
        truth = {
            "f2": 5 * hits / (count[flagged].sum() + 4 * yes.sum()),
            "accuracy": (hits + (count - yes)[~flagged].sum()) / every,
            "false_positive_rate": (count - yes)[flagged].sum() / (count - yes).sum(),
            "prevalence": yes.sum() / every,
        }
        known_of = {"f2": found.f[2.0]} | {n: getattr(found, n) for n in held if n != "f2"}
        for one, estimate in known_of.items():
            assert estimate.low is not None
            assert estimate.high is not None
            held[one] += estimate.low - 1e-12 <= truth[one] <= estimate.high + 1e-12
    least = 0.93 - 2.33 * np.sqrt(0.93 * 0.07 / windows)
    assert all(count / windows > least for count in held.values()), held


def test_precision_and_recall_are_those_of_measure() -> None:
    """One window, one number, whoever asks; without disagreement the bounds differ by their draws alone."""
    rng = np.random.default_rng(42)
    traffic = POPULATIONS["common"](rng)
    came, known = review(rng, [(traffic, shares(traffic))])
    here, there = rates(came, known, rng), measure(came, known, rng)
    for name in ("precision", "recall"):
        one, other = getattr(here, name), getattr(there, name)
        assert one.value == pytest.approx(other.value)
        assert [one.low, one.high] == pytest.approx([other.low, other.high], abs=0.02)
    assert here.f[1.0].value == pytest.approx(there.f1.value)


def test_reviewers_who_contradict_each_other_widen_every_interval() -> None:
    """Labels wrong in 5 %: the truth lies outside of what the labels say, and inside of what is shown."""
    rng = np.random.default_rng(43)
    outside = inside = 0
    for _ in range(40):
        n = 20_000
        truth = rng.random(n) < 0.3
        flagged = np.where(truth, rng.random(n) < 0.9, rng.random(n) < 0.05)
        seen = rng.random(n) < 0.1
        said = truth ^ (rng.random(n) < 0.05)
        pi, none = np.full(n, 0.1), np.full(n, np.nan)
        came = Predictions.of(flagged, none, pi)
        known = Labels.of(flagged[seen], none[seen], pi[seen], said[seen])
        wanted = truth[flagged].mean()
        pairs = 600
        apart = Disagreement(pairs, int(rng.binomial(pairs, 2 * 0.05 * 0.95)))
        plain, carried = (
            rates(came, known, rng, draws=400, disagreement=one).precision for one in (None, apart)
        )
        for estimate, count in ((plain, 0), (carried, 1)):
            assert estimate.low is not None
            assert estimate.high is not None
            held = estimate.low <= wanted <= estimate.high
            outside += not count and not held
            inside += count and held
        assert plain.value == carried.value
        assert "contradict" in str(carried.note)
    assert outside > 10
    assert inside >= 37


def test_an_error_is_worked_out_of_pairs() -> None:
    """Two who err in 10 % disagree in 18 %; of three, two must err."""
    assert Disagreement(1000, 180).error == pytest.approx(0.1)
    assert Disagreement(1000, 180, answers=3).error == pytest.approx(3 * 0.1**2 - 2 * 0.1**3)
    assert Disagreement(0, 0).error == 0.0
    with pytest.raises(QualityError, match="disagreed"):
        Disagreement(3, 4)


def test_a_beta_must_be_above_zero() -> None:
    none = np.zeros(0)
    with pytest.raises(QualityError, match="betas"):
        rates(
            Predictions.of(none, none, none),
            Labels.of(none, none, none, none),
            np.random.default_rng(0),
            betas=(0.0,),
        )


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([0.0, 0.5, 1.0, float("nan")]),
            st.booleans(),
            st.sampled_from([0.0, 1e-9, 0.3, 1.0]),
            st.integers(0, 40),
        ),
        max_size=10,
    ),
    pairs=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_any_input_gives_rates_or_reasons(
    cells: list[tuple[bool, float, bool, float, int]], pairs: tuple[int, int]
) -> None:
    """No warning, no NaN, no exception: one class, nothing, probability 0, reviewers who always disagree."""
    columns = list(zip(*cells, strict=True)) if cells else [()] * 5
    flagged, score, truth, pi, count = (np.array(column) for column in columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rates(
            Predictions.of(flagged, score, pi, count * 2),
            Labels.of(flagged, score, pi, truth.astype(bool), count),
            np.random.default_rng(0),
            disagreement=Disagreement(max(pairs), min(pairs)),
            draws=50,
        )
    for estimate in estimates(found):
        assert (estimate.value is None) == (estimate.reason is not None)
        if estimate.value is not None and estimate.low is not None and estimate.high is not None:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
