"""A monotone table that makes scores probabilities, fitted on labels.

    recalibrate -> Recalibration    Platt's curve where labels are few, isotonic where there are many

The data plane maps scores by such a table before anything is decided by them; `calibration` says whether it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.calibration import BINS, Sample, of_sample
from gateway.quality.estimate import Estimate
from gateway.quality.strata import Labels

__all__ = ["ISOTONIC_LABELS", "Recalibration", "pooled", "recalibrate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_TO_FIT: Final = 50
"""Labels, and 5 of either kind, before a table is fitted."""

LEAST_OF_KIND: Final = 5

ISOTONIC_LABELS: Final = 1000
"""From so many on a table may have any rising form; with fewer it would follow chance, and two parameters do better
(Niculescu-Mizil and Caruana 2005, ICML, figure 7).
"""

MOST_KNOTS: Final = 257
"""Of a table: no policy grows by more, and a straight line between is within .002 of Platt's curve."""

NEWTON_STEPS: Final = 50
SHARPEST: Final = 1e-6
"""Scores are kept this far from 0 and 1 before their logarithms are taken."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A table of scores, or the reason why there is none.

    `x`, `y`: knots of a piecewise linear function, x rising, y never falling, both 0 to 1; empty with a `reason`.
    `method`: how it was fitted. `before`, `after`: calibration errors of the raw and of the mapped scores on labels
    that the table they were mapped by was not fitted on (halves in turn); `brier_before`, `brier_after` likewise.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    method: Literal["platt", "isotonic"] | None
    labels: int
    before: Estimate
    after: Estimate
    brier_before: Estimate
    brier_after: Estimate
    reason: str | None = None

    @property
    def better(self) -> bool:
        """Whether the table brings scores nearer to the truth, on labels that it has not seen."""
        before, after = self.brier_before.value, self.brier_after.value
        return before is not None and after is not None and after < before

    def map(self, score: ArrayLike) -> Floats:
        """Scores by the table, shape as given; NaN stays NaN. As the data plane maps them.

        Raises: QualityError where there is no table.
        """
        if not self.x:
            raise QualityError(f"recalibration: there is no table: {self.reason}")
        return np.asarray(np.interp(np.asarray(score, dtype=np.float64), self.x, self.y), dtype=np.float64)

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "x": list(self.x),
            "y": list(self.y),
            "method": self.method,
            "labels": self.labels,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "brier_before": self.brier_before.as_dict(),
            "brier_after": self.brier_after.as_dict(),
            "better": self.better,
            "reason": self.reason,
        }


def recalibrate(
    labels: Labels,
    rng: np.random.Generator,
    *,
    method: Literal["auto", "platt", "isotonic"] = "auto",
    level: float = 0.95,
) -> Recalibration:
    """Fit a monotone table on labels.

    Args:
        labels: those labelled through review, of one model's raw scores. rng: for halving the labels. method: `auto` is
        Platt's with fewer than 1,000 labels and isotonic from there on.
    Platt's is a logistic regression on the log odds of the score, on smoothed targets, and rises always: where the
    labels say that higher scores are worse, there is no table. Isotonic is the rising step function of least weighted
    squares (pool adjacent violators), with the middles of its steps joined by straight lines (centred isotonic
    regression), so that no two scores become one that need not.
    Source: Platt 1999, Advances in Large Margin Classifiers; Lin, Lin and Weng 2007, Mach. Learn. 68:267-276; Zadrozny
    and Elkan 2002, KDD; Oron and Flournoy 2017, Stat. Biopharm. Res. 9:258-267.
    """
    sample = Sample.of(labels)
    positives = sample.positives
    fewest = min(positives, sample.labels - positives)
    if sample.labels < LEAST_TO_FIT or fewest < LEAST_OF_KIND:
        reason = (
            f"{sample.labels:,} labels, {positives:,} of them positive; wanted {LEAST_TO_FIT} at least, "
            f"and {LEAST_OF_KIND} of either kind"
        )
        return _none(reason, sample.labels)
    if method == "auto":
        method = "isotonic" if sample.labels >= ISOTONIC_LABELS else "platt"
    table = _fit(sample, method)
    if table is None:
        return _none(
            "higher scores are not more often positive, so that no rising table mends them", sample.labels
        )
    raw, mapped = _out_of_sample(sample, method, rng)
    before, after = (of_sample(one, BINS, level) for one in (raw, mapped))
    return Recalibration(
        tuple(float(knot) for knot in table[0]),
        tuple(float(knot) for knot in table[1]),
        method,
        sample.labels,
        before.error,
        after.error,
        before.brier,
        after.brier,
    )


def _none(reason: str, labels: int) -> Recalibration:
    unknown = Estimate.unknown(reason, labels)
    return Recalibration((), (), None, labels, unknown, unknown, unknown, unknown, reason)


def _out_of_sample(
    sample: Sample, method: Literal["platt", "isotonic"], rng: np.random.Generator
) -> tuple[Sample, Sample]:
    """The labels twice: as they are, and each half mapped by the other's table."""
    one = rng.binomial(sample.count.astype(np.int64), 0.5).astype(np.float64)
    raw, mapped = [], []
    for count, others in ((one, sample.count - one), (sample.count - one, one)):
        here, there = _counted(sample, count), _counted(sample, others)
        table = _fit(there, method) if there.labels else None
        raw.append(here)
        mapped.append(here if table is None else here.mapped(table))
    return _joined(raw), _joined(mapped)


def _counted(sample: Sample, count: Floats) -> Sample:
    some = count > 0
    part = sample.only(some)
    return Sample(part.score, part.truth, part.weight * count[some] / part.count, count[some])


def _joined(parts: list[Sample]) -> Sample:
    score = np.concatenate([one.score for one in parts])
    order = np.argsort(score, kind="stable")
    truth, weight, count = (
        np.concatenate([getattr(one, name) for one in parts])[order] for name in ("truth", "weight", "count")
    )
    return Sample(score[order], truth, weight, count)


def _fit(sample: Sample, method: Literal["platt", "isotonic"]) -> tuple[Floats, Floats] | None:
    """Knots of the table; None where nothing rises."""
    positives = sample.positives
    if not 0 < positives < sample.labels:
        return None
    return _platt(sample) if method == "platt" else _isotonic(sample)


def _platt(sample: Sample) -> tuple[Floats, Floats] | None:
    """Logistic regression of the truth on the score's log odds, by Newton's method with halved steps."""
    odds = _log_odds(sample.score)
    effective = float(sample.weight.sum()) ** 2 / float((sample.weight**2 / sample.count).sum())
    weight = sample.weight / sample.weight.sum() * effective
    yes = float((weight * sample.truth).sum())
    target = np.where(sample.truth > 0, (yes + 1.0) / (yes + 2.0), 1.0 / (effective - yes + 2.0))
    slope, offset = 1.0, 0.0

    def loss(slope: float, offset: float) -> float:
        line = slope * odds + offset
        return float((weight * (np.logaddexp(0.0, line) - target * line)).sum())

    now = loss(slope, offset)
    for _ in range(NEWTON_STEPS):
        rate = _logistic(slope * odds + offset)
        residual, curve = weight * (rate - target), weight * rate * (1.0 - rate)
        gradient = np.array([(residual * odds).sum(), residual.sum()])
        cross = float((curve * odds).sum())
        hessian = np.array([[(curve * odds**2).sum(), cross], [cross, curve.sum()]]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and loss(slope - size * step[0], offset - size * step[1]) > now:
            size /= 2.0
        slope, offset = float(slope - size * step[0]), float(offset - size * step[1])
        before, now = now, loss(slope, offset)
        if before - now < 1e-10 * max(effective, 1.0):
            break
    if slope <= 0:
        return None
    # Even in log odds, where the curve is even: fine near 0 and 1.
    x = np.concatenate([[0.0], _logistic(np.linspace(-12.0, 12.0, MOST_KNOTS - 2)), [1.0]])
    return x, np.maximum.accumulate(_logistic(slope * _log_odds(x) + offset))


def _isotonic(sample: Sample) -> tuple[Floats, Floats] | None:
    """Pool adjacent violators; knots at the middle of each step, by weight."""
    score, place = np.unique(sample.score, return_inverse=True)
    mass = np.bincount(place, weights=sample.weight).astype(np.float64)
    yes = np.bincount(place, weights=sample.weight * sample.truth)
    rate, blocks = pooled(yes / mass, mass)
    weight = np.add.reduceat(mass, blocks)
    middle = np.add.reduceat(mass * score, blocks) / weight
    level = rate[blocks]
    if len(blocks) < 2:
        return None
    while len(middle) > MOST_KNOTS - 2:  # neighbours joined, two by two
        pairs = np.arange(0, len(middle), 2)
        middle = np.add.reduceat(middle * weight, pairs) / np.add.reduceat(weight, pairs)
        level = np.add.reduceat(level * weight, pairs) / np.add.reduceat(weight, pairs)
        weight = np.add.reduceat(weight, pairs)
    x, y = [0.0, *middle.tolist(), 1.0], [float(level[0]), *level.tolist(), float(level[-1])]
    knots = dict(zip(x, y, strict=True))  # a step at 0 or 1 takes the place of the end
    return np.array(list(knots)), np.clip(np.maximum.accumulate(np.array(list(knots.values()))), 0.0, 1.0)


def pooled(rate: Floats, weight: Floats) -> tuple[Floats, Ints]:
    """The rising function of least weighted squares, shape (n,), and where each of its steps starts.

    Raises: QualityError for no rate.
    Source: Barlow, Bartholomew, Bremner and Brunk 1972, Statistical Inference under Order Restrictions, 1.2.
    """
    if not len(rate):
        raise QualityError("rates: found none, wanted one at least")
    from scipy.optimize import isotonic_regression  # here, as scipy stays out of the serving process

    fit = isotonic_regression(rate, weights=weight)
    return np.asarray(fit.x, dtype=np.float64), np.asarray(fit.blocks[:-1], dtype=np.int64)


def _log_odds(score: Floats) -> Floats:
    inside = np.clip(score, SHARPEST, 1.0 - SHARPEST)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def _logistic(value: Floats) -> Floats:
    rate: Floats = 0.5 * (1.0 + np.tanh(0.5 * value))
    return rate
