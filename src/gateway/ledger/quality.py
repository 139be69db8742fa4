"""Precision and recall of routes: the ledger's columns brought to `gateway.quality`, and back with words.

One function for whoever needs these numbers (report, metrics, gates), so that they can never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gateway.ledger import schema
from gateway.ledger.disagreements import disagreements
from gateway.ledger.labels import REVIEW
from gateway.ledger.reading import Reader, Window
from gateway.ledger.report_input import LabelCounts, ReviewProgress, label_counts, review_progress
from gateway.quality import (
    Disagreement,
    Estimate,
    Labels,
    Predictions,
    Quality,
    Rates,
    measure,
    rates,
    share,
)
from gateway.types import UNPREDICTED

__all__ = ["Feedback", "RouteQuality", "route_qualities", "route_quality"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one source of feedback says: an early warning, as nobody knows who answers; never precision or recall.

    `confirmed`: of the flagged predictions it speaks of, the share it calls positive. `missed`: of the
    unflagged ones, the share it calls positive.
    """

    source: str
    labels: int
    confirmed: Estimate
    missed: Estimate


@dataclass(frozen=True, slots=True)
class RouteQuality:
    """One route's quality in a window.

    `numbers`: precision, recall, F1; where reviewers contradict each other, their intervals hold that. `rates`: the
    others. `review`: how far the sample is labelled; what is still open is taken to
    be missing at random within a stratum. `feedback`: by source. `notes`: what a reader must know to believe
    the numbers, in words. `predictions`, `labels`: what the numbers are made from, with the bin of each score.
    """

    route: str
    numbers: Quality
    rates: Rates
    review: ReviewProgress
    feedback: tuple[Feedback, ...]
    notes: tuple[str, ...]
    predictions: Predictions = field(compare=False, repr=False)
    labels: Labels = field(compare=False, repr=False)


def route_quality(
    reader: Reader, route: str, since_us: int | None = None, until_us: int | None = None, seed: int = 0
) -> RouteQuality:
    """One route's quality; a route without predictions has reasons instead of numbers.

    Args:
        since_us, until_us: the predictions' time, microseconds since 1970, widened to whole hours; None is open.
        seed: of the Monte Carlo intervals, so that the same ledger gives the same numbers.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    return route_qualities(reader, Window(since_us, until_us, route), seed)[route]


def route_qualities(reader: Reader, window: Window, seed: int = 0) -> dict[str, RouteQuality]:
    """Every route's quality that had predictions or labels in the window, by route; read at once.

    Holdout units and what people answered are left out: no model made those predictions. Raises as `route_quality`.
    """
    population = _came(reader, window)
    labels = label_counts(reader, window)
    reviews, apart = review_progress(reader, window), disagreements(reader, window)
    routes = {str(route) for route in (*np.unique(population.route), *np.unique(labels.route), *reviews)}
    if window.route is not None:
        routes.add(window.route)
    return {
        route: _one(route, population, labels, reviews, apart.get(route), np.random.default_rng(seed))
        for route in sorted(routes - {""})
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Came:
    """Predictions, as far as these numbers ask: `Population` over policies, backends and segments."""

    route: NDArray[np.str_]
    outcome: NDArray[np.int64]
    flagged: NDArray[np.int64]
    score_bin: NDArray[np.int64]
    pi: NDArray[np.float64]
    rows: NDArray[np.int64]


def _came(reader: Reader, window: Window) -> _Came:
    keys = ("route", "outcome", "flagged", "score_bin", "review_pi")
    found = reader.summed(schema.tally_scores, window, keys, ("rows",))
    columns = list(zip(*(row for row in found if row[-1] > 0), strict=True)) or [()] * 6
    integers = {at: np.array(columns[at], dtype=np.int64) for at in (1, 2, 3, 5)}
    return _Came(
        np.array(columns[0], dtype=np.str_),
        integers[1],
        integers[2],
        integers[3],
        np.array(columns[4], dtype=np.float64),
        integers[5],
    )


def _one(
    route: str,
    population: _Came,
    labels: LabelCounts,
    reviews: Mapping[str, ReviewProgress],
    apart: Disagreement | None,
    rng: np.random.Generator,
) -> RouteQuality:
    here = (population.route == route) & ~np.isin(population.outcome, UNPREDICTED)
    judged = here & (population.flagged >= 0)
    predictions = Predictions.of(
        population.flagged[judged] == 1,
        population.score_bin[judged],
        population.pi[judged],
        population.rows[judged],
    )
    sampled = (labels.route == route) & (labels.source == REVIEW) & (labels.flagged >= 0)
    known = Labels.of(
        labels.flagged[sampled] == 1,
        labels.score_bin[sampled],
        labels.pi[sampled],
        labels.positive[sampled],
        labels.count[sampled],
    )
    numbers = measure(predictions, known, rng)
    others = rates(predictions, known, rng, disagreement=apart)
    if apart is not None and apart.disagreed:
        numbers = _doubted(numbers, others)
    review = reviews.get(route, ReviewProgress(0, 0, 0, None))
    if not judged.any() and bool((population.rows[here] > 0).any()):
        numbers = _without_decisions(numbers)
    told = _feedback(route, labels), _notes(numbers, review)
    return RouteQuality(route, numbers, others, review, *told, predictions, known)


def _doubted(numbers: Quality, others: Rates) -> Quality:
    """With intervals that hold what the reviewers' own mistakes would do."""

    def wider(plain: Estimate, doubted: Estimate) -> Estimate:
        bounds = (plain.low, plain.high, doubted.low, doubted.high)
        if any(one is None for one in bounds):
            return plain
        low, high = (
            pick(one for one in pair if one is not None) for pick, pair in ((min, bounds), (max, bounds))
        )
        notes = "; ".join(note for note in (plain.note, doubted.note) if note)
        return replace(plain, low=low, high=high, note=notes or None)

    return replace(
        numbers,
        precision=wider(numbers.precision, others.precision),
        recall=wider(numbers.recall, others.recall),
        f1=wider(numbers.f1, others.f[1.0]),
    )


def _without_decisions(numbers: Quality) -> Quality:
    """Predictions came, but none is positive or negative by itself."""
    reason = (
        "predictions of this route are neither positive nor negative: "
        "set prediction.positive and prediction.threshold"
    )
    none = Estimate.unknown(reason, numbers.labels)
    return replace(numbers, precision=none, recall=none, f1=none, positives=None)


def _feedback(route: str, labels: LabelCounts) -> tuple[Feedback, ...]:
    here = (labels.route == route) & (labels.source != REVIEW)
    found = []
    for source in np.unique(labels.source[here]):
        of_source = here & (labels.source == source)
        positive = of_source & labels.positive
        flagged, unflagged = of_source & (labels.flagged == 1), of_source & (labels.flagged == 0)
        found.append(
            Feedback(
                source=str(source),
                labels=int(labels.count[of_source].sum()),
                confirmed=share(
                    int(labels.count[flagged & positive].sum()),
                    int(labels.count[flagged].sum()),
                    "no feedback on a flagged prediction",
                ),
                missed=share(
                    int(labels.count[unflagged & positive].sum()),
                    int(labels.count[unflagged].sum()),
                    "no feedback on an unflagged prediction",
                ),
            )
        )
    return tuple(found)


def _notes(numbers: Quality, review: ReviewProgress) -> tuple[str, ...]:
    notes = []
    if numbers.unreachable and numbers.unreachable < numbers.predictions:
        part = numbers.unreachable / numbers.predictions
        notes.append(
            f"{numbers.unreachable:,} of {numbers.predictions:,} predictions ({part:.1%}) "
            "could not be reviewed (probability 0); the numbers leave them out"
        )
    unlabelled = review.sampled - review.done
    if unlabelled and numbers.labels:
        notes.append(
            f"{unlabelled:,} of {review.sampled:,} sampled predictions have no label yet; "
            "within a stratum they are taken to be like those that have one (missing at random)"
        )
    return tuple(notes)
