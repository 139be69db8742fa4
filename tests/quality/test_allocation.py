"""A review budget is divided so that it tells most, and no division undercuts its floors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import QualityError
from gateway.quality import allocate, guess, neyman, pool, spreads
from gateway.quality.allocation import LOWEST_LEAST, SIDE_LEAST, Objective
from tests.quality.populations import BINS, POPULATIONS

Floats = NDArray[np.float64]

STRATA = 10
BUDGET = 200
REPEATS = 600
FLAGGED = np.arange(STRATA) >= STRATA // 2

some = st.one_of(st.just(0.0), st.floats(1e-3, 1e5))
objectives = st.sampled_from(["both", "precision", "recall"])


def recall_errors(population: str, seed: int) -> dict[str, float]:
    """RMSE of the stratified estimate of recall in simulated windows, by how the same budget was divided."""
    rng = np.random.default_rng(seed)
    errors: dict[str, list[float]] = {}
    stratum = np.arange(BINS) * STRATA // BINS
    for _ in range(REPEATS):
        traffic = POPULATIONS[population](rng)
        size = np.bincount(stratum, weights=traffic.count, minlength=STRATA)
        positive = np.bincount(stratum, weights=traffic.positive, minlength=STRATA).astype(np.int64)
        rate = positive / np.maximum(size, 1)
        rough = np.clip(rate * 2.0 ** rng.choice([-1, 1], STRATA), 1e-4, 0.99)  # wrong by two, either way
        plans = {
            "proportional": BUDGET * size / size.sum(),
            "rough": neyman(size, spreads(size, rough, FLAGGED, "recall"), BUDGET),
            "true": neyman(size, spreads(size, rate, FLAGGED, "recall"), BUDGET),
        }
        truth = positive[FLAGGED].sum() / positive.sum()
        for name, plan in plans.items():
            labels = np.floor(plan + rng.random(STRATA)).astype(np.int64)  # on average what was planned
            labels = np.clip(labels, np.minimum(1, size), size).astype(np.int64)
            found = rng.hypergeometric(positive, (size - positive).astype(np.int64), labels)
            estimated = size * found / np.maximum(labels, 1)
            value = estimated[FLAGGED].sum() / estimated.sum() if estimated.sum() else 0.5
            errors.setdefault(name, []).append(value - truth)
    return {name: float(np.sqrt(np.mean(np.square(of)))) for name, of in errors.items()}


def test_a_rough_guess_of_the_rates_does_nearly_as_well_as_the_truth_and_far_better_than_proportional() -> (
    None
):
    """1 % positives, 200 labels of 20,000: the figures that the module's text gives."""
    error = recall_errors("rare", seed=11)
    assert error["rough"] < 0.75 * error["proportional"], error
    assert error["rough"] < 1.2 * error["true"], error


def test_no_population_pays_much_for_it() -> None:
    """Where positives hide among the lowest scores nothing helps, and proportional is as good: within a tenth."""
    error = recall_errors("blind_spots", seed=12)
    assert error["rough"] < 1.1 * error["proportional"], error


def test_labels_go_by_size_times_spread() -> None:
    """Neyman's own example: twice the size or twice the spread has twice the labels."""
    labels = neyman([100, 200, 100], [1.0, 1.0, 2.0], 50)
    assert labels == pytest.approx([10, 20, 20])


def test_what_a_stratum_has_no_room_for_goes_to_the_others() -> None:
    labels = neyman([5, 1000, 1000], [90.0, 1.0, 1.0], 205)
    assert labels == pytest.approx([5, 100, 100])


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(some, min_size=3, max_size=8),
    budget=st.floats(0, 1e6),
    data=st.data(),
)
def test_a_budget_is_spent_and_never_overspent(
    sizes: list[float], budget: float, data: st.DataObject
) -> None:
    """The labels add up to the budget, or to all there is, and no stratum has more than its predictions."""
    rates = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    sides = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    objective: Objective = data.draw(objectives)
    trust = data.draw(st.floats(0, 1))
    spread = spreads(sizes, rates, sides, objective)
    lowest = data.draw(st.integers(0, len(sizes) - 1))
    labels = allocate(sizes, spread, sides, budget, lowest=lowest, objective=objective, trust=trust)
    assert labels.sum() == pytest.approx(min(budget, sum(sizes)), rel=1e-6, abs=1e-6)
    assert np.all(labels >= 0)
    assert np.all(labels <= np.asarray(sizes) * (1 + 1e-9) + 1e-9)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.floats(1e3, 1e5), min_size=4, max_size=4),
    rates=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    objective=objectives,
)
def test_floors_hold_whatever_the_rates_say(
    sizes: list[float], rates: list[float], objective: Objective
) -> None:
    """Each side keeps its least part, and the lowest scores theirs: a guess must not make its own error invisible."""
    sides = np.array([True, False, False, False])
    labels = allocate(
        sizes, spreads(sizes, rates, sides, objective), sides, 100, lowest=1, objective=objective
    )
    least = SIDE_LEAST[objective]
    assert labels[0] >= 100 * least[0] - 1e-6
    assert labels[1:].sum() >= 100 * least[1] - 1e-6
    assert labels[1] >= LOWEST_LEAST * labels[1:].sum() - 1e-6
    assert np.all(labels > 0)


def test_precision_looks_at_what_is_flagged_and_recall_at_the_rest() -> None:
    size, rate, sides = [300, 19_700], [0.7, 0.002], np.array([True, False])
    spread = {of: spreads(size, rate, sides, of) for of in ("precision", "recall")}
    assert spread["precision"][1] == 0
    assert allocate(size, spread["precision"], sides, 100, objective="precision")[0] > 75
    assert allocate(size, spread["recall"], sides, 100, objective="recall")[1] > 75


def test_a_pool_of_cells_has_their_mean_square() -> None:
    """What a fallback answered is flagged or not, and sampled with one probability."""
    total, spread = pool([10, 30, 60], [0.5, 0.1, 0.2], [0, 0, 1], 2)
    assert total == pytest.approx([40, 60])
    assert spread == pytest.approx([np.sqrt((10 * 0.25 + 30 * 0.01) / 40), 0.2])


def test_without_labels_the_guess_counts_and_with_many_the_labels_do() -> None:
    assert guess([0], [0], [0.05]) == pytest.approx([0.05])
    assert guess([10_000], [2_000], [0.05]) == pytest.approx([0.2], rel=0.01)
    assert guess([500], [0], [0.05])[0] > 0, "none found is not none there"


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (lambda: neyman([1.0, -1.0], [1.0, 1.0], 1), "size: found a number that is negative"),
        (lambda: neyman([1.0], [float("nan")], 1), "spread: found a number that is negative or not finite"),
        (lambda: neyman([1.0], [1.0], -1), "budget: found -1"),
        (lambda: spreads([1.0], [1.5], [True]), "rate: found one outside"),
        (lambda: guess([1], [2], [0.5]), "positive: found fewer than none or more"),
        (lambda: guess([1], [1], [1.0]), "prior: found a rate outside"),
        (lambda: neyman([[1.0]], [1.0], 1), "size: found shape"),
    ],
)
def test_what_makes_no_sense_is_named(what: object, found: str) -> None:
    with pytest.raises(QualityError, match=found):
        what()  # type: ignore[operator]
