"""What decisions are worth where mistakes have a price, and the threshold at which they are worth most.

    Costs                   what each kind of decision costs, and a review
    calibrated_threshold    the best threshold, if scores are probabilities
    cost_optimal            the best one by labels, and whether it is shown to be better than today's

Value is cost with its sign turned: 0 is "no mistake cost anything", a mistake that costs 5 makes -5. All amounts are
per 1,000 calls (rows of a batch each count as one), in the unit of the costs. The curve it is read from: `curve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.cuts import GRID, REACHED, Cuts
from gateway.quality.measure import MINIMUM_LABELS
from gateway.quality.strata import Labels, Predictions
from gateway.quality.thresholds import Choice, describe

__all__ = ["Amount", "Costs", "Move", "Path", "calibrated_threshold", "cost_optimal"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DRAWS: Final = 1000
"""Of the largest error over all thresholds: its 95 % point is then within 0.7 % of its rank."""

PER: Final = 1000.0
"""Calls that an amount is given for."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of each kind of decision, and of a review; any unit, and below 0 for a gain.

    A false positive costs more than a true negative and a false negative more than a true positive: else the
    decision would be better the other way round.
    Raises: QualityError, where they do not, or are not finite.
    """

    false_positive: float
    false_negative: float
    true_positive: float = 0.0
    true_negative: float = 0.0
    review: float = 0.0

    def __post_init__(self) -> None:
        right = (self.true_positive, self.true_negative)
        every = (self.false_positive, self.false_negative, *right, self.review)
        if not all(np.isfinite(every)):
            raise QualityError(f"costs: found {every}, wanted finite numbers")
        if not self.false_positive > self.true_negative:
            raise QualityError("costs: found no false positive dearer than a true negative, wanted it above")
        if not self.false_negative > self.true_positive:
            raise QualityError("costs: found no false negative dearer than a true positive, wanted it above")
        if self.review < 0:
            raise QualityError(f"costs: found {self.review} for a review, wanted 0 or more")

    def decision(self, flagged: Bools, positive: Bools) -> Floats:
        """What each decision costs, shape (n,)."""
        of_flagged = np.where(positive, self.true_positive, self.false_positive)
        of_rest = np.where(positive, self.false_negative, self.true_negative)
        return np.where(flagged, of_flagged, of_rest).astype(np.float64)

    def person(self, positive: Bools) -> Floats:
        """What each one costs that a person decides, rightly, shape (n,)."""
        right = np.where(positive, self.true_positive, self.true_negative)
        return (self.review + right).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount per 1,000 calls, or the reason why there is none: `value`, `low`, `high` are all three or none."""

    value: float | None
    low: float | None
    high: float | None
    labels: int
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "labels": self.labels,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Move:
    """The threshold that costs least, and what going there is worth.

    `choice`: the threshold to use: today's, where no other is shown to be better; then `reason` says so. `best`: where
    the value is highest by the labels, shown or not. `gain`: of the chosen one over today's, or of `best` where nothing
    is shown; its limits hold over all thresholds at once. `calibrated`: the best one if scores were probabilities.
    """

    choice: Choice
    best: float | None
    gain: Amount
    calibrated: float

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            **self.choice.as_dict(),
            "best": self.best,
            "gain": self.gain.as_dict(),
            "calibrated_threshold": self.calibrated,
        }


def calibrated_threshold(costs: Costs) -> float:
    """The threshold, within (0, 1), from which on flagging costs less, if a score is the probability of a positive.

    (c_FP - c_TN) / ((c_FP - c_TN) + (c_FN - c_TP)).
    Source: Elkan 2001, The foundations of cost-sensitive learning, IJCAI, equation 2.
    """
    too_many = costs.false_positive - costs.true_negative
    too_few = costs.false_negative - costs.true_positive
    return too_many / (too_many + too_few)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """What changes when a cut rises along a grid, in sums over the labels that it passes.

    All shape (t,), over the labels below each cut: `labels`, their `gain` (weights times what it is worth to pass
    them), `gain_squared` and `crossed` (sums of (w a)^2 and of w^2 a). `total`, `square`: sums of w and of w^2 over all
    labels.
    """

    labels: Floats
    gain: Floats
    gain_squared: Floats
    crossed: Floats
    heaviest: Floats
    total: float
    square: float

    @classmethod
    def of(cls, cuts: Cuts, worth: Floats) -> Path:
        """`worth`: shape (c,), what one label of each cell gains when a cut rises past it."""
        known = cuts.labels
        weight = np.divide(1.0, known.pi, out=np.zeros(len(known.pi)), where=known.pi > 0)
        count = np.where(known.pi > 0, known.count, 0).astype(np.float64)
        place = np.searchsorted(cuts.grid, known.score, side="right") - 1
        on = place >= 0
        size = len(cuts.grid)

        def below(sums: Floats) -> Floats:
            each = np.bincount(place[on], weights=sums[on], minlength=size)
            return np.concatenate([[0.0], np.cumsum(each)[:-1]])

        heaviest = np.zeros(size)
        np.maximum.at(heaviest, place[on], np.where(count > 0, weight, 0.0)[on])
        return cls(
            below(count),
            below(count * weight * worth),
            below(count * (weight * worth) ** 2),
            below(count * weight**2 * worth),
            heaviest,
            float((count * weight).sum()),
            float((count * weight**2).sum()),
        )

    def between(self, one: int) -> tuple[Floats, Floats, Floats]:
        """Gain of every cut over cut `one` per call, its standard error, and how many labels lie between; (t,) each."""
        gain = (self.gain - self.gain[one]) / self.total
        squared = np.abs(self.gain_squared - self.gain_squared[one])
        variance = squared - 2.0 * gain * (self.crossed - self.crossed[one]) + gain**2 * self.square
        return gain, np.sqrt(np.maximum(variance, 0.0)) / self.total, np.abs(self.labels - self.labels[one])

    def against(self, one: int, up: float, down: float) -> Floats:
        """What one more label between would cost per call, as heavy as the heaviest there, if it spoke against the
        move; `up`, `down`: its cost on the way to higher and to lower cuts; shape (t,).
        """
        heavy = np.zeros(len(self.heaviest))
        heavy[one + 1 :] = np.maximum.accumulate(self.heaviest[one:-1]) * up
        heavy[:one] = np.maximum.accumulate(self.heaviest[:one][::-1])[::-1] * down
        return heavy / self.total

    def largest_error(
        self, one: int, among: Bools, delta: float, rng: np.random.Generator, draws: int
    ) -> float:
        """The 1 - delta point of the largest of the errors of `among`, in standard errors."""
        squared, crossed = np.diff(self.gain_squared, append=0.0), np.diff(self.crossed, append=0.0)
        squared[-1] = crossed[-1] = 0.0  # nothing is passed beyond the last cut
        root = np.sqrt(np.maximum(squared, 0.0))
        slope = np.divide(crossed, root, out=np.zeros(len(root)), where=root > 0)
        rest = np.sqrt(max(self.square - float((slope**2).sum()), 0.0))
        first = rng.standard_normal((draws, len(root)))
        passed = np.concatenate([np.zeros((draws, 1)), np.cumsum(first * root, axis=1)[:, :-1]], axis=1)
        whole = first @ slope + rest * rng.standard_normal(draws)
        gain, error, _ = self.between(one)
        moved = (passed - passed[:, [one]] - gain * whole[:, None])[:, among] / self.total
        return float(np.quantile((moved / error[among]).max(axis=1), 1.0 - delta))


def cost_optimal(
    predictions: Predictions,
    labels: Labels,
    costs: Costs,
    today: float,
    rng: np.random.Generator,
    *,
    delta: float = 0.05,
    grid: ArrayLike = GRID,
    draws: int = DRAWS,
) -> Move:
    """The threshold of the highest value, if it is shown to be above today's.

    Args:
        predictions, labels: of one window; their own `flagged` does not count. today: the threshold now.
        delta: how often an equally good threshold may be left. grid: thresholds to try. rng: for the limits.
    Only what lies between two thresholds is decided otherwise, so that their values are compared on those labels, each
    weighted by 1/pi. The limits are simultaneous: the gain less c standard errors, where c is the 1 - delta point of
    the largest error over all thresholds (multiplier bootstrap); with c for one of them, the best of a hundred would
    often seem better by chance. One more label, as heavy as any there, is taken to speak against each move: a dozen
    labels that all agree have no spread of their own. Fewer than 10 labels between show nothing.
    Raises: QualityError for a threshold that is not finite, or a delta outside (0, 1).
    Source: Chernozhukov, Chetverikov and Kato 2013, Ann. Stat. 41:2786-2819.
    """
    if not np.isfinite(today):
        raise QualityError(f"today: found {today}, wanted the threshold that is used now")
    if not 0.0 < delta < 1.0:
        raise QualityError(f"delta: found {delta}, wanted a share between 0 and 1")
    steps = np.union1d(np.asarray(grid, dtype=np.float64), [today])
    cuts = Cuts.of(predictions, labels, steps)
    words = f"threshold of the lowest cost, moved only where shown to be better, {1 - delta:.0%} sure"
    total = int(cuts.labels.count[cuts.labels.pi > 0].sum())
    calibrated = calibrated_threshold(costs)

    def stay(reason: str, best: float | None, gain: Amount | None = None) -> Move:
        choice = describe("cost_optimal", words, cuts, float(today), total, rng, reason)
        return Move(choice, best, gain or Amount(None, None, None, total, reason), calibrated)

    if not total:
        return stay("there are no labels", None)
    path, here = Path.of(cuts, rising(cuts.labels.positive, costs)), int(np.searchsorted(steps, today))
    gain, error, between = path.between(here)
    # What is never reviewed may be passed by nothing: neither on the way up nor on the way down.
    open_to = (between >= MINIMUM_LABELS) & (error > 0) & _reviewed(cuts, here)
    if not bool(open_to.any()):
        return stay(
            f"fewer than {MINIMUM_LABELS} labels lie between today's threshold and any other that could be shown",
            None,
        )
    width = path.largest_error(here, open_to, delta, rng, draws) * error
    doubt = path.against(
        here,
        up=costs.false_negative - costs.true_positive,
        down=costs.false_positive - costs.true_negative,
    )
    low, high = gain - doubt - width, gain + width
    best = int(np.argmax(np.where(open_to, gain, -np.inf)))
    shown = open_to & (low > 0)
    if not bool(shown.any()):
        if gain[best] <= 0:
            return stay("no other threshold had a higher value", float(today))
        return stay(
            f"{steps[best]:g} looks better, but the lower limit of its gain is not above 0",
            float(steps[best]),
            _amount(gain[best], low[best], high[best], total),
        )
    to = int(np.argmax(np.where(shown, gain, -np.inf)))
    choice = describe("cost_optimal", words, cuts, float(steps[to]), total, rng)
    return Move(choice, float(steps[best]), _amount(gain[to], low[to], high[to], total), calibrated)


def _amount(value: float, low: float, high: float, labels: int) -> Amount:
    return Amount(PER * float(value), PER * float(low), PER * float(high), labels)


def rising(positive: Bools, costs: Costs) -> Floats:
    """What one label gains when a threshold rises past it, so that it is no longer flagged; shape (n,)."""
    flagged = np.ones(len(positive), dtype=np.bool_)
    return costs.decision(flagged, positive) - costs.decision(~flagged, positive)


def _reviewed(cuts: Cuts, here: int) -> Bools:
    """Of each threshold, whether what lies between it and `here` could have been reviewed; shape (t,)."""
    every = cuts.predicted().astype(np.float64)
    could = cuts.reached() * every
    passed, known = np.abs(every - every[here]), np.abs(could - could[here])
    return np.asarray(known >= REACHED * passed - 1e-9)
