"""How a route's review budget would be spent, and what it would teach by when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.autopilot.division import CELLS, NO_LABELS, PRIOR, Floats, divide
from gateway.ledger import Population
from gateway.ledger.grid import SCORE_BINS
from gateway.quality import Objective, guess
from gateway.quality.planning import Milestone, milestones
from gateway.types import UNPREDICTED, Outcome, Stratum

__all__ = ["Assumed", "Plan", "StratumPlan", "assumed_cells", "make_plan", "seen_cells"]

ORDER: Final = (Stratum.LOW, Stratum.NEAR, Stratum.FALLBACK, Stratum.DISAGREEMENT, Stratum.FLAGGED)
"""By rising score, as far as a stratum has one."""


@dataclass(frozen=True, slots=True)
class StratumPlan:
    """One stratum: what comes, what is reviewed, and the share of positives that is reckoned with."""

    stratum: str
    predictions_per_hour: float
    share: float
    reviews_per_hour: float
    positive_share: float
    labels: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One route. `guessed`: no label has been given yet, so that the shares of positives are guesses."""

    route: str
    per_hour: float
    objective: Objective
    guessed: bool
    strata: tuple[StratumPlan, ...]
    milestones: tuple[Milestone, ...]

    @property
    def reviews_per_hour(self) -> float:
        """Less than the budget where everything is reviewed and still too little comes."""
        return sum(one.reviews_per_hour for one in self.strata)

    @property
    def predictions_per_hour(self) -> float:
        return sum(one.predictions_per_hour for one in self.strata if one.stratum != "disagreement")

    def as_dict(self) -> dict[str, Any]:
        """As `gateway plan --json` prints it."""
        return {
            "per_hour": self.per_hour,
            "objective": self.objective,
            "guessed": self.guessed,
            "predictions_per_hour": round(self.predictions_per_hour, 3),
            "reviews_per_hour": round(self.reviews_per_hour, 3),
            "strata": {
                one.stratum: {
                    "predictions_per_hour": round(one.predictions_per_hour, 3),
                    "share": one.share,
                    "reviews_per_hour": round(one.reviews_per_hour, 3),
                    "positive_share": round(one.positive_share, 6),
                    "labels": one.labels,
                }
                for one in self.strata
            },
            "known_to_within": [
                {
                    "metric": one.metric,
                    "within": one.within,
                    "hours": None if one.hours is None else round(one.hours, 2),
                    "reviews": one.reviews,
                    "reason": None if one.hours is not None else "not within five years at this rate",
                }
                for one in self.milestones
            ],
        }


@dataclass(frozen=True, slots=True)
class Assumed:
    """Traffic that nobody has seen yet: predictions an hour, the share flagged, and how good the model may be."""

    per_hour: float
    flagged: float
    precision: float
    recall: float


def assumed_cells(assumed: Assumed) -> tuple[Floats, Floats]:
    """Predictions an hour by cell, and the share of positives in each, of traffic that is only assumed."""
    came, rate = np.zeros(CELLS), PRIOR.copy()
    came[Stratum.FLAGGED, 1] = assumed.per_hour * assumed.flagged
    came[Stratum.LOW, 0] = low = assumed.per_hour * (1.0 - assumed.flagged)
    found = came[Stratum.FLAGGED, 1] * assumed.precision
    rate[Stratum.FLAGGED, 1] = assumed.precision
    rate[Stratum.LOW, 0] = min(1.0, found * (1.0 - assumed.recall) / assumed.recall / low) if low > 0 else 0.0
    return came, rate


def seen_cells(population: Population, route: str, hours: float, policy: Mapping[str, Any] | None) -> Floats:
    """Predictions an hour by cell, from the tallies of so many hours.

    Args: policy: the route's part of the last policy, for its threshold and what is near it. Rows that a shadow
        contradicts are not told apart in the tallies: they stand with their score.
    """
    policy = policy or {}
    threshold = (policy.get("prediction") or {}).get("threshold")
    margin = (policy.get("review") or {}).get("near_margin")
    came = np.zeros(CELLS)
    here = (population.route == route) & ~np.isin(population.outcome, UNPREDICTED)
    flagged = population.flagged[here] == 1
    stratum = np.where(flagged, int(Stratum.FLAGGED), int(Stratum.LOW))
    if threshold is not None and margin is not None:
        near = ~flagged & ((population.score_bin[here] + 0.5) / SCORE_BINS >= threshold - margin)
        stratum[near & (population.flagged[here] == 0)] = int(Stratum.NEAR)
    fallback = np.isin(population.outcome[here], (Outcome.FALLBACK, Outcome.STATIC))
    stratum[fallback] = int(Stratum.FALLBACK)
    np.add.at(came, (stratum, flagged.astype(np.int64)), population.rows[here])
    return came / max(hours, 1.0)


def make_plan(
    route: str,
    came: Floats,
    per_hour: float,
    within: Sequence[float],
    *,
    objective: Objective = "both",
    labels: Floats = NO_LABELS,
    positive: Floats = NO_LABELS,
    rate: Floats | None = None,
    seed: int = 0,
) -> Plan:
    """Divide the budget as the autopilot would, and say what it teaches by when.

    Args:
        came: predictions an hour by cell. per_hour: the budget. within: half widths of the 95 % intervals. labels,
        positive: so far, by cell. rate: shares of positives by cell where they are assumed. seed: of the Monte Carlo
        intervals.
    """
    if rate is None:
        known, yes, reckoned = labels, positive, guess(labels.ravel(), positive.ravel(), PRIOR.ravel())
        reckoned = reckoned.reshape(CELLS)
    else:
        # What is assumed counts as if it had been learnt from many labels.
        known, yes, reckoned = np.full(CELLS, 1e4), 1e4 * rate, rate
    of = divide(per_hour / 3600, came / 3600, known, yes, objective)._asdict()
    share = np.array([of[one.text] for one in Stratum])
    order = [int(one) for one in ORDER]
    milestone = milestones(
        came[order].T.ravel(),
        np.tile(share[order], 2),
        reckoned[order].T.ravel(),
        np.repeat([False, True], len(order)),
        within,
        np.random.default_rng(seed),
    )
    strata = []
    for one in ORDER:
        total = float(came[one].sum())
        if total > 0:
            mean = float((came[one] * reckoned[one]).sum()) / total
            seen = int(labels[one].sum())
            strata.append(StratumPlan(one.text, total, float(share[one]), total * share[one], mean, seen))
    guessed = rate is None and not labels.any()
    return Plan(route, per_hour, objective, guessed, tuple(strata), milestone)
