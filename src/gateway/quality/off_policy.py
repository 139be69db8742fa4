"""What an arm would be worth with all the traffic, or any share of it, from calls that arms shared by chance.

The plain mean of an arm's rewards is wrong where shares followed the rewards (an arm that was unlucky early gets few
calls and keeps its bad mean) and where rewards change by the hour while shares do: an arm that got most of its calls
on a good day looks good. Each reward is weighted by one over the probability with which its arm was drawn instead:

    snips   sum(w r) / sum(w), w = 1 / propensity: self-normalised, so that its values stay within the rewards' range
    aipw    augmented: what a model of the rewards expects, plus the weighted error of that model; the model is the
            arm's mean in the same context (policy version, segment), each row left out of its own mean, drawn toward
            the arm's SNIPS where there are few. Right whatever the model says, as propensities are known; narrower than
            SNIPS where contexts explain the rewards.

Rewards may be rows, or cells of rows that share all but the reward (count, sum, sum of squares): both give the same.
Rows that were chosen for review with probability pi weigh 1 / pi besides.

Sources: Swaminathan and Joachims 2015, The self-normalized estimator for counterfactual learning, NeurIPS; Robins,
Rotnitzky and Zhao 1994, JASA 89:846-866 (AIPW); Hadad, Hirshberg, Zhan, Wager, Athey 2021, PNAS 118(15), for what
adaptive shares do to means. Measured (nominal 95 %, 3 arms, 1,600 labels, shares by Thompson sampling with a floor of
5 %): see `tests/quality/test_off_policy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.estimate import Estimate
from gateway.quality.intervals import normal_quantile, wilson_interval
from gateway.quality.rewards import Rewards, RewardSums

__all__ = ["LEAST_PROPENSITY", "MINIMUM_EFFECTIVE", "Moments", "OffPolicy", "moments", "off_policy"]

Floats = NDArray[np.float64]
Method = Literal["snips", "aipw"]

MINIMUM_EFFECTIVE: Final = 10.0
"""Effective labels of an arm (Kish), before a number is given."""

LEAST_PROPENSITY: Final = 1e-3
"""An arm that was drawn less often than this is not judged by the few rows that weigh a thousand."""

DRAWN: Final = 10.0
"""So many labels of a context, and its own mean counts as much as the arm's."""

RARE: Final = 10.0
"""So many of the rarer kind (no among yes), and their spread as seen counts as much as the one that is expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Values of all arms and how they vary together.

    `value` (arms,), in the rewards' unit; `covariance` (arms, arms), of the values; `effective` (arms,): by Kish,
    (sum w)^2 / sum w^2; `labels` (arms,): rows. An arm without rows has the middle of the range, a variance of the
    whole range, and no labels.
    """

    value: Floats
    covariance: Floats
    effective: Floats
    labels: NDArray[np.int64]


def moments(rewards: Rewards | RewardSums, method: Method = "aipw") -> Moments:
    """Values of arms and their covariance, by the linearised (delta) variance.

    Args:
        rewards: rows, cells, or for `snips` their sums alone. method: `snips` or `aipw`.
    Raises: QualityError for another method, and for sums where contexts are wanted.
    """
    if method not in ("snips", "aipw"):
        raise QualityError(f"method: found {method!r}, wanted 'snips' or 'aipw'")
    if method == "snips":
        return _snips(RewardSums.of(rewards) if isinstance(rewards, Rewards) else rewards)
    if isinstance(rewards, RewardSums):
        raise QualityError("aipw: found sums, wanted rows or cells, which know their contexts")
    return _aipw(rewards)


@dataclass(frozen=True, slots=True, eq=False)
class OffPolicy:
    """What `off_policy` found: one of `arms` for each arm, in the rewards' unit, and what it takes for others."""

    arms: tuple[Estimate, ...]
    method: Method
    level: float
    _rewards: RewardSums
    _moments: Moments

    def policy(self, shares: ArrayLike) -> Estimate:
        """The value of a policy that draws arms with these shares.

        Args:
            shares: (arms,), add up to 1.
        Unknown where an arm with a share is. Raises: QualityError for other shares.
        """
        pi = np.asarray(shares, dtype=np.float64)
        known = self._moments
        wrong = pi.shape != known.value.shape or not bool(np.all(np.isfinite(pi) & (pi >= 0)))
        if wrong or abs(float(pi.sum()) - 1.0) > 1e-6:
            raise QualityError(f"shares: found {pi.tolist()}, wanted {len(known.value)} that add up to 1")
        for share, arm in zip(pi.tolist(), self.arms, strict=True):
            if share > 0 and arm.value is None:
                return Estimate.unknown(arm.reason or "an arm has no number", arm.labels, arm.missing)
        value, low, high = self._limits(pi)
        labels = int(known.labels[pi > 0].sum())
        return Estimate(value, low, high, labels, method=self.method)

    def difference(self, one: int, other: int) -> Estimate:
        """The value of one arm less that of another; between minus and plus the rewards' range.

        The limits of both are combined (Newcombe 1998, method 10; with the correlation, Zou and Donner 2008).
        """
        a, b = self.arms[one], self.arms[other]
        for arm in (a, b):
            if arm.value is None:
                return Estimate.unknown(arm.reason or "an arm has no number", arm.labels, arm.missing)
        weights = np.zeros(len(self.arms))
        weights[one] += 1.0
        weights[other] -= 1.0
        value, low, high = self._limits(weights, signed=True)
        return Estimate(value, low, high, a.labels + b.labels, method=self.method)

    def _limits(self, weights: Floats, *, signed: bool = False) -> tuple[float, float, float]:
        """A weighted sum of arms, and its limits from the limits of each."""
        halves = np.array([_halves(arm) for arm in self.arms])
        covariance = self._moments.covariance
        scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        correlation = covariance / np.maximum(np.outer(scale, scale), 1e-300)
        np.fill_diagonal(correlation, 1.0)
        correlation = np.clip(correlation, -1.0, 1.0)
        limits = []
        for side in (0, 1):
            half = weights * np.where(weights >= 0, halves[:, side], halves[:, 1 - side])
            limits.append(sqrt(max(float(half @ correlation @ half), 0.0)))
        width = self._rewards.high - self._rewards.low
        bounds = (-width, width) if signed else (self._rewards.low, self._rewards.high)
        value = min(max(float(weights @ self._moments.value), bounds[0]), bounds[1])
        return value, max(value - limits[0], bounds[0]), min(value + limits[1], bounds[1])


def off_policy(
    rewards: Rewards | RewardSums,
    method: Method = "aipw",
    *,
    level: float = 0.95,
    minimum: float = MINIMUM_EFFECTIVE,
) -> OffPolicy:
    """Value every arm, with intervals.

    Args:
        rewards, method: as of `moments`. level: share of intervals that hold the truth.
        minimum: effective labels of an arm, before it has a number.
    Intervals: rewards of yes or no by Wilson at the effective number of labels, others by Student's quantile of the
    linearised variance; both within the rewards' range. An arm is unknown with fewer effective labels than `minimum`,
    and where its propensity was below `LEAST_PROPENSITY`.
    Raises: QualityError as `moments`, and for a level that is none.
    """
    normal_quantile(level)
    found = moments(rewards, method)
    sums = RewardSums.of(rewards) if isinstance(rewards, Rewards) else rewards
    arms = tuple(_estimate(sums, found, arm, method, level, minimum) for arm in range(len(sums.w)))
    return OffPolicy(arms, method, level, sums, found)


def _halves(arm: Estimate) -> tuple[float, float]:
    if arm.value is None or arm.low is None or arm.high is None:
        return 0.0, 0.0
    return arm.value - arm.low, arm.high - arm.value


def _estimate(
    rewards: RewardSums, found: Moments, arm: int, method: Method, level: float, minimum: float
) -> Estimate:
    labels, effective = int(found.labels[arm]), float(found.effective[arm])
    if labels == 0:
        return Estimate.unknown("no label of this arm yet", 0, int(minimum))
    least = float(rewards.least[arm])
    if least < LEAST_PROPENSITY:
        reason = (
            f"it was drawn with a probability of {least:.2g}: a row of it would weigh {1 / least:,.0f}; from "
            f"{LEAST_PROPENSITY:g} on there is a number"
        )
        return Estimate.unknown(reason, labels)
    if effective < minimum:
        reason = f"{effective:.1f} of the {minimum:g} effective labels that it takes at least"
        return Estimate.unknown(reason, labels, int(np.ceil((minimum - effective) * labels / effective)))
    low, high = rewards.low, rewards.high
    width = high - low
    value = float(found.value[arm])
    variance = float(found.covariance[arm, arm])
    rate = min(max((value - low) / width, 0.0), 1.0)
    if rewards.yes_or_no(arm) or rewards.alike(arm):
        # With few of the rarer kind the linearised variance is mostly chance: until then it is what Kish expects.
        rare = min(rate, 1.0 - rate) * effective
        expected = rate * (1.0 - rate) / effective
        spread = (RARE * expected + rare * variance / width**2) / (RARE + rare)
        trials = rate * (1.0 - rate) / spread if spread > 0 else effective
        bottom, top = wilson_interval(rate * trials, trials, level)
    else:
        half = _student_quantile(level, effective - 1.0) * sqrt(variance) / width
        bottom, top = rate - half, rate + half
    limits = low + width * max(min(bottom, rate), 0.0), low + width * min(max(top, rate), 1.0)
    return Estimate(low + width * rate, *limits, labels, method=method)


def _student_quantile(level: float, degrees: float) -> float:
    """Student's t from the normal; right to 0.3 % from 9 degrees on.

    Source: Abramowitz and Stegun 26.7.5.
    """
    z = normal_quantile(level)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def _snips(sums: RewardSums) -> Moments:
    has = sums.labels > 0
    value = np.full(len(sums.w), (sums.low + sums.high) / 2)
    np.divide(sums.wr, sums.w, out=value, where=has)
    effective = np.zeros(len(sums.w))
    np.divide(sums.w**2, sums.ww, out=effective, where=has)
    error = np.maximum(sums.wwrr - 2 * value * sums.wwr + value**2 * sums.ww, 0.0)
    variance = np.full(len(sums.w), (sums.high - sums.low) ** 2)
    np.divide(error, sums.w**2, out=variance, where=has)
    variance[has] *= _small(effective[has])
    return Moments(value, np.diag(variance), effective, sums.labels.astype(np.int64))


def _small(effective: Floats) -> Floats:
    """n / (n - 1): the mean was fitted to the same rows."""
    return effective / np.maximum(effective - 1.0, 1.0)


def _aipw(rewards: Rewards) -> Moments:
    plain = _snips(RewardSums.of(rewards))
    if not len(rewards.arm):
        return plain
    arms, cells = rewards.arms, np.arange(len(rewards.arm))
    count = rewards.count.astype(np.float64)
    contexts, at = np.unique(rewards.context, return_inverse=True)
    key = at * arms + rewards.arm
    shape = (len(contexts), arms)
    number = np.bincount(key, count, len(contexts) * arms).reshape(shape)
    summed = np.bincount(key, rewards.total, len(contexts) * arms).reshape(shape)
    drawn = summed + DRAWN * plain.value
    # What a row of each cell adds to each arm's value is constant + slope * reward; the slope is not 0 on its own arm.
    constant = (drawn / (number + DRAWN))[at]
    slope = np.zeros_like(constant)
    own = (cells, rewards.arm)
    each = 1.0 / (number[at, rewards.arm] - 1.0 + DRAWN)
    inverse = 1.0 / rewards.propensity
    constant[own] = drawn[at, rewards.arm] * each * (1.0 - inverse)
    slope[own] = inverse * (1.0 + each) - each
    weight = 1.0 / rewards.pi
    whole = float((weight * count).sum())
    value = (weight[:, None] * (count[:, None] * constant + rewards.total[:, None] * slope)).sum(
        axis=0
    ) / whole
    constant -= value
    w2 = weight**2
    mixed = (w2 * rewards.total)[:, None] * constant
    covariance = (
        constant.T @ ((w2 * count)[:, None] * constant)
        + mixed.T @ slope
        + slope.T @ mixed
        + slope.T @ ((w2 * rewards.squares)[:, None] * slope)
    ) / whole**2
    has = plain.labels > 0
    factor = np.sqrt(_small(np.maximum(plain.effective, 2.0)))
    covariance = covariance * np.outer(factor, factor)
    covariance[~has, :] = covariance[:, ~has] = 0.0
    np.fill_diagonal(
        covariance, np.where(has, np.maximum(np.diag(covariance), 0.0), np.diag(plain.covariance))
    )
    return Moments(np.where(has, value, plain.value), covariance, plain.effective, plain.labels)
