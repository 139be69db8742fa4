"""Whether a score of .8 is right four times of five.

    calibration -> Calibration    error (ECE) and Brier score with intervals, and the reliability table

What makes it so: `recalibration`.

Scores are of the positive class, weights 1/pi, so that what is said is said of all predictions and not of those that
were reviewed. A million labels take 0.4 s and 115 bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.errors import QualityError
from gateway.quality.estimate import Estimate
from gateway.quality.intervals import normal_quantile, wilson_interval
from gateway.quality.strata import Labels

__all__ = ["BINS", "Bin", "Calibration", "Sample", "calibration", "of_sample"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS: Final = 10
"""Of equal mass; fewer where there are not 10 labels for each."""

LEAST_IN_BIN: Final = 10

LEAST_LABELS: Final = 30
"""Before anything is said about calibration."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about one score: `score` their mean, `rate` how many of them are positive, with Wilson's limits.

    `start`, `end`: the lowest and the highest score in it. `share`: of all predictions.
    """

    start: float
    end: float
    score: float
    rate: float
    low: float
    high: float
    labels: int
    share: float

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it."""
        return {
            "from": self.start,
            "to": self.end,
            "score": self.score,
            "rate": self.rate,
            "low": self.low,
            "high": self.high,
            "labels": self.labels,
            "share": self.share,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from being probabilities.

    `error`: the expected calibration error, less what chance alone would bring: the mean distance of score and rate.
    `brier`: the mean squared distance of score and truth. `table`: by bins of equal mass; empty where `error` is
    unknown.
    """

    error: Estimate
    brier: Estimate
    table: tuple[Bin, ...]

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it."""
        return {
            "calibration_error": self.error.as_dict(),
            "brier": self.brier.as_dict(),
            "reliability": [one.as_dict() for one in self.table],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Labels with a score and a probability of review, by rising score; cells of shape (c,)."""

    score: Floats
    truth: Floats
    weight: Floats
    count: Floats

    @classmethod
    def of(cls, labels: Labels) -> Sample:
        usable = (labels.pi > 0) & (labels.count > 0) & np.isfinite(labels.score)
        score = np.clip(labels.score[usable], 0.0, 1.0)
        order = np.argsort(score, kind="stable")
        count = labels.count[usable][order].astype(np.float64)
        return cls(
            score[order],
            labels.positive[usable][order].astype(np.float64),
            count / labels.pi[usable][order],
            count,
        )

    @property
    def labels(self) -> int:
        return int(self.count.sum())

    @property
    def positives(self) -> int:
        return int((self.count * self.truth).sum())

    def only(self, which: NDArray[np.bool_]) -> Sample:
        return Sample(self.score[which], self.truth[which], self.weight[which], self.count[which])

    def mapped(self, table: tuple[Floats, Floats]) -> Sample:
        return Sample(np.interp(self.score, *table), self.truth, self.weight, self.count)


def calibration(labels: Labels, *, bins: int = BINS, level: float = 0.95) -> Calibration:
    """Compare scores with what came true.

    Args:
        labels: those labelled through review; scores outside 0 to 1 count as the nearer end. bins: at most, of equal
        mass. level: share of intervals that hold the truth.
    The plug-in error of a perfect model is .12 with 100 labels and .05 with 500, by chance alone: the distance of score
    and rate of each bin is squared, its own variance taken off, and the root taken of what is left. (With 600 labels
    and a true error of .101 it says .090 on average.) Intervals: of the error by the normal approximation of the bins'
    distances, of the Brier score by that of its mean, of a rate by Wilson with Kish's effective count.
    Source: Kumar, Liang and Ma 2019, Verified uncertainty calibration, NeurIPS, section 4.2; Brier 1950, Mon. Weather
    Rev. 78:1-3.
    """
    if bins < 1:
        raise QualityError(f"bins: found {bins}, wanted one at least")
    normal_quantile(level)
    return of_sample(Sample.of(labels), bins, level)


def of_sample(sample: Sample, bins: int, level: float) -> Calibration:
    if sample.labels < LEAST_LABELS:
        reason = f"{sample.labels:,} of the {LEAST_LABELS} labels with a score that it takes at least"
        none = Estimate.unknown(reason, sample.labels, LEAST_LABELS - sample.labels)
        return Calibration(none, none, ())
    total = float(sample.weight.sum())
    z = normal_quantile(level)
    square = (sample.score - sample.truth) ** 2
    brier = float((sample.weight * square).sum()) / total
    per_label = sample.weight / sample.count
    spread = sqrt(float((sample.count * (per_label * (square - brier)) ** 2).sum())) / total
    groups = _groups(sample, bins)
    table = tuple(_bin(sample, groups == index, total, level) for index in range(int(groups[-1]) + 1))
    share = np.array([one.share for one in table])
    apart = np.array([one.rate - one.score for one in table])
    chance = np.array([_variance(sample, groups == index) for index in range(len(table))])
    kept = np.sqrt(np.maximum(apart**2 - chance, 0.0))
    error = float((share * kept).sum())
    # Of the signed distances, as the one of a mean of absolute values is no wider.
    wide = z * sqrt(float((share**2 * chance).sum()))
    return Calibration(
        Estimate.known(error, (error - wide, error + wide), sample.labels, "debiased"),
        Estimate.known(brier, (brier - z * spread, brier + z * spread), sample.labels, "normal"),
        table,
    )


def _groups(sample: Sample, bins: int) -> Ints:
    """The bin of each cell: equal mass of what was predicted, scores that are alike together, and labels enough."""
    most = int(min(bins, max(sample.labels // LEAST_IN_BIN, 1)))
    place = np.cumsum(sample.weight) - sample.weight / 2.0
    raw = np.minimum((place * most / sample.weight.sum()).astype(np.int64), most - 1)
    same = np.concatenate([[False], sample.score[1:] == sample.score[:-1]])
    raw = np.maximum.accumulate(np.where(same, 0, raw))
    held = np.bincount(raw, weights=sample.count, minlength=most)
    merged, current, filled = np.zeros(most, dtype=np.int64), 0, 0.0
    for index in range(most):
        if filled >= LEAST_IN_BIN and held[index:].sum() >= LEAST_IN_BIN:
            current, filled = current + 1, 0.0
        merged[index] = current
        filled += held[index]
    numbers: Ints = np.unique(merged[raw], return_inverse=True)[1].astype(np.int64)
    return numbers


def _bin(sample: Sample, here: NDArray[np.bool_], total: float, level: float) -> Bin:
    part = sample.only(here)
    mass = float(part.weight.sum())
    rate = min(max(float((part.weight * part.truth).sum()) / mass, 0.0), 1.0)
    score = float((part.weight * part.score).sum()) / mass
    effective = min(mass**2 / float((part.weight**2 / part.count).sum()), float(part.labels))
    low, high = wilson_interval(min(rate * effective, effective), effective, level)
    return Bin(float(part.score[0]), float(part.score[-1]), score, rate, low, high, part.labels, mass / total)


def _variance(sample: Sample, here: NDArray[np.bool_]) -> float:
    """Of the distance of rate and score of one bin; with a label of either kind added, so that it is never 0."""
    part = sample.only(here)
    mass = float(part.weight.sum())
    effective = mass**2 / float((part.weight**2 / part.count).sum())
    rate = (float((part.weight * part.truth).sum()) / mass * effective + 1.0) / (effective + 2.0)
    return rate * (1.0 - rate) / effective
