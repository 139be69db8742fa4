"""From which score on to flag: thresholds that keep a promise, with how sure that is.

    guaranteed     the lowest threshold whose precision is at least p, with probability 1 - delta
    recall_first   the highest threshold whose recall is at least r, with probability 1 - delta

Both go along a grid fixed beforehand and stop at the first threshold that does not show what was asked for, so that
trying many costs nothing (fixed sequence). Where none does, there is no threshold, but the number of labels that would
do. Labels that the model was trained or calibrated on must not be among these. What costs decide: `value`.

Broken in 500 simulated windows each, delta = 0.1: 5.2, 6.2, 0.6 % (p = .9, 45 % positive) and 4.0, 5.2, 1.2 % (p = .5,
1 % positive) with three ways to review; the lowest threshold that looks good enough breaks it in 40-50 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.cuts import GRID, REACHED, Cuts
from gateway.quality.estimate import Estimate
from gateway.quality.intervals import normal_quantile
from gateway.quality.measure import measure
from gateway.quality.monte_carlo import cp_monte_carlo
from gateway.quality.strata import Labels, Predictions, stratify

__all__ = ["Choice", "describe", "guaranteed", "recall_first"]

Floats = NDArray[np.float64]

DRAWS: Final = 2000
"""Of each limit of recall: its 10 % point is then within 0.7 % of its rank."""

POWER: Final = 0.8
"""With how many labels a promise could be shown is said for this chance of showing it at one threshold."""

MOST_LABELS: Final = 1_000_000
"""More labels than this are no advice."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, or the reason why there is none.

    `rule`: how it was chosen. `threshold`: flagged from this score on. `flagged`: the share of the predictions that are
    then flagged. `precision`, `recall`: of the window's predictions at this threshold, for reading (95 % each, not what
    the promise rests on). `labels`: how many the choice rests on. `reason`: why there is no threshold, or why today's
    is kept. `missing`:
    further labels that would probably do, where that can be said. `words`: the rule with its numbers.
    """

    rule: Literal["guaranteed", "recall_first", "cost_optimal"]
    threshold: float | None
    flagged: float | None
    precision: Estimate
    recall: Estimate
    labels: int
    words: str
    reason: str | None = None
    missing: int | None = None

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "rule": self.rule,
            "threshold": self.threshold,
            "flagged_share": self.flagged,
            "precision": self.precision.as_dict(),
            "recall": self.recall.as_dict(),
            "labels": self.labels,
            "words": self.words,
            "reason": self.reason,
            "labels_missing": self.missing,
        }


def guaranteed(
    predictions: Predictions,
    labels: Labels,
    precision: float,
    rng: np.random.Generator,
    *,
    delta: float = 0.1,
    grid: ArrayLike = GRID,
) -> Choice:
    """The lowest threshold whose precision is at least `precision` with probability 1 - delta.

    Args:
        predictions, labels: of one window, as cells or one row each; their own `flagged` does not count.
        precision: what is wanted, within (0, 1). delta: how often the promise may be broken, within (0, 0.5].
        rng: for the intervals that are shown beside it. grid: thresholds to try, rising, fixed before labels were seen.
    From the highest threshold with at least 2 ln(delta)/ln(p) labels downwards, while the p-value of "precision is
    below p" is at most delta. With one probability of review the p-value is the binomial P(Bin(K, p) >= X). With
    several it is the larger of the normal one of the Hajek ratio and the binomial one with Kish's effective count: by
    itself the first is 0 as soon as every label is positive, however few they are.
    Raises: QualityError for shares out of range, or a grid that does not rise.
    Source: Angelopoulos, Bates, Candes, Jordan and Lei 2021, Learn then Test, arXiv:2110.01052, section 2.3.
    """
    _within("precision", precision, 1.0)
    _within("delta", delta, 0.5)
    cuts = Cuts.of(predictions, labels, grid)
    words = f"lowest threshold with a precision of at least {precision:g}, {1 - delta:.0%} sure"
    total = int(cuts.labels.count[cuts.labels.pi > 0].sum())
    if not cuts.predictions.count.sum() and not total:
        return _none("guaranteed", words, "there were no predictions", total, ceil(_first(precision, delta)))
    sums = _Sums.of(cuts)
    enough = sums.effective >= _first(precision, delta)
    if not bool(enough.any()):
        wanted = ceil(_first(precision, delta))
        found = int(sums.effective.max(initial=0.0))
        reason = f"{found:,} labels of the {wanted:,} that it takes at least, even if every one were positive"
        return _none("guaranteed", words, reason, total, wanted - found)
    start = int(np.flatnonzero(enough)[-1])
    shown = (sums.p_values(precision) <= delta) & (cuts.reached() >= REACHED)
    going_down = shown[start::-1]
    steps = len(going_down) if bool(going_down.all()) else int(np.argmin(going_down))
    if steps:
        return describe("guaranteed", words, cuts, float(cuts.grid[start - steps + 1]), total, rng)
    if cuts.reached()[start] < REACHED:
        reason = f"predictions with scores from {cuts.grid[start]:g} on are never reviewed (probability 0)"
        return _none("guaranteed", words, reason, total, None)
    best = int(np.argmax(np.where(enough, sums.rate, -1.0)))
    reason = (
        f"not shown by {total:,} labels; the best seen is a precision of {sums.rate[best]:.3f} "
        f"from a score of {cuts.grid[best]:g} on"
    )
    missing = _would_do(sums, total, precision, delta)
    if missing is None:
        reason += ", so more labels would probably not show it either: it takes a better model"
    return _none("guaranteed", words, reason, total, missing)


def recall_first(
    predictions: Predictions,
    labels: Labels,
    recall: float,
    rng: np.random.Generator,
    *,
    delta: float = 0.1,
    grid: ArrayLike = GRID,
    draws: int = DRAWS,
) -> Choice:
    """The highest threshold whose recall is at least `recall` with probability 1 - delta.

    Args and errors as `guaranteed`. From the lowest threshold upwards, while the lower limit by CP Monte Carlo
    (one-sided, 1 - delta) is at least `recall`; recall only falls on the way, so that a later threshold that seems to
    pass again would be chance.
    """
    _within("recall", recall, 1.0)
    _within("delta", delta, 0.5)
    cuts = Cuts.of(predictions, labels, grid)
    words = f"highest threshold with a recall of at least {recall:g}, {1 - delta:.0%} sure"
    usable = cuts.labels.pi > 0
    total = int(cuts.labels.count[usable].sum())
    positives = int(cuts.labels.count[usable & cuts.labels.positive].sum())
    if not positives:
        return _none("recall_first", words, f"none of {total:,} labels is positive", total, None)
    start = rng.bit_generator.state
    best, stopped, before = None, "", -1
    for threshold in cuts.grid:
        flagged, known = cuts.at(float(threshold))
        above = int(flagged.count[flagged.flagged].sum()) + int(known.count[known.flagged].sum())
        if above != before:
            rng.bit_generator.state = start  # the same draws at every threshold: what differs is not chance
            stopped = _recall_stops(flagged, known, recall, delta, rng, draws)
            before = above
        if stopped:
            break
        best = float(threshold)
    if best is None:
        missing = None if "never" in stopped else _labels_for_recall(cuts, recall)
        return _none("recall_first", words, stopped, total, missing)
    return describe("recall_first", words, cuts, best, total, rng)


def _recall_stops(
    predictions: Predictions,
    labels: Labels,
    recall: float,
    delta: float,
    rng: np.random.Generator,
    draws: int,
) -> str:
    """Why this threshold does not show it; "" where it does."""
    rest = ~predictions.flagged
    every = int(predictions.count[rest].sum())
    could = int(predictions.count[rest & (predictions.pi > 0)].sum())
    if could < REACHED * every:
        return "predictions that would not be flagged are never reviewed (probability 0)"
    known = int(labels.count[~labels.flagged & (labels.pi > 0)].sum())
    if could and not known:
        return "no prediction that would not be flagged has a label"
    bounds = cp_monte_carlo(stratify(predictions, labels), rng, 1.0 - 2.0 * delta, draws)
    if bounds.recall is None or bounds.recall[0] < recall:
        low = 0.0 if bounds.recall is None else bounds.recall[0]
        return f"the lower limit of recall is {low:.3f} at the lowest threshold already"
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Labels flagged at each threshold, shape (t,): weighted rate of positives, Kish's count, and the ratio's error."""

    count: Floats
    positive: Floats
    rate: Floats
    effective: Floats
    error: Floats
    constant: NDArray[np.bool_]

    @classmethod
    def of(cls, cuts: Cuts) -> _Sums:
        labels = cuts.labels
        weight = np.divide(1.0, labels.pi, out=np.zeros(len(labels.pi)), where=labels.pi > 0)
        counted = np.where(labels.pi > 0, labels.count, 0).astype(np.float64)
        yes = labels.positive.astype(np.float64)
        total, square = cuts.labelled(counted * weight), cuts.labelled(counted * weight**2)
        over, of_yes = np.where(total > 0, total, 1.0), cuts.labelled(counted * weight**2 * yes)
        rate = cuts.labelled(counted * weight * yes) / over
        effective = np.where(square > 0, total**2 / np.where(square > 0, square, 1.0), 0.0)
        spread = of_yes * (1.0 - rate) ** 2 + np.maximum(square - of_yes, 0.0) * rate**2
        count = cuts.labelled(counted)
        return cls(
            count,
            cuts.labelled(counted * yes),
            np.clip(rate, 0.0, 1.0),
            np.minimum(effective, count),
            np.sqrt(spread) / over,
            effective >= count * (1.0 - 1e-9),
        )

    def p_values(self, precision: float) -> Floats:
        """Of "precision is below this", shape (t,); 1 where there is no label."""
        from scipy.special import betainc, ndtr  # here, as scipy stays out of the serving process

        trials = np.where(self.constant, self.count, self.effective)
        events = np.where(self.constant, self.positive, self.effective * self.rate)
        some = events > 0
        exact = betainc(np.where(some, events, 1.0), np.maximum(trials - events, 0.0) + 1.0, precision)
        varied = self.error > 0
        score = (self.rate - precision) / np.where(varied, self.error, 1.0)
        normal = np.where(varied & ~self.constant, ndtr(-score), 0.0)
        return np.where(some, np.maximum(exact, normal), 1.0)


def _first(precision: float, delta: float) -> float:
    """Labels from which on a threshold is tried: twice as many as would do if all of them were positive."""
    return 2.0 * log(delta) / log(precision)


def _would_do(sums: _Sums, labels: int, precision: float, delta: float) -> int | None:
    """Further labels, chosen alike, after which the promise would be shown with a chance of `POWER`; None for none.

    The normal approximation of a binomial test's size, at the threshold where it is smallest. What looks best looks
    better than it is, so that half a standard error is taken off its rate. Rough: the way down starts elsewhere, too.
    """
    above = (sums.rate > precision) & (sums.effective >= _first(precision, delta) / 2.0)
    if not bool(above.any()):
        return None
    rate, effective = np.minimum(sums.rate[above], 0.999), sums.effective[above]
    error = np.sqrt(rate * (1.0 - rate) / effective)
    rate = np.maximum(rate - 0.5 * error, (rate + precision) / 2.0)
    alpha, beta = normal_quantile(1.0 - 2.0 * delta) if delta < 0.5 else 0.0, normal_quantile(2 * POWER - 1)
    spread = alpha * sqrt(precision * (1.0 - precision)) + beta * np.sqrt(rate * (1.0 - rate))
    wanted = np.maximum((spread / np.maximum(rate - precision, 1e-3)) ** 2, _first(precision, delta))
    # At least some: what is there did not show it.
    more = max(float((wanted / effective).min() - 1.0) * labels, 1.0)
    return ceil(more) if more <= MOST_LABELS else None


def _labels_for_recall(cuts: Cuts, recall: float) -> int:
    """Labels of what is not flagged at the lowest threshold, none positive, that would do: the rule of three."""
    predictions, labels = cuts.at(float(cuts.grid[0]))
    rest = float(predictions.count[~predictions.flagged].sum())
    found = stratify(predictions, labels).side(True).positives.sum()
    known = int(labels.count[~labels.flagged & (labels.pi > 0)].sum())
    wanted = 3.0 * rest * recall / (max(float(found), 1.0) * (1.0 - recall))
    return max(ceil(min(wanted, rest)) - known, 1)


def describe(
    rule: Literal["guaranteed", "recall_first", "cost_optimal"],
    words: str,
    cuts: Cuts,
    threshold: float,
    labels: int,
    rng: np.random.Generator,
    reason: str | None = None,
) -> Choice:
    """A choice with what the window says of its threshold, which must be of the grid."""
    numbers = measure(*cuts.at(threshold), rng)
    share = numbers.flagged / numbers.predictions if numbers.predictions else None
    return Choice(rule, threshold, share, numbers.precision, numbers.recall, labels, words, reason)


def _none(
    rule: Literal["guaranteed", "recall_first"], words: str, reason: str, labels: int, missing: int | None
) -> Choice:
    unknown = Estimate.unknown("no threshold was chosen", labels)
    return Choice(rule, None, None, unknown, unknown, labels, words, reason, missing)


def _within(name: str, value: float, end: float) -> None:
    if not 0.0 < value < 1.0 or value > end:
        wanted = "a share between 0 and 1" if end == 1.0 else f"a share above 0, at most {end:g}"
        raise QualityError(f"{name}: found {value}, wanted {wanted}")
