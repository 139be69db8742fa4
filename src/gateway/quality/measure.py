"""Precision, recall and F1 of the predictions of a window, from a sample of them.

What is estimated is the rate among the window's own predictions that could have been reviewed (pi > 0): not
that of traffic to come, so a window of which everything was labelled has an interval of width zero. Labels
that have not come yet are taken to be missing at random within a stratum: the labels that are there speak for
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from gateway.errors import QualityError
from gateway.quality.estimate import Estimate
from gateway.quality.intervals import wilson_interval
from gateway.quality.monte_carlo import DRAWS, Bounds, shared_jeffreys
from gateway.quality.strata import Labels, Predictions, Strata, stratify

__all__ = [
    "MINIMUM_LABELS",
    "Quality",
    "SideFacts",
    "blind_region",
    "labels_to_show_recall",
    "measure",
    "side_facts",
]

MINIMUM_LABELS: Final = 10
"""On each side that a number needs, before it is given; fewer are enough where fewer predictions were made."""

REGIONS: Final = 10
"""Parts of equal width that the range of scores is cut into when looking for parts that are never reviewed."""

REGION_SHARE: Final = 0.01
"""A part with less than this share of its side's predictions (or fewer than 30) cannot by itself forbid a number."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be said about one set of predictions.

    `predictions`, `flagged`: how many there were. `unreachable`: those among them with pi = 0, which the
    numbers leave out. `labels`, `labels_flagged`: labels used. `positives`: estimated number of positives,
    None where recall is not estimable.
    """

    precision: Estimate
    recall: Estimate
    f1: Estimate
    predictions: int
    flagged: int
    unreachable: int
    labels: int
    labels_flagged: int
    positives: float | None


@dataclass(frozen=True, slots=True)
class SideFacts:
    """One side of the decision: what came, what can be reached, and the first thing that forbids a number."""

    predictions: int
    reachable: int
    labels: int
    obstacle: str | None
    missing: int | None


def labels_to_show_recall(recall: float, unflagged: float, true_positives: float) -> int | None:
    """Labels of unflagged predictions, none of them positive, that show a recall of at least `recall` with 95
    %.

    The rule of three: n labels without a positive bound the rate by 3/n. None where no true positive is
    known.
    Raises: QualityError, unless 0 < recall < 1.
    """
    if not 0.0 < recall < 1.0:
        raise QualityError(f"recall: found {recall}, wanted a share between 0 and 1")
    if true_positives <= 0:
        return None
    needed = 3.0 * unflagged * recall / (true_positives * (1.0 - recall))
    return min(ceil(round(needed, 6)), ceil(unflagged))


def measure(
    predictions: Predictions,
    labels: Labels,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    recall_wanted: float = 0.8,
    minimum_labels: int = MINIMUM_LABELS,
    draws: int = DRAWS,
) -> Quality:
    """Estimate precision, recall and F1 with intervals.

    Args:
        predictions: all of them, as cells. labels: those labelled through review, with the pi of their
        prediction. rng: for the Monte Carlo intervals; the same state gives the same numbers. level: share of
        intervals that hold the truth. recall_wanted: for which the labels that are missing are counted.
        minimum_labels: on each side, before a number is given.
    Values are Hajek estimates (weights 1/pi, scaled to each stratum's known size). Intervals: precision by
    Wilson for one simple random stratum, else Shared-Jeffreys Monte Carlo; recall and F1 always by the
    latter.
    """
    strata = stratify(predictions, labels)
    flagged = side_facts(predictions, labels, True, minimum_labels)
    unflagged = side_facts(predictions, labels, False, minimum_labels)
    bounds = shared_jeffreys(strata, rng, level, draws)
    true_positives = float(strata.side(True).positives.sum())
    false_negatives = float(strata.side(False).positives.sum())
    found = int(strata.positive.sum())
    forbidden = _forbids_recall(flagged, unflagged, found, recall_wanted, true_positives)
    return Quality(
        precision=_precision(strata.side(True), flagged, true_positives, bounds, level),
        recall=forbidden or _recall(strata, true_positives, false_negatives, bounds, recall_wanted),
        f1=forbidden or _f1(strata, true_positives, false_negatives, bounds),
        predictions=flagged.predictions + unflagged.predictions,
        flagged=flagged.predictions,
        unreachable=flagged.predictions + unflagged.predictions - flagged.reachable - unflagged.reachable,
        labels=flagged.labels + unflagged.labels,
        labels_flagged=flagged.labels,
        positives=None if forbidden else true_positives + false_negatives,
    )


def _precision(
    side: Strata, facts: SideFacts, true_positives: float, bounds: Bounds, level: float
) -> Estimate:
    if facts.predictions == 0:
        return Estimate.unknown(
            "no prediction was flagged, so there is nothing to be right or wrong about", 0
        )
    if facts.obstacle is not None:
        return Estimate.unknown(facts.obstacle, facts.labels, facts.missing)
    population = int(side.population.sum())
    value = true_positives / population
    if len(side.population) == 1 and bool(side.simple[0]):
        interval = wilson_interval(int(side.positive[0]), facts.labels, level, population)
        return Estimate.known(value, interval, facts.labels, "wilson")
    if bounds.precision is None:  # a side with labels has predictions
        raise QualityError("precision: found no flagged prediction in the strata")
    return Estimate.known(value, bounds.precision, facts.labels, "shared_jeffreys")


def _forbids_recall(
    flagged: SideFacts, unflagged: SideFacts, found: int, wanted: float, true_positives: float
) -> Estimate | None:
    """The reason why recall has no number; None when it has one."""
    labels = flagged.labels + unflagged.labels
    if flagged.predictions + unflagged.predictions == 0:
        return Estimate.unknown("there was no prediction that is either flagged or not", 0)
    if flagged.predictions and flagged.obstacle is not None:
        return Estimate.unknown(flagged.obstacle, labels, flagged.missing)
    if unflagged.predictions and unflagged.obstacle is not None:
        missing = unflagged.missing
        if missing is None:
            missing = labels_to_show_recall(wanted, unflagged.predictions, true_positives)
        return Estimate.unknown(unflagged.obstacle, labels, missing)
    if found == 0:
        return Estimate.unknown(
            f"none of {labels:,} labels is positive, so there is nothing to recall yet", labels
        )
    return None


def _recall(
    strata: Strata, true_positives: float, false_negatives: float, bounds: Bounds, wanted: float
) -> Estimate:
    labels = int(strata.labelled.sum())
    unflagged = strata.side(False)
    value = true_positives / (true_positives + false_negatives)
    missing, note = None, None
    checked = int(unflagged.labelled.sum())
    if int(unflagged.positive.sum()) == 0 and int(unflagged.unseen.sum()) > 0:
        needed = labels_to_show_recall(wanted, int(unflagged.population.sum()), true_positives)
        missing = max((needed or 0) - checked, 0)
        note = f"no missed positive among {checked:,} labels of unflagged predictions"
        if missing:
            note += f"; {missing:,} more without one would show a recall of {wanted:.2f}"
    if bounds.recall is None:  # with a positive label every draw has a denominator
        raise QualityError("recall: found no positive in the strata")
    return Estimate.known(value, bounds.recall, labels, "shared_jeffreys", missing=missing or None, note=note)


def _f1(strata: Strata, true_positives: float, false_negatives: float, bounds: Bounds) -> Estimate:
    flagged = int(strata.side(True).population.sum())
    value = 2.0 * true_positives / (flagged + true_positives + false_negatives)
    if bounds.f1 is None:
        raise QualityError("f1: found neither a positive nor a flagged prediction in the strata")
    return Estimate.known(value, bounds.f1, int(strata.labelled.sum()), "shared_jeffreys")


def side_facts(predictions: Predictions, labels: Labels, flagged: bool, minimum: int) -> SideFacts:
    """What is there of one side; `minimum`: labels that it takes, or all that there can be."""
    name = "flagged" if flagged else "unflagged"
    here = predictions.flagged == flagged
    count, reachable = predictions.count[here], predictions.pi[here] > 0
    total, reached = int(count.sum()), int(count[reachable].sum())
    labelled = int(labels.count[(labels.flagged == flagged) & (labels.pi > 0)].sum())
    total, reached = max(total, labelled), max(reached, labelled)
    obstacle, missing = None, None
    wanted = min(minimum, reached)
    region = blind_region(predictions.score[here], count, reachable)
    if total and reached == 0:
        obstacle = f"{name} predictions are never reviewed (probability 0)" + (
            ", so a missed positive cannot be found" if not flagged else ""
        )
    elif region is not None:
        obstacle = f"{name} predictions with {region} are never reviewed (probability 0)"
    elif labelled < wanted:
        missing = wanted - labelled
        obstacle = f"{labelled} of the {wanted} labels that it takes at least on {name} predictions"
    return SideFacts(total, reached, labelled, obstacle, missing)


def blind_region(
    score: np.ndarray[tuple[int], np.dtype[np.float64]],
    count: np.ndarray[tuple[int], np.dtype[np.int64]],
    reachable: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> str | None:
    """A part of the scores, large enough to matter, of which nothing can be reviewed; in words."""
    known = np.isfinite(score)
    if not bool(known.any()) or bool(reachable.all()):
        return None
    low, high = float(score[known].min()), float(score[known].max())
    step = (high - low) / REGIONS or 1.0
    region = np.where(known, np.minimum(((np.where(known, score, low) - low) / step), REGIONS - 1), REGIONS)
    region = region.astype(np.int64)
    inside = np.bincount(region, weights=count, minlength=REGIONS + 1)
    reached = np.bincount(region, weights=count * reachable, minlength=REGIONS + 1)
    blind = np.flatnonzero((reached == 0) & (inside >= max(30.0, REGION_SHARE * float(count.sum()))))
    if not len(blind):
        return None
    first = int(blind[0])
    if first == REGIONS:
        return "no score"
    return f"scores from {low + first * step:.3g} to {low + (first + 1) * step:.3g}"
