"""Simulations with fixed seeds: intervals hold the truth as often as they say, and values are right on
average.

N = 20,000 predictions, 200 labels, nominal 95 %. With 400 windows a population, coverage is known to 1.3
points (one standard error); bounds are those that a method at 93 or 99 % would cross in 1 of 100 runs.
Measured once with 2,000 windows each: see `gateway.quality`. The last test shows that these simulations find
a method that does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest

from gateway.quality import Estimate, Strata, cp_monte_carlo, measure, stratify
from tests.quality.populations import POPULATIONS, Traffic, review, review_by_strata, shares

WINDOWS = 400
FEWER = 200
DRAWS = 800
METRICS = ("precision", "recall", "f1")


def holds(estimate: Estimate, truth: float) -> bool:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        raise AssertionError(f"no number: {estimate.reason}")
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


def flat(traffic: Traffic, rng: np.random.Generator) -> np.ndarray:
    """100 labels on either side of the decision."""
    return shares(traffic, 60 if traffic.count[traffic.flagged].sum() < 300 else 100, 100)


def near(traffic: Traffic, rng: np.random.Generator) -> np.ndarray:
    """Unflagged predictions of a score from .3 on are reviewed ten times as often as the others."""
    base = flat(traffic, rng)
    return np.where(traffic.flagged, base, np.where(traffic.score >= 0.3, 0.05, 0.005))


def too_low(held: int, windows: int) -> bool:
    """Whether a method that holds 93 % of its windows would be this bad in less than 1 of 100 runs."""
    return held / windows < 0.93 - 2.33 * sqrt(0.93 * 0.07 / windows)


def too_high(held: int, windows: int) -> bool:
    """The same for 99 %: wider than it needs to be."""
    return held / windows > 0.99 + 2.33 * sqrt(0.99 * 0.01 / windows)


@pytest.fixture(scope="module")
def held() -> dict[str, dict[str, int]]:
    """Per population and metric, in how many of `WINDOWS` windows the interval held the truth."""
    rng = np.random.default_rng(20_261)
    counts = {}
    for name, population in POPULATIONS.items():
        counts[name] = dict.fromkeys(METRICS, 0)
        for _ in range(WINDOWS):
            traffic = population(rng)
            numbers = measure(*review(rng, [(traffic, flat(traffic, rng))]), rng, draws=DRAWS)
            for metric in METRICS:
                counts[name][metric] += holds(getattr(numbers, metric), getattr(traffic, metric))
    return counts


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_the_truth_in_at_least_93_of_100_windows(
    name: str, held: dict[str, dict[str, int]]
) -> None:
    """The promise behind every interval that is shown."""
    assert not any(too_low(held[name][metric], WINDOWS) for metric in METRICS), held[name]


def test_intervals_are_no_wider_than_they_need_to_be(held: dict[str, dict[str, int]]) -> None:
    """An interval from 0 to 1 would hold every truth; over all populations these miss some, as 95 % must."""
    windows = WINDOWS * len(POPULATIONS)
    for metric in METRICS:
        total = sum(counts[metric] for counts in held.values())
        assert not too_low(total, windows), (metric, total)
        assert not too_high(total, windows), (metric, total)


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_when_probabilities_changed_and_labels_are_late(name: str) -> None:
    """Half of the window reviewed at a third of the rate, and only 80 % of the sample answered yet."""
    rng = np.random.default_rng(20_262)
    held = dict.fromkeys(METRICS, 0)
    for _ in range(FEWER):
        parts = []
        for factor in (1.0, 1 / 3):
            traffic = POPULATIONS[name](rng)
            parts.append((traffic, flat(traffic, rng) * factor))
        whole = Traffic(parts[0][0].score, sum(t.count for t, _ in parts), sum(t.positive for t, _ in parts))
        numbers = measure(*review(rng, parts, answered=0.8), rng, draws=DRAWS)
        for metric in METRICS:
            held[metric] += holds(getattr(numbers, metric), getattr(whole, metric))
    assert not any(too_low(count, FEWER) for count in held.values()), held


@pytest.mark.parametrize("chances", [flat, near], ids=["flat", "near_the_threshold"])
def test_values_are_right_on_average_whatever_the_probabilities(
    chances: Callable[[Traffic, np.random.Generator], np.ndarray],
) -> None:
    """Over-sampling near the threshold must not bias what is shown; unweighted labels would be far off."""
    rng = np.random.default_rng(20_263)
    errors, unweighted = [], []
    for _ in range(FEWER):
        traffic = POPULATIONS["common"](rng)
        predictions, labels = review(rng, [(traffic, chances(traffic, rng))])
        numbers = measure(predictions, labels, rng, draws=2)
        assert numbers.recall.value is not None
        errors.append(numbers.recall.value - traffic.recall)
        found = labels.count[labels.positive]
        unweighted.append(found[labels.flagged[labels.positive]].sum() / found.sum() - traffic.recall)
    standard_error = float(np.std(errors)) / sqrt(FEWER)
    assert abs(float(np.mean(errors))) < 4 * standard_error
    assert abs(float(np.mean(unweighted))) > 6 * standard_error


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_when_strata_have_shares_of_their_own(name: str) -> None:
    """100, 50 and 100 labels of what is flagged, near the threshold and low; one in ten of what is contradicted."""
    rng = np.random.default_rng(20_266)
    held = dict.fromkeys(METRICS, 0)
    for _ in range(FEWER):
        traffic = POPULATIONS[name](rng)
        numbers = measure(*review_by_strata(rng, traffic), rng, draws=DRAWS)
        for metric in METRICS:
            held[metric] += holds(getattr(numbers, metric), getattr(traffic, metric))
    assert not any(too_low(count, FEWER) for count in held.values()), held


def test_positives_are_right_on_average_when_a_shadow_raises_probabilities() -> None:
    """A contradicted prediction weighs by the probability that it came to have; by the one it had before, far off."""
    rng = np.random.default_rng(20_267)
    errors, before = [], []
    for _ in range(FEWER):
        traffic = POPULATIONS["common"](rng)
        _, labels = review_by_strata(rng, traffic)
        weight = labels.count[labels.positive] / labels.pi[labels.positive]
        truth = float(traffic.positive.sum())
        errors.append(float(weight.sum()) / truth - 1)
        flat = np.where(labels.flagged, 100 / traffic.count[traffic.flagged].sum(), 0.01)[labels.positive]
        before.append(
            float((labels.count[labels.positive] / np.minimum(flat, labels.pi[labels.positive])).sum())
            / truth
            - 1
        )
    assert abs(float(np.mean(errors))) < 4 * float(np.std(errors)) / sqrt(FEWER)
    assert abs(float(np.mean(before))) > 6 * float(np.std(before)) / sqrt(FEWER)


def test_cp_monte_carlo_undercuts_its_level_nowhere() -> None:
    """What acts on recall uses these bounds, so they may be wide but not wrong."""
    rng = np.random.default_rng(20_264)
    for name, population in POPULATIONS.items():
        held = 0
        for _ in range(FEWER):
            traffic = population(rng)
            strata = stratify(*review(rng, [(traffic, flat(traffic, rng))]))
            bounds = cp_monte_carlo(strata, rng, draws=DRAWS).recall
            assert bounds is not None
            held += bounds[0] - 1e-12 <= traffic.recall <= bounds[1] + 1e-12
        assert held / FEWER >= 0.95, (name, held / FEWER)


def delta_method(strata: Strata) -> tuple[float, float]:
    """What is commonly done for a ratio: linearise, add up the strata's binomial variances, take 1.96 of them."""
    total = float(strata.positives.sum())
    recall = float(strata.positives[strata.flagged].sum()) / total
    gradient = np.where(strata.flagged, 1 - recall, -recall) / total
    variance = strata.unseen * strata.population * strata.rate * (1 - strata.rate) / strata.effective
    half = 1.96 * sqrt(float((gradient**2 * variance).sum()))
    return recall - half, recall + half


def test_the_simulation_rejects_a_method_that_does_not_hold() -> None:
    """The delta method says that recall is 1, width 0, whenever no missed positive was sampled."""
    rng = np.random.default_rng(20_265)
    held = 0
    for _ in range(FEWER):
        traffic = POPULATIONS["blind_spots"](rng)
        low, high = delta_method(stratify(*review(rng, [(traffic, flat(traffic, rng))])))
        held += low <= traffic.recall <= high
    assert held / FEWER < 0.80
