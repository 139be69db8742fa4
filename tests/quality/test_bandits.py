"""Shares that follow what was learnt: simulations with fixed seeds of what they cost, when they stop, and their bounds.

`SIMULATE=long` plays ten times as many windows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import QualityError
from gateway.quality import Moments, Rewards, moments
from gateway.quality.bandits import (
    Posteriors,
    Stop,
    arrived,
    best_probabilities,
    bounded,
    epsilon_greedy,
    posteriors,
    stop,
)
from gateway.quality.delay import delay_distribution

WINDOWS = 2000 if os.environ.get("SIMULATE") == "long" else 150
LABELS, VERSIONS, DELTA = 50, 60, 0.05
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass
class Race:
    """Of all windows: what a call lost on average, who was stopped at (-1: nobody), the shares at the end."""

    regret: Floats
    winner: np.ndarray[tuple[int], np.dtype[np.int64]]
    share: Floats
    explored: float


def race(truth: list[float], algorithm: str, seed: int, floor: float = 0.05, cap: float = 1.0) -> Race:
    """Play windows of `VERSIONS` times `LABELS` yes or no; asked after every third version whether to stop."""
    rng, arms = np.random.default_rng(seed), len(truth)
    means = np.array(truth)
    share = bounded(np.full((WINDOWS, arms), 1 / arms), floor, cap)
    count, w, ww, wr, wwr = (np.zeros((WINDOWS, arms)) for _ in range(5))
    regret, winner = np.zeros(WINDOWS), np.full(WINDOWS, -1)
    explored = 0.0
    for version in range(VERSIONS):
        drawn = rng.multinomial(LABELS, share)
        yes = rng.binomial(drawn, means).astype(np.float64)
        weight = 1 / share
        count += drawn
        w += weight * drawn
        ww += weight**2 * drawn
        wr += weight * yes
        wwr += weight**2 * yes
        regret += (drawn * (means.max() - means)).sum(axis=1)
        explored = max(explored, float(share[:, 1:].sum(axis=1).max()))
        value = np.divide(wr, w, out=np.full_like(w, 0.5), where=count > 0)
        effective = np.divide(w**2, ww, out=np.zeros_like(w), where=count > 0)
        variance = np.divide(
            wwr - 2 * value * wwr + value**2 * ww, w**2, out=np.ones_like(w), where=count > 0
        )
        for window in np.flatnonzero(winner < 0) if version % 3 == 2 else ():
            known = Moments(
                value[window], np.diag(variance[window]), effective[window], count[window].astype(np.int64)
            )
            found = stop(known, DELTA).winner
            winner[window] = -1 if found is None else found
        beliefs = posteriors(value, effective, variance)
        if algorithm == "thompson":
            share = bounded(best_probabilities(beliefs, rng, 200), floor, cap)
        elif algorithm == "epsilon_greedy":
            share = bounded(epsilon_greedy(beliefs, 0.1), floor, cap)
    return Race(regret / (LABELS * VERSIONS), winner, share, explored)


@pytest.mark.parametrize("algorithm", ["thompson", "epsilon_greedy"])
def test_shares_that_follow_rewards_lose_half_of_what_equal_ones_lose(algorithm: str) -> None:
    """Three arms at .80, .78 and .72: what a call loses on average against the best arm alone."""
    learnt, equal = race([0.80, 0.78, 0.72], algorithm, 7), race([0.80, 0.78, 0.72], "equal", 8)
    assert learnt.regret.mean() < 0.5 * equal.regret.mean()
    assert learnt.share.mean(axis=0)[0] > 0.55
    assert learnt.share.min() >= 0.05


@pytest.mark.parametrize(
    "truth", [[0.80, 0.78, 0.72], [0.80, 0.79], [0.99, 0.98, 0.97], [0.7, 0.5, 0.5, 0.5, 0.5]]
)
@pytest.mark.parametrize("algorithm", ["thompson", "equal"])
def test_the_wrong_arm_is_stopped_at_in_less_than_delta(truth: list[float], algorithm: str) -> None:
    """Asked twenty times."""
    winners = race(truth, algorithm, 9).winner
    wrong = float((winners > 0).mean())
    assert wrong < DELTA + 2.33 * sqrt(DELTA * (1 - DELTA) / WINDOWS)


def test_arms_that_are_alike_are_seldom_told_apart() -> None:
    """And an arm that is much better is found in nearly all windows."""
    assert float((race([0.8, 0.8, 0.8], "thompson", 10).winner >= 0).mean()) < DELTA + 0.04
    assert float((race([0.7, 0.5, 0.5], "thompson", 11).winner == 0).mean()) > 0.9


def test_the_cap_holds_however_much_better_another_arm_is() -> None:
    """What is explored is all but the first arm; the machine alone may not pass the cap."""
    capped = race([0.5, 0.9, 0.5], "thompson", 12, cap=0.2)
    assert capped.explored <= 0.2
    assert capped.share[:, 1].mean() > 0.14
    assert capped.share.min() >= 0.05


def test_the_best_are_as_likely_as_the_integral_says() -> None:
    """P(arm is best) = the integral of its density times the others' distributions."""
    from scipy import integrate, stats

    beliefs = Posteriors(np.array([80.0, 42.0, 5.0]), np.array([22.0, 9.0, 2.0]))
    found = best_probabilities(beliefs, np.random.default_rng(1), 40_000)
    for arm in range(3):
        others = [stats.beta(beliefs.alpha[k], beliefs.beta[k]) for k in range(3) if k != arm]
        own = stats.beta(beliefs.alpha[arm], beliefs.beta[arm])
        wanted, _ = integrate.quad(
            lambda x, own=own, others=others: own.pdf(x) * others[0].cdf(x) * others[1].cdf(x), 0, 1
        )
        assert found[arm] == pytest.approx(wanted, abs=0.01)
    assert found.sum() == pytest.approx(1.0)


def test_yes_or_no_makes_the_usual_beta() -> None:
    """With equal propensities; and its credible interval is scipy's."""
    from scipy import stats

    known = moments(Rewards.cells(0.5, [0, 0, 1], 2, [60, 40, 1], [60, 0, 1], [60, 0, 1]), "snips")
    beliefs = posteriors(known.value, known.effective, np.diag(known.covariance))
    assert beliefs.alpha[0] == pytest.approx(61, rel=0.02)
    assert beliefs.beta[0] == pytest.approx(41, rel=0.02)
    assert beliefs.mean[1] > 0.5, "one success moves the prior, and no further"
    low, high = beliefs.interval()
    assert (low[0], high[0]) == pytest.approx(stats.beta(61, 41).interval(0.95), abs=0.005)


def test_numbers_that_vary_less_count_as_more() -> None:
    """The Beta has the variance that the rewards show."""
    rng = np.random.default_rng(2)
    rewards = Rewards.of(rng.normal(3.4, 0.2, 400), 0.5, [0] * 400, 1, low=1, high=5)
    known = moments(rewards, "snips")
    beliefs = posteriors(known.value, known.effective, np.diag(known.covariance), 1, 5)
    assert 1 + 4 * beliefs.mean[0] == pytest.approx(3.4, abs=0.05)
    assert 4 * sqrt(beliefs.variance[0]) == pytest.approx(0.2 / sqrt(400), rel=0.35)


def test_what_grew_with_the_hour_is_not_laid_to_the_arm() -> None:
    """Every arm does better in the second half, in which the worse arm got most calls: its plain mean is the higher."""
    cells = Rewards.cells(
        [0.9, 0.1, 0.1, 0.9], [0, 1, 0, 1], 2, [900, 100, 100, 900], [450, 40, 90, 720], [450, 40, 90, 720]
    )
    known = moments(cells, "snips")
    plain = cells.sums(cells.total) / cells.sums(cells.count.astype(np.float64))
    assert plain[1] > plain[0] + 0.1
    assert known.value[0] == pytest.approx(0.7)
    assert known.value[1] == pytest.approx(0.6)
    beliefs = posteriors(known.value, known.effective, np.diag(known.covariance))
    assert best_probabilities(beliefs, np.random.default_rng(3))[0] > 0.95


def test_good_news_that_comes_sooner_is_allowed_for() -> None:
    """Yes after a day, no after five: young labels say yes, and the arm whose share rose lately has the young labels.

    Weights by propensity give all arms the same ages, so that they compare; each row's share of labels that came by its
    age gives them the right level as well.
    """
    rng = np.random.default_rng(4)
    naive, plain, allowed = [], [], []
    for _ in range(WINDOWS):
        day = np.repeat(np.arange(30), 100)
        share = np.where(day < 25, 0.1, 0.9)
        arm = (rng.random(len(day)) < share).astype(int)
        yes = rng.random(len(day)) < 0.7
        age = 30 - day + rng.random(len(day))
        delay = rng.exponential(np.where(yes, 1.0, 5.0))
        seen = delay < age
        pi = np.zeros(len(day))
        for kind in (yes, ~yes):
            known = delay_distribution(delay[seen & kind], age[seen & kind])
            pi[kind] = arrived(age[kind], known.by)
        columns = yes[seen].astype(float), np.where(arm == 1, share, 1 - share)[seen], arm[seen], 2
        rewards = Rewards.of(*columns)
        means = rewards.sums(rewards.total) / rewards.sums(rewards.count.astype(np.float64))
        plain.append(means[1] - means[0])
        naive.append(moments(rewards, "snips").value - 0.7)
        allowed.append(moments(Rewards.of(*columns, pi=pi[seen]), "snips").value - 0.7)
    assert np.mean(plain) > 0.02, "the younger arm looks better than its like"
    assert bool(np.all(np.mean(naive, axis=0) > 0.02)), "both look better than they are"
    error = 3.9 * np.std(allowed, axis=0) / sqrt(WINDOWS)
    assert bool(np.all(np.abs(np.mean(allowed, axis=0)) < np.maximum(error, 0.008)))


@given(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=16),
    st.floats(0.0, 0.06),
    st.floats(0.0, 1.0),
    st.integers(0, 15),
)
@settings(deadline=None)
def test_shares_keep_floor_and_cap_and_add_up_exactly(
    wanted: list[float], floor: float, cap: float, first: int
) -> None:
    """Whole ten-thousandths; in the order that was wanted."""
    arms = len(wanted)
    first %= arms
    least, most = np.ceil(round(floor * 10_000, 6)), np.floor(round(cap * 10_000, 6))
    if least * (arms - 1) > min(most, 10_000 - least):
        with pytest.raises(QualityError, match="to explore with"):
            bounded(wanted, floor, cap, first)
        return
    shares = bounded(wanted, floor, cap, first)
    parts = np.round(shares * 10_000)
    assert parts.sum() == 10_000
    assert shares == pytest.approx(parts / 10_000, abs=1e-12)
    assert bool(np.all(shares >= floor - 1e-9))
    others, asked = np.delete(shares, first), np.delete(np.array(wanted), first)
    assert others.sum() <= cap + 1e-9
    order = np.argsort(asked, kind="stable")
    assert bool(np.all(np.diff(others[order]) >= -1e-9))


def test_what_has_no_room_or_no_meaning_is_refused() -> None:
    """With what was found and what was wanted."""
    beliefs = Posteriors(np.ones(2), np.ones(2))
    for wrong, words in (
        (lambda: bounded([0.5, 0.25, 0.25], 0.1, 0.1), "wanted at least 0.2 to explore with"),
        (lambda: bounded([0.5, -0.1], 0.1, 0.5), "negative"),
        (lambda: epsilon_greedy(beliefs, 1.5), "epsilon"),
        (lambda: posteriors([np.nan], [1.0], [1.0]), "not finite"),
        (lambda: stop(moments(Rewards.of([], [], [], 2)), 1.0), "delta"),
        (lambda: beliefs.interval(2.0), "level"),
    ):
        with pytest.raises(QualityError, match=words):
            wrong()


def test_nothing_is_stopped_at_without_ten_labels_of_each() -> None:
    """However good the only arm with labels looks; and it is said what is missing."""
    empty = stop(moments(Rewards.of([], [], [], 2)))
    assert empty == Stop(None, None, 0.0, empty.threshold, 0, "no label yet")
    lopsided = stop(moments(Rewards.cells(0.5, [0, 1], 2, [5000, 9], [5000, 0], [5000, 0]), "snips"))
    assert (lopsided.winner, lopsided.leader) == (None, 0)
    assert "1 of 2 arms have fewer than 10" in lopsided.why
    enough = stop(moments(Rewards.cells(0.5, [0, 1], 2, [5000, 40], [5000, 0], [5000, 0]), "snips"))
    assert enough.winner == 0
