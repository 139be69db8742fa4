"""One route's review budget, divided among the data plane's strata: its cells brought to `gateway.quality`, and back.

A cell is a stratum on one side of the decision, because what a fallback answered or a shadow contradicts is flagged or
not: arrays of shape (5, 2), by the numbers of `gateway.types.Stratum`, then 0 for not flagged (or neither) and 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gateway.quality import Objective, allocate, guess, neyman, pool, spreads
from gateway.runtime import FIRST_SHARES, ReviewShares
from gateway.types import Stratum

if TYPE_CHECKING:
    from gateway.ledger.review_budget import StratumLabels  # a sidecar has no ledger, and no room for one

__all__ = ["CELLS", "NO_LABELS", "PRIOR", "Floats", "divide", "expected", "labels_by_cell"]

Floats = NDArray[np.float64]

CELLS: Final = (len(Stratum), 2)

NO_LABELS: Final = np.zeros(CELLS)

PRIOR: Final[Floats] = np.array([[0.01, 0.5], [0.2, 0.7], [0.2, 0.5], [0.05, 0.6], [0.3, 0.5]])
"""Rates of positives by cell, before there is a label: rough, and soon outvoted."""

HALF_TRUST: Final = 50.0
"""So many labels of a route, and a division stands half way between the first one and Neyman's."""

START_FLAGGED: Final[dict[Objective, float]] = {"both": 0.5, "precision": 0.65, "recall": 0.35}
"""Part of the budget for what is flagged while nothing is known."""

START_REST: Final = {Stratum.LOW: 0.4, Stratum.NEAR: 0.3, Stratum.DISAGREEMENT: 0.2, Stratum.FALLBACK: 0.1}
"""Parts of the rest, of the strata that there is traffic of."""

SURGE_S: Final = 90.0
"""Were all of a route's traffic to fall into a stratum that is usually rare (an outage makes every answer a
fallback's), it may spend at most the budget of so many seconds a second until the next look at it, 10 s later.
"""

_GROUP: Final = np.repeat(np.arange(CELLS[0]), CELLS[1])
_FLAGGED_CELLS: Final = np.tile([False, True], CELLS[0])
_FLAGGED_STRATA: Final = np.arange(CELLS[0]) == Stratum.FLAGGED


def divide(
    per_second: float,
    rates: Floats,
    labels: Floats = NO_LABELS,
    positive: Floats = NO_LABELS,
    objective: Objective = "both",
) -> ReviewShares:
    """Shares that spend a budget.

    Args:
        per_second: reviews a second. rates: predictions a second by cell. labels, positive: so far, by cell.
        What disagrees counts in its own stratum and once more in that of its score, so that what is spent is a little
        less, never more.
    Returns: shares in [0, 1]. Of what has not come yet, the usual share; of what is rare, no more than an outage may
        spend.
    """
    rate = guess(labels.ravel(), positive.ravel(), PRIOR.ravel())
    total, spread = pool(
        rates.ravel(), spreads(rates.ravel(), rate, _FLAGGED_CELLS, objective), _GROUP, CELLS[0]
    )
    known = float(labels.sum())
    given = allocate(
        total,
        spread,
        _FLAGGED_STRATA,
        per_second,
        lowest=int(Stratum.LOW),
        objective=objective,
        start=_start(total, objective),
        trust=known / (known + HALF_TRUST),
    )
    each = np.divide(given, total, out=np.zeros_like(total), where=total > 0)
    most = _most(per_second, float(rates.sum()))
    given = neyman(total, each, per_second, most=most * total)  # what a rare one may not take, the others do
    shares = {}
    for stratum in Stratum:
        first = getattr(FIRST_SHARES, stratum.text)
        if total[stratum] > 0:
            shares[stratum.text] = min(1.0, float(given[stratum] / total[stratum]))
        else:
            shares[stratum.text] = 1.0 if stratum in (Stratum.FLAGGED, Stratum.LOW) else first
    return ReviewShares(**shares)


def labels_by_cell(labels: StratumLabels, route: str) -> tuple[Floats, Floats]:
    """Labels and positives of a route by cell, shape (5, 2) each."""
    here = (labels.route == route) & (labels.stratum >= 0) & (labels.stratum < CELLS[0])
    at = labels.stratum[here], labels.flagged[here]
    known, positive = np.zeros(CELLS), np.zeros(CELLS)
    np.add.at(known, at, labels.labels[here])
    np.add.at(positive, at, labels.positive[here])
    return known, positive


def expected(shares: ReviewShares, rates: Floats) -> float:
    """Reviews a second that shares come to."""
    of = shares._asdict()
    return float(sum(of[stratum.text] * rates[stratum].sum() for stratum in Stratum))


def _start(total: Floats, objective: Objective) -> Floats:
    parts = np.array([START_REST.get(stratum, 0.0) for stratum in Stratum]) * (total > 0)
    of_flagged = START_FLAGGED[objective]
    if parts.sum() > 0:
        parts *= (1.0 - of_flagged) / parts.sum()
    parts[Stratum.FLAGGED] = of_flagged
    return parts


def _most(per_second: float, rate: float) -> Floats:
    most = np.ones(CELLS[0])
    if rate > 0:
        usually_rare = (Stratum.NEAR, Stratum.FALLBACK, Stratum.DISAGREEMENT)
        most[[int(stratum) for stratum in usually_rare]] = SURGE_S * per_second / rate
    return np.minimum(most, 1.0)
