"""What a route's reviewed predictions say about its threshold: choices with a promise, value, calibration.

The ledger's columns are brought to `gateway.quality` here, for the command, the console and whoever else advises, so
that they never disagree. Scores are those of the ledger's bins (thousandths).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.ledger import Reader, Window, policies
from gateway.ledger.grid import NO_SCORE, SCORE_BINS
from gateway.ledger.labels import REVIEW
from gateway.ledger.report_input import label_counts
from gateway.quality import (
    GRID,
    Calibration,
    Choice,
    Costs,
    Curve,
    Cuts,
    Estimate,
    Labels,
    Move,
    Predictions,
    Recalibration,
    calibration,
    cost_optimal,
    guaranteed,
    people_curve,
    recalibrate,
    recall_first,
    value_curve,
)
from gateway.quality.measure import measure
from gateway.types import UNPREDICTED

__all__ = ["Advice", "Asked", "InForce", "Point", "Seen", "advise", "confidence", "in_force", "point", "seen"]

SURE: Final = 0.9
"""How sure a promise is, where nobody says."""

SEED: Final = 0
"""The same ledger gives the same numbers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be found out. `precision`, `recall`: of the promises; None for none. `sure`: of both, 0.5 to 1."""

    precision: float | None = None
    recall: float | None = None
    costs: Costs | None = None
    sure: float = SURE


@dataclass(frozen=True, slots=True)
class InForce:
    """What the policy in force says of a route. `mapped`: scores go through a table already."""

    version: int
    threshold: float
    floor: float | None
    mapped: bool


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What came to one route and what reviewers said of it; holdout and people's answers are left out."""

    predictions: Predictions
    labels: Labels


@dataclass(frozen=True, slots=True)
class Point:
    """What the window says of one threshold."""

    threshold: float
    flagged: float | None
    precision: Estimate
    recall: Estimate

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "threshold": self.threshold,
            "flagged_share": self.flagged,
            "precision": self.precision.as_dict(),
            "recall": self.recall.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """About one route's threshold. `today`: the one in force. Parts that were not asked for are None.

    `people`: the value curve by confidence, for routes whose classes are two: a score's confidence is then the larger
    of it and its complement. `table`: what would make scores probabilities, fitted on all of the window's labels.
    """

    route: str
    today: Point
    guaranteed: Choice | None
    recall_first: Choice | None
    cost_optimal: Move | None
    curve: Curve | None
    people: Curve | None
    calibration: Calibration
    table: Recalibration

    def choice(self, rule: str) -> Choice | None:
        """What a rule chose, by its name."""
        if rule == "cost_optimal":
            return None if self.cost_optimal is None else self.cost_optimal.choice
        return {"guaranteed": self.guaranteed, "recall_first": self.recall_first}[rule]

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        parts = {
            "guaranteed": self.guaranteed,
            "recall_first": self.recall_first,
            "cost_optimal": self.cost_optimal,
            "value_curve": self.curve,
            "people_curve": self.people,
        }
        return {
            "route": self.route,
            "today": self.today.as_dict(),
            **{name: None if part is None else part.as_dict() for name, part in parts.items()},
            "calibration": self.calibration.as_dict(),
            "recalibration": self.table.as_dict(),
        }


def seen(reader: Reader, window: Window) -> Seen:
    """One route's window. Raises: LedgerUnavailable when the ledger cannot be read now."""
    came, known = reader.population(window), label_counts(reader, window)
    predicted = ~np.isin(came.outcome, UNPREDICTED) & (came.flagged >= 0)
    reviewed = (known.source == REVIEW) & (known.flagged >= 0)
    return Seen(
        Predictions.of(
            came.flagged[predicted] == 1,
            _scores(came.score_bin[predicted]),
            came.pi[predicted],
            came.rows[predicted],
        ),
        Labels.of(
            known.flagged[reviewed] == 1,
            _scores(known.score_bin[reviewed]),
            known.pi[reviewed],
            known.positive[reviewed],
            known.count[reviewed],
        ),
    )


def in_force(reader: Reader, route: str) -> InForce | None:
    """As the newest policy of the ledger has it, what was learnt included; None where it has no such route.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    latest = reader.snapshot(policies.find)
    for one in () if latest is None else latest.document.get("routes", ()):
        if latest is not None and one.get("name") == route and one.get("prediction") is not None:
            floor = (one.get("confidence") or {}).get("floor")
            return InForce(
                latest.version,
                float(one["prediction"]["threshold"]),
                None if floor is None else float(floor),
                one.get("recalibration") is not None,
            )
    return None


def advise(route: str, known: Seen, today: float, asked: Asked, *, binary: bool) -> Advice:
    """All that the window says.

    Args:
        today: the threshold in force. binary: whether the route has two classes.
    Raises: QualityError for targets out of range.
    """
    came, labels = known.predictions, known.labels
    rng = np.random.default_rng(SEED)
    delta = 1.0 - asked.sure
    # On the ledger's grid: within a bin nothing is known of where a score lies.
    now = round(today * SCORE_BINS) / SCORE_BINS
    curve = people = move = None
    if asked.costs is not None:
        move = cost_optimal(came, labels, asked.costs, now, rng, delta=delta)
        curve = value_curve(came, labels, asked.costs, rng)
        if binary:
            sure = replace(came, score=confidence(came.score))
            sure_labels = replace(labels, score=confidence(labels.score))
            people = people_curve(sure, sure_labels, asked.costs, rng, grid=GRID[GRID >= 0.5])
    return Advice(
        route,
        point(known, now),
        None if asked.precision is None else guaranteed(came, labels, asked.precision, rng, delta=delta),
        None if asked.recall is None else recall_first(came, labels, asked.recall, rng, delta=delta),
        move,
        curve,
        people,
        calibration(labels),
        recalibrate(labels, rng),
    )


def point(known: Seen, threshold: float) -> Point:
    """What the window says of a threshold, whichever was in force when its predictions were made."""
    cuts = Cuts.of(known.predictions, known.labels, [threshold])
    numbers = measure(*cuts.at(threshold), np.random.default_rng(SEED))
    share = numbers.flagged / numbers.predictions if numbers.predictions else None
    return Point(threshold, share, numbers.precision, numbers.recall)


def _scores(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The lower end of each bin: a score is at least a threshold of the grid where its bin's end is."""
    return np.where(bins == NO_SCORE, np.nan, bins / SCORE_BINS)


def confidence(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The larger of the two probabilities, as `max_probability` has it, of the middles of the scores' bins."""
    middle = score + 0.5 / SCORE_BINS
    return np.maximum(middle, 1.0 - middle)
