"""Which share of the calls each arm should get, and when it is known well enough which arm is best.

    posteriors -> Posteriors         what is believed of each arm's mean, as a Beta
    best_probabilities               how likely each arm is the best: Thompson's shares
    epsilon_greedy                   the best so far, and a fixed part for all
    bounded                          a floor for every arm and a cap on what is explored, in whole ten-thousandths
    stop -> Stop                     track-and-stop: whether the best is known
    arrived                          the probability that the label of a prediction of some age is there already

Beliefs rest on values that are weighted by propensity (`gateway.quality.off_policy`), not on plain sums: where rewards
change by the hour, the arm that got most of its calls in the good hours would win. All functions take any number of
routes at once: shape (..., arms).

Sources: Thompson 1933, Biometrika 25:285-294; Agrawal and Goyal 2012, COLT (rewards in [0, 1]); Garivier and Kaufmann
2016, COLT (track-and-stop: a generalised likelihood ratio against ln((1 + ln t) / delta)). Measured
(`tests/quality/test_bandits.py`): of 1,600 rewards at .80, .78 and .72, Thompson's shares with a floor of 5 % lose
half of what equal ones lose; of arms that differ, the wrong one is stopped at in less than delta of the windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.delay import LEAST_SHARE
from gateway.quality.off_policy import Moments

__all__ = [
    "DRAWS",
    "LEAST_LABELS",
    "STEPS",
    "Posteriors",
    "Stop",
    "arrived",
    "best_probabilities",
    "bounded",
    "epsilon_greedy",
    "posteriors",
    "stop",
]

Floats = NDArray[np.float64]

DRAWS: Final = 4000
"""Of the Monte Carlo: a probability is right to .008 (one standard error) at worst."""

LEAST_LABELS: Final = 10
"""Labels of each arm, before any is stopped at."""

STEPS: Final = 10_000
"""A share is a whole number of these parts: shares in a policy are read by people, and must add up exactly."""

PRIOR: Final = 2.0
"""Labels that the uniform prior counts for; so many say how rewards vary, before rewards say it themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Posteriors:
    """Beta(`alpha`, `beta`) of each arm's mean, shape (..., arms), for rewards scaled to [0, 1]."""

    alpha: Floats
    beta: Floats

    @property
    def mean(self) -> Floats:
        """(..., arms), within (0, 1)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def variance(self) -> Floats:
        """(..., arms)."""
        total = self.alpha + self.beta
        return self.alpha * self.beta / (total**2 * (total + 1.0))

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Credible limits, (..., arms) each.

        Raises: QualityError for a level outside (0, 1).
        """
        from scipy.special import betaincinv  # here, as scipy stays out of the serving process

        if not 0.0 < level < 1.0:
            raise QualityError(f"level: found {level}, wanted a share between 0 and 1, such as 0.95")
        tail = (1.0 - level) / 2.0
        low, high = betaincinv(self.alpha, self.beta, tail), betaincinv(self.alpha, self.beta, 1.0 - tail)
        return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Stop:
    """Whether the best arm is known.

    `winner`: its index; None while it is not known. `leader`: the best so far, None without a label. `statistic`: the
    least generalised likelihood ratio of the leader against another arm. `threshold`: above it there is a winner.
    `labels`: of all arms. `why`: in words.
    """

    winner: int | None
    leader: int | None
    statistic: float
    threshold: float
    labels: int
    why: str


def posteriors(
    value: ArrayLike, effective: ArrayLike, variance: ArrayLike, low: float = 0.0, high: float = 1.0
) -> Posteriors:
    """What is believed of each arm, with a uniform prior.

    Args:
        value, effective, variance: (..., arms), as in `Moments`: an arm's value, its effective labels and the variance
        of the value. low, high: the range of one reward.
    Rewards of yes or no make the usual Beta(1 + yes, 1 + no). Rewards that vary less count as more of them: the Beta
    has the variance that the rewards show, once there are enough to show it.
    Raises: QualityError for a range that is none, or numbers that are not finite.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise QualityError(f"range of rewards: found {low} to {high}, wanted two numbers, the lower first")
    mean = (np.asarray(value, dtype=np.float64) - low) / (high - low)
    number = np.asarray(effective, dtype=np.float64)
    if not bool(np.all(np.isfinite(mean)) and np.all(np.isfinite(number) & (number >= 0))):
        raise QualityError("value, effective: found a number that is not finite, or fewer labels than none")
    mean = np.clip(mean, 0.0, 1.0)
    believed, each = _spread(mean, number, np.asarray(variance, dtype=np.float64) / (high - low) ** 2)
    trials = number * believed * (1.0 - believed) / each
    return Posteriors(1.0 + trials * mean, 1.0 + trials * (1.0 - mean))


def best_probabilities(beliefs: Posteriors, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """How likely each arm is the best, (..., arms), by Monte Carlo; adds up to 1.

    The same generator state gives the same numbers. Memory: `draws` numbers for each arm of 16 routes at a time.
    """
    shape = beliefs.alpha.shape
    arms = shape[-1]
    alpha, beta = beliefs.alpha.reshape(-1, arms), beliefs.beta.reshape(-1, arms)
    found = np.empty_like(alpha)
    for start in range(0, len(alpha), 16):
        part = slice(start, start + 16)
        best = rng.beta(alpha[part], beta[part], (draws, *alpha[part].shape)).argmax(axis=2)
        found[part] = (best[:, :, None] == np.arange(arms)).mean(axis=0)
    return found.reshape(shape)


def epsilon_greedy(beliefs: Posteriors, epsilon: float) -> Floats:
    """All but `epsilon` for the best so far, and `epsilon` in equal parts for every arm; (..., arms).

    Raises: QualityError unless 0 <= epsilon <= 1.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise QualityError(f"epsilon: found {epsilon}, wanted a share between 0 and 1")
    arms = beliefs.alpha.shape[-1]
    best = beliefs.mean.argmax(axis=-1)[..., None] == np.arange(arms)
    shares: Floats = np.where(best, 1.0 - epsilon, 0.0) + epsilon / arms
    return shares


def bounded(shares: ArrayLike, floor: float, cap: float, first: int = 0) -> Floats:
    """Shares with a floor for every arm and a cap on what is explored: on all but the first of the chain together.

    Args:
        shares: (..., arms), wanted; not negative. floor: the least of each. cap: the most of all arms but `first`.
    Returns: (..., arms), whole ten-thousandths that add up to 1; arms other than `first` keep the proportions that
    were wanted, as far as the floor lets them (water-filling); what the cap takes from them is `first`'s.
    Raises: QualityError where floor and cap leave no room, or shares are none.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    arms = wanted.shape[-1]
    if not bool(np.all(np.isfinite(wanted) & (wanted >= 0))) or not 0 <= first < arms:
        raise QualityError("shares: found one that is negative or no number, or no such first arm")
    least = int(np.ceil(round(floor * STEPS, 6)))
    most = min(int(np.floor(round(cap * STEPS, 6))), STEPS - least)
    if not 0 <= least * (arms - 1) <= most:
        raise QualityError(
            f"floor {floor:g} of {arms} arms and cap {cap:g}: wanted at least {floor * (arms - 1):g} to explore with"
        )
    total = wanted.sum(axis=-1, keepdims=True)
    equal = np.full_like(wanted, 1.0 / arms)
    wanted = np.divide(wanted, total, out=equal, where=total > 0)
    others = np.delete(wanted, first, axis=-1)
    explored = np.clip(others.sum(axis=-1, keepdims=True), least * (arms - 1) / STEPS, most / STEPS)
    filled = _filled(others, explored * STEPS, least)
    parts = np.insert(filled, first, STEPS - filled.sum(axis=-1), axis=-1)
    return parts / STEPS


def stop(moments: Moments, delta: float = 0.05, *, low: float = 0.0, high: float = 1.0) -> Stop:
    """Track-and-stop: the leader wins once gap^2 / (2 (v1/n1 + v2/n2)) > ln((1 + ln t) / delta) against every other.

    Args:
        moments: of one route. delta: the probability of naming the wrong one. low, high: the range of one reward.
    v/n is the variance of an arm's value, never below what the prior expects of so few; t counts the labels of all
    arms; each needs `LEAST_LABELS` effective ones. May be asked after every label. Whoever asks keeps the first winner:
    asked again after it, the rule may waver.
    Raises: QualityError unless 0 < delta < 1.
    """
    if not 0.0 < delta < 1.0:
        raise QualityError(f"delta: found {delta}, wanted a probability between 0 and 1, such as 0.05")
    labels, effective = int(moments.labels.sum()), moments.effective
    threshold = log((1.0 + log(max(labels, 1))) / delta)
    if labels == 0 or len(effective) < 2:
        return Stop(None, None, 0.0, threshold, labels, "no label yet")
    mean = np.clip((moments.value - low) / (high - low), 0.0, 1.0)
    _, each = _spread(mean, effective, np.diag(moments.covariance) / (high - low) ** 2)
    variance = each / np.maximum(effective, 1.0)
    leader = int(np.where(effective > 0, mean, -1.0).argmax())
    gaps = mean[leader] - np.delete(mean, leader)
    ratios = gaps**2 / (2.0 * (variance[leader] + np.delete(variance, leader)))
    statistic = float(ratios.min())
    short = int((effective < LEAST_LABELS).sum())
    if short:
        why = f"{short} of {len(effective)} arms have fewer than {LEAST_LABELS} effective labels"
        return Stop(None, leader, statistic, threshold, labels, why)
    if statistic <= threshold:
        why = f"the evidence for the best arm is {statistic:.2f}, and {threshold:.2f} is wanted"
        return Stop(None, leader, statistic, threshold, labels, why)
    why = f"the evidence for it is {statistic:.2f}, above {threshold:.2f}, after {labels:,} labels"
    return Stop(leader, leader, statistic, threshold, labels, why)


def arrived(age: ArrayLike, by: Callable[[ArrayLike], Floats], least: float = LEAST_SHARE) -> Floats:
    """The probability that a label of a prediction of this age is there: its pi, times that of being reviewed at all.

    Args:
        age: (n,), in the unit of `by`. by: the share of labels that has come by an age, `DelayDistribution.by`; where
        good news comes sooner than bad, that of the row's own reward. least: below it the probability is 0, and
        `Rewards` leaves the row out.
    """
    share = np.asarray(by(age), dtype=np.float64)
    return np.where(share >= least, np.minimum(share, 1.0), 0.0)


def _spread(mean: Floats, number: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Means drawn to the prior's, and the variance of one reward: as seen, and as yes or no would have it for few."""
    believed = (number * mean + PRIOR / 2.0) / (number + PRIOR)
    yes_or_no = believed * (1.0 - believed)
    seen = np.maximum(variance, 0.0) * number
    return believed, (number * seen + PRIOR * yes_or_no) / (number + PRIOR)


def _filled(wanted: Floats, total: Floats, least: int) -> Floats:
    """Whole numbers from `least` on, in proportion to `wanted` (..., n), that add up to `total` (..., 1) at most."""
    if wanted.shape[-1] == 0:
        return wanted
    pinned = np.zeros(wanted.shape, dtype=bool)
    made = wanted
    for _ in range(wanted.shape[-1]):
        free = np.where(pinned, 0.0, wanted)
        left = total - least * pinned.sum(axis=-1, keepdims=True)
        number = np.maximum((~pinned).sum(axis=-1, keepdims=True), 1)
        sums = free.sum(axis=-1, keepdims=True)
        share = np.divide(free, sums, out=np.broadcast_to(1.0 / number, free.shape).copy(), where=sums > 0)
        made = np.where(pinned, least, left * share)
        pinned |= made < least
    # What rounding down leaves over is the first arm's, which breaks neither floor nor cap.
    return np.floor(np.round(np.maximum(made, least), 6))
