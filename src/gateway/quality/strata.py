"""What came and what is known about it, cut into strata for estimation.

A stratum lies on one side of the decision, always: the sides are what precision and recall are made of, and a
stratum across the threshold would mix them. Within a side, predictions are cut by inclusion probability first
(bands of a factor of two), then by score, into runs of at least `LABELS_PER_STRATUM` labels. The cuts depend
on how many labels there are and never on what they say, so they bring no bias.

Why 50 labels: with strata of 10 to 30 labels the shared prior gets too thin, and 95 % intervals of a common
class covered in 91-93 % of 1,000 simulated windows; from 50 on, 94.5 % or more in all four populations of the
tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError

__all__ = ["LABELS_PER_STRATUM", "STRATA_PER_SIDE", "Labels", "Predictions", "Strata", "stratify"]

LABELS_PER_STRATUM: Final = 50
STRATA_PER_SIDE: Final = 5

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """How many predictions there were, labelled or not: cells of shape (c,), or one cell a prediction.

    `flagged`: predicted positive. `score`: anything that orders predictions (a score, or its bin); NaN where
    there is none. `pi`: probability with which each was chosen for review, 0-1. `count`: predictions in the
    cell.
    """

    flagged: Bools
    score: Floats
    pi: Floats
    count: Ints

    @classmethod
    def of(
        cls, flagged: ArrayLike, score: ArrayLike, pi: ArrayLike, count: ArrayLike | None = None
    ) -> Predictions:
        """From any arrays of equal length; without `count` every row is one prediction.

        Raises: QualityError for unequal lengths, probabilities outside [0, 1] or negative counts.
        """
        return cls(*_cells(flagged, score, pi, count))


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The truth about some of the predictions: cells of shape (c,), or one cell a label; `score` on the same
    grid.

    `positive`: what the label says; the others as in `Predictions`, of the labelled prediction.
    """

    flagged: Bools
    score: Floats
    pi: Floats
    count: Ints
    positive: Bools

    @classmethod
    def of(
        cls,
        flagged: ArrayLike,
        score: ArrayLike,
        pi: ArrayLike,
        positive: ArrayLike,
        count: ArrayLike | None = None,
    ) -> Labels:
        """From any arrays of equal length; without `count` every row is one label. Raises as `Predictions.of`."""
        cells = _cells(flagged, score, pi, count)
        truth = np.asarray(positive, dtype=np.bool_)
        if truth.shape != cells[0].shape:
            raise QualityError(f"positive: found shape {truth.shape}, wanted {cells[0].shape} like flagged")
        return cls(*cells, truth)


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """One side or both, as counts; arrays of shape (h,).

    `population`: predictions with pi > 0. `labelled`, `positive`: labels, and those that say positive.
    `rate`: share of positives among the predictions without a label, from weights (w - 1), where w is 1/pi
    scaled to add up to the stratum's population (Hajek); equals positive/labelled where pi is constant.
    `effective`: how many equally weighted labels these are worth (Kish). `simple`: pi was constant, so that
    the labels are a simple random sample.
    """

    flagged: Bools
    population: Ints
    labelled: Ints
    positive: Ints
    rate: Floats
    effective: Floats
    simple: Bools

    @property
    def unseen(self) -> Ints:
        """Predictions without a label, shape (h,)."""
        return self.population - self.labelled

    @property
    def positives(self) -> Floats:
        """Estimated positives per stratum: those seen, and the share of those unseen; shape (h,)."""
        return self.positive + self.unseen * self.rate

    def side(self, flagged: bool) -> Strata:
        """The strata of one side of the decision."""
        keep = self.flagged == flagged
        return Strata(
            self.flagged[keep],
            self.population[keep],
            self.labelled[keep],
            self.positive[keep],
            self.rate[keep],
            self.effective[keep],
            self.simple[keep],
        )


def stratify(
    predictions: Predictions,
    labels: Labels,
    labels_per_stratum: int = LABELS_PER_STRATUM,
    strata_per_side: int = STRATA_PER_SIDE,
) -> Strata:
    """Cut both sides into strata.

    Predictions and labels with pi = 0 are left out: no label can speak for them. A side without labels has no
    stratum.
    """
    sides = [_cut(predictions, labels, side, labels_per_stratum, strata_per_side) for side in (True, False)]
    flagged, unflagged = sides
    return Strata(
        np.concatenate([flagged.flagged, unflagged.flagged]),
        np.concatenate([flagged.population, unflagged.population]),
        np.concatenate([flagged.labelled, unflagged.labelled]),
        np.concatenate([flagged.positive, unflagged.positive]),
        np.concatenate([flagged.rate, unflagged.rate]),
        np.concatenate([flagged.effective, unflagged.effective]),
        np.concatenate([flagged.simple, unflagged.simple]),
    )


def _cut(predictions: Predictions, labels: Labels, side: bool, per_stratum: int, most: int) -> Strata:
    there = (predictions.flagged == side) & (predictions.pi > 0)
    known = (labels.flagged == side) & (labels.pi > 0) & (labels.count > 0)
    pi, count, positive = labels.pi[known], labels.count[known], labels.positive[known]
    if count.size == 0:
        none = np.zeros(0, dtype=np.int64)
        return Strata(none.astype(bool), none, none, none, none / 1.0, none / 1.0, none.astype(bool))

    place, place_of_label = _places(predictions.pi[there], predictions.score[there], pi, labels.score[known])
    last = int(max(place.max(initial=0), place_of_label.max()))
    stratum_of_place = _runs(
        np.bincount(place_of_label, weights=count, minlength=last + 1).astype(np.float64), per_stratum, most
    )
    stratum = stratum_of_place[place_of_label]
    strata = int(stratum_of_place[-1]) + 1

    def total(weights: NDArray[Any]) -> Floats:
        return np.bincount(stratum, weights=weights, minlength=strata).astype(np.float64)

    labelled, seen_positive = total(count), total(count * positive)
    population = np.bincount(stratum_of_place[place], weights=predictions.count[there], minlength=strata)
    population = np.maximum(population, labelled)  # a tally may have been dropped, a label is never
    weight = (1.0 / pi) * (population / total(count / pi))[stratum]
    unseen = np.maximum(weight - 1.0, 0.0)
    mass, square = total(count * unseen), total(count * unseen**2)
    some = mass > 0
    rate = np.where(
        some, total(count * unseen * positive) / np.where(some, mass, 1.0), seen_positive / labelled
    )
    effective = np.where(some, mass**2 / np.where(some, square, 1.0), labelled)
    simple = (effective >= labelled * (1 - 1e-6)) | (population <= labelled)
    return Strata(
        np.full(strata, side),
        population.astype(np.int64),
        labelled.astype(np.int64),
        seen_positive.astype(np.int64),
        np.clip(rate, 0.0, 1.0).astype(np.float64),
        np.minimum(effective, labelled).astype(np.float64),
        simple,
    )


def _places(pi: Floats, score: Floats, label_pi: Floats, label_score: Floats) -> tuple[Ints, Ints]:
    """Ranks in the common order by (band of pi, score), for predictions and for labels."""
    band = np.floor(np.log2(np.concatenate([pi, label_pi])))
    scores = np.concatenate([score, label_score])
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.lexsort((scores, band))
    band, scores = band[order], scores[order]
    new = np.ones(len(order), dtype=np.int64)
    new[0] = 0
    new[1:] = (band[1:] != band[:-1]) | (scores[1:] != scores[:-1])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(new)
    return ranks[: len(pi)], ranks[len(pi) :]


def _runs(labels_at: Floats, per_stratum: int, most: int) -> Ints:
    """Places -> strata: runs of about equally many labels, at least `per_stratum` each where there are that many."""
    total = float(labels_at.sum())
    strata = int(min(max(total // max(per_stratum, 1), 1), max(most, 1)))
    middle = np.cumsum(labels_at) - labels_at / 2.0
    raw = np.minimum((middle * strata / total).astype(np.int64), strata - 1)
    # Ties (one score for many) can leave a run short of labels: it joins the run before it.
    held = np.bincount(raw, weights=labels_at, minlength=strata)
    merged = np.zeros(strata, dtype=np.int64)
    current, filled = 0, held[0]
    for index in range(1, strata):
        rest = held[index:].sum()
        if filled >= per_stratum * 0.8 and rest >= per_stratum * 0.8:
            current, filled = current + 1, 0.0
        merged[index] = current
        filled += held[index]
    return merged[raw]


def _cells(
    flagged: ArrayLike, score: ArrayLike, pi: ArrayLike, count: ArrayLike | None
) -> tuple[Bools, Floats, Floats, Ints]:
    flags = np.asarray(flagged, dtype=np.bool_)
    scores, chances = np.asarray(score, dtype=np.float64), np.asarray(pi, dtype=np.float64)
    counts = np.ones(flags.shape, np.int64) if count is None else np.asarray(count, dtype=np.int64)
    for name, column in (("score", scores), ("pi", chances), ("count", counts)):
        if flags.ndim != 1 or column.shape != flags.shape:
            raise QualityError(f"{name}: found shape {column.shape}, wanted {flags.shape} like flagged")
    if not bool(np.all((chances >= 0.0) & (chances <= 1.0))):  # also NaN
        raise QualityError("pi: found a value outside [0, 1], wanted the probability of being reviewed")
    if bool(np.any(counts < 0)):
        raise QualityError("count: found a negative one, wanted how many predictions the cell holds")
    return flags, scores, chances, counts
