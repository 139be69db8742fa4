"""Values of arms from calls that they shared by chance: simulations with fixed seeds, oracles, and what is refused.

1,600 labels in 16 policy versions, whose shares follow the rewards by Thompson sampling with a floor of 5 %.
`SIMULATE=long` plays ten times as many windows.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import QualityError
from gateway.quality import Estimate, Rewards, RewardSums, moments, off_policy
from gateway.quality.off_policy import Method
from tests.quality.arms import play

WINDOWS = 4000 if os.environ.get("SIMULATE") == "long" else 400
VERSIONS, LABELS = 16, 100
TARGET = np.array([0.2, 0.3, 0.5])
PAIRS = ((0, 1), (0, 2), (1, 2))


def steady(*means: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.full((VERSIONS, len(means)), means)


def rising(*means: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Every arm does better from version to version, by the same: a product that is being mended around the model."""
    return steady(*means) + np.linspace(-0.2, 0.15, VERSIONS)[:, None]


POPULATIONS: dict[str, tuple[np.ndarray, float | None]] = {
    "apart": (steady(0.80, 0.78, 0.72), None),
    "equal": (steady(0.80, 0.80, 0.80), None),
    "seldom_wrong": (steady(0.97, 0.99, 0.95), None),
    "rising": (rising(0.70, 0.72, 0.62), None),
    "numbers": (steady(0.50, 0.55, 0.45), 0.3),
}


@dataclass
class Found:
    """Over all windows: how often each interval held, and by how much each value was off."""

    arms: np.ndarray
    differences: np.ndarray
    target: float
    errors: np.ndarray
    plain: np.ndarray


def holds(estimate: Estimate, truth: float) -> bool:
    assert estimate.value is not None, estimate.reason
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, Method], Found]:
    rng = np.random.default_rng(61)
    made: dict[tuple[str, Method], Found] = {}
    for name, (truth, spread) in POPULATIONS.items():
        played = play(rng, truth, WINDOWS, LABELS, spread=spread)
        means = truth.mean(axis=0)
        methods: tuple[Method, Method] = ("snips", "aipw")
        for method in methods:
            arms, differences, target = np.zeros(3), np.zeros(3), 0
            errors = np.zeros((WINDOWS, 3))
            for window in range(WINDOWS):
                values = off_policy(played.rewards(window), method)
                arms += [holds(one, mean) for one, mean in zip(values.arms, means, strict=True)]
                differences += [holds(values.difference(a, b), means[a] - means[b]) for a, b in PAIRS]
                target += holds(values.policy(TARGET), float(TARGET @ means))
                errors[window] = [
                    (one.value or 0.0) - mean for one, mean in zip(values.arms, means, strict=True)
                ]
            made[name, method] = Found(
                arms / WINDOWS, differences / WINDOWS, target / WINDOWS, errors, played.plain() - means
            )
    return made


@pytest.mark.parametrize("method", ["snips", "aipw"])
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold_the_truth_in_93_to_97_of_100_windows(
    name: str, method: Method, found: dict[tuple[str, Method], Found]
) -> None:
    """Of arms, of their differences and of another policy; bounds that 93 or 97 % would cross in 1 of 1,000 runs."""
    here = found[name, method]
    every = np.concatenate([here.arms, here.differences, [here.target]])
    low = 0.93 - 3.1 * sqrt(0.93 * 0.07 / WINDOWS)
    high = 0.97 + 3.1 * sqrt(0.97 * 0.03 / WINDOWS)
    assert bool(np.all((every > low) & (every < high))), every


@pytest.mark.parametrize("method", ["snips", "aipw"])
def test_intervals_hold_over_all_populations(method: Method, found: dict[tuple[str, Method], Found]) -> None:
    """Averaged, a tenth of that room is left."""
    every = np.concatenate(
        [np.concatenate([here.arms, here.differences]) for (_, by), here in found.items() if by == method]
    )
    assert 0.93 < every.mean() < 0.97


@pytest.mark.parametrize("method", ["snips", "aipw"])
@pytest.mark.parametrize("name", POPULATIONS)
def test_values_are_right_on_average(
    name: str, method: Method, found: dict[tuple[str, Method], Found]
) -> None:
    """Within the error of the simulation."""
    errors = found[name, method].errors
    assert bool(np.all(np.abs(errors.mean(axis=0)) < 3.9 * errors.std(axis=0) / sqrt(WINDOWS))), errors.mean(
        axis=0
    )


def test_the_plain_mean_is_biased_where_these_are_not(found: dict[tuple[str, Method], Found]) -> None:
    """An arm that was unlucky early keeps its bad mean; and one that got its calls on bad days looks bad."""
    equal, rising = (found[name, "snips"].plain for name in ("equal", "rising"))
    for plain, least in ((equal, 0.004), (rising[:, ::2], 0.03)):
        bias = plain.mean(axis=0)
        assert bool(np.all(bias < -least)), bias
        assert bool(np.all(bias < -4 * plain.std(axis=0) / sqrt(WINDOWS)))


def rows(seed: int = 3, size: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, propensities, arms and contexts: the context moves the rewards by much."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 4, size)
    shares = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])[context]
    arm = (rng.random(size)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    propensity = shares[np.arange(size), arm]
    reward = np.clip(0.2 * context + 0.05 * arm + rng.normal(0.1, 0.05, size), 0.0, 1.0)
    return reward, propensity, arm, context


def test_snips_is_the_weighted_mean_of_statsmodels() -> None:
    """And its variance is that of a weighted mean with weights that are no counts."""
    from statsmodels.stats.weightstats import DescrStatsW

    reward, propensity, arm, _ = rows()
    made = moments(Rewards.of(reward, propensity, arm, 3), "snips")
    for index in range(3):
        here = arm == index
        weights = 1 / propensity[here]
        assert made.value[index] == pytest.approx(DescrStatsW(reward[here], weights).mean)
        error = weights * (reward[here] - made.value[index])
        effective = weights.sum() ** 2 / (weights**2).sum()
        wanted = (error**2).sum() / weights.sum() ** 2 * effective / (effective - 1)
        assert made.covariance[index, index] == pytest.approx(wanted)
        assert made.effective[index] == pytest.approx(effective)


def test_aipw_is_what_its_definition_says_row_by_row() -> None:
    """Each row's own reward is left out of the model that it corrects."""
    reward, propensity, arm, context = rows(size=120)
    rewards = Rewards.of(reward, propensity, arm, 3, context=context)
    made, plain = moments(rewards, "aipw"), moments(rewards, "snips").value
    scores = np.zeros((len(reward), 3))
    for row in range(len(reward)):
        for index in range(3):
            same = (context == context[row]) & (arm == index)
            same[row] = False
            model = (reward[same].sum() + 10 * plain[index]) / (same.sum() + 10)
            scores[row, index] = model + (arm[row] == index) * (reward[row] - model) / propensity[row]
    assert made.value == pytest.approx(scores.mean(axis=0))
    centred = scores - scores.mean(axis=0)
    factor = np.sqrt(made.effective / (made.effective - 1))
    assert made.covariance == pytest.approx(centred.T @ centred / len(reward) ** 2 * np.outer(factor, factor))


def test_aipw_is_narrower_where_the_context_explains_the_rewards() -> None:
    """That is what the model is for."""
    reward, propensity, arm, context = rows()
    rewards = Rewards.of(reward, propensity, arm, 3, context=context)
    width = {}
    methods: tuple[Method, Method] = ("snips", "aipw")
    for method in methods:
        one = off_policy(rewards, method).arms[0]
        assert one.low is not None
        assert one.high is not None
        width[method] = one.high - one.low
    assert width["aipw"] < 0.8 * width["snips"]


@pytest.mark.parametrize("method", ["snips", "aipw"])
def test_cells_say_what_their_rows_say(method: Method) -> None:
    """Sums may be added up by day and by machine."""
    reward, propensity, arm, context = rows()
    keys, at = np.unique(np.stack([propensity, arm, context]), axis=1, return_inverse=True)
    cells = Rewards.cells(
        keys[0],
        keys[1],
        3,
        np.bincount(at.ravel()),
        np.bincount(at.ravel(), reward),
        np.bincount(at.ravel(), reward**2),
        context=keys[2],
    )
    one = moments(Rewards.of(reward, propensity, arm, 3, context=context), method)
    other = moments(cells, method)
    assert one.value == pytest.approx(other.value)
    assert one.covariance == pytest.approx(other.covariance)


def test_sums_are_all_that_snips_asks_for() -> None:
    """Of two days, kept as plain numbers and added, they say what the rows say; contexts they have lost."""
    reward, propensity, arm, _ = rows()
    days = [
        RewardSums.of(Rewards.of(reward[part], propensity[part], arm[part], 3))
        for part in (slice(0, 200), slice(200, None))
    ]
    both = days[0] + RewardSums.of_kept(json.loads(json.dumps(days[1].kept())), 0.0, 1.0)
    whole = Rewards.of(reward, propensity, arm, 3)
    for one, other in zip(off_policy(both, "snips").arms, off_policy(whole, "snips").arms, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    for wrong in (
        lambda: moments(both, "aipw"),
        lambda: both + RewardSums.of(Rewards.of([], [], [], 2)),
        lambda: RewardSums.of_kept({"w": [1.0]}, 0.0, 1.0),
        lambda: RewardSums.of_kept(days[0].kept() | {"w": [math.nan] * 3}, 0.0, 1.0),
    ):
        with pytest.raises(QualityError, match="sums"):
            wrong()


def test_rows_that_are_reviewed_more_often_weigh_less() -> None:
    """What is flagged is wrong more often and reviewed five times as often; unweighted, every arm would look bad."""
    rng = np.random.default_rng(9)
    errors, held, unweighted = [], 0, []
    for _ in range(WINDOWS):
        size = 6000
        arm = (rng.random(size) < 0.3).astype(int)
        flagged = rng.random(size) < 0.2
        right = rng.random(size) < np.where(flagged, 0.6, 0.95) - 0.05 * arm
        pi = np.where(flagged, 0.25, 0.05)
        seen = rng.random(size) < pi
        propensity = np.where(arm == 1, 0.3, 0.7)
        columns = (right[seen].astype(float), propensity[seen], arm[seen], 2)
        value = off_policy(Rewards.of(*columns, pi=pi[seen]), "snips").arms[1]
        truth = 0.2 * 0.6 + 0.8 * 0.95 - 0.05
        held += holds(value, truth)
        errors.append((value.value or 0.0) - truth)
        unweighted.append((off_policy(Rewards.of(*columns), "snips").arms[1].value or 0.0) - truth)
    assert abs(np.mean(errors)) < 3.9 * np.std(errors) / sqrt(WINDOWS)
    assert np.mean(unweighted) < -0.05
    assert (
        0.93 - 3.1 * sqrt(0.93 * 0.07 / WINDOWS) < held / WINDOWS < 0.97 + 3.1 * sqrt(0.97 * 0.03 / WINDOWS)
    )


def test_what_cannot_be_said_says_why() -> None:
    """Without labels, with too few, and with propensities that make one row weigh a thousand."""
    none = off_policy(Rewards.of([], [], [], 2)).arms[0]
    assert (none.value, none.labels, none.reason) == (None, 0, "no label of this arm yet")
    few = off_policy(Rewards.of([1.0] * 9, 0.5, [0] * 9, 2), "snips")
    assert few.arms[0].missing == 1
    assert "9.0 of the 10 effective labels" in (few.arms[0].reason or "")
    assert few.policy([1.0, 0.0]).reason == few.arms[0].reason
    assert few.difference(0, 1).reason == few.arms[0].reason
    # a thousand labels of which one weighs as much as all the others
    lopsided = off_policy(Rewards.of([1.0] * 1000, [0.9] * 999 + [0.001], [0] * 1000, 1), "snips").arms[0]
    assert lopsided.value is None
    assert lopsided.labels == 1000
    tiny = off_policy(Rewards.of([1.0] * 1000, 0.0001, [0] * 1000, 1)).arms[0]
    assert "would weigh 10,000" in (tiny.reason or "")


def test_all_right_is_no_proof() -> None:
    """Where every reward is the same the interval is that of a rate, never of width zero."""
    for reward in (1.0, 0.0, 0.7):
        made = off_policy(Rewards.of([reward] * 40, 0.5, [0] * 40, 1), "snips").arms[0]
        assert made.value == pytest.approx(reward)
        assert made.low is not None
        assert made.high is not None
        assert made.high - made.low > 0.05


def test_values_have_the_unit_of_the_rewards() -> None:
    """Stars from 1 to 5."""
    rng = np.random.default_rng(4)
    reward = rng.integers(1, 6, 400).astype(float)
    arm = np.repeat([0, 1], 200)
    values = off_policy(Rewards.of(reward, 0.5, arm, 2, low=1, high=5), "snips")
    assert values.arms[0].value == pytest.approx(reward[:200].mean())
    assert values.policy([0.5, 0.5]).value == pytest.approx(reward.mean())
    difference = values.difference(0, 1)
    assert difference.value == pytest.approx(reward[:200].mean() - reward[200:].mean())
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < reward[:200].mean() - reward[200:].mean() < difference.high


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0]),
            st.floats(allow_nan=True) | st.sampled_from([0.0, 0.05, 0.5, 1.0]),
            st.integers(0, 2),
            st.integers(0, 3),
        ),
        max_size=60,
    ),
    st.sampled_from(["snips", "aipw"]),
)
def test_bad_rows_never_become_nan_or_a_warning(
    given_rows: list[tuple[float, float, int, int]], method: Method
) -> None:
    """They are left out and counted; values stay within the range, limits around values."""
    reward, propensity, arm, context = (
        (list(column) for column in zip(*given_rows, strict=True))
        if given_rows
        else (
            [],
            [],
            [],
            [],
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rewards = Rewards.of(reward, propensity, arm, 3, context=context)
        values = off_policy(rewards, method, minimum=1.0)
        every = [*values.arms, *(values.difference(a, b) for a, b in PAIRS), values.policy(TARGET)]
    assert rewards.left_out + rewards.count.sum() == len(given_rows)
    for one in every:
        if one.value is None:
            assert one.reason
        else:
            assert one.low is not None
            assert one.high is not None
            assert -1.0 <= one.low <= one.value + 1e-9
            assert one.value - 1e-9 <= one.high <= 1.0


def test_arrays_that_fit_no_arm_are_refused() -> None:
    """With what was found and what was wanted."""
    for wrong, words in (
        (lambda: Rewards.of([1.0], [0.5], [3], 3), "outside 0 to 2"),
        (lambda: Rewards.of([1.0, 1.0], [0.5] * 3, [0], 1), "one length"),
        (lambda: Rewards.of([1.0], [0.5], [0], 0), "at least one"),
        (lambda: Rewards.of([1.0], [0.5], [0], 1, low=1.0, high=1.0), "the lower first"),
        (lambda: moments(Rewards.of([1.0], [0.5], [0], 1), "ips"), "wanted 'snips' or 'aipw'"),  # type: ignore[arg-type]
        (lambda: off_policy(Rewards.of([1.0], [0.5], [0], 1)).policy([0.5]), "add up to 1"),
    ):
        with pytest.raises(QualityError, match=words):
            wrong()
