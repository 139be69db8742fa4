"""A window's predictions and labels at one threshold after another.

Every score is put on the grid of thresholds that are asked about, once; what is flagged at each of them is then a sum
from the top, however many rows there were. A million labelled rows take 0.2 s, 33 bytes each while they are added up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.strata import Labels, Predictions

__all__ = ["GRID", "Cuts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_PROBABILITIES: Final = 256
"""Distinct probabilities of review that are kept apart; more of them are rounded to `PROBABILITY_STEP`."""

PROBABILITY_STEP: Final = 0.01
"""Of the logarithm: a weight is then wrong by half a percent at most."""

LOOKED_AT: Final = 4096
"""Rows that are looked at first for how many probabilities there are."""

REACHED: Final = 0.99
"""Least share of what is flagged (or is not) that could have been reviewed, for a rate of it to mean anything."""


def _grid() -> Floats:
    low = [*range(10), *range(10, 50, 5)]
    steps = [*low, *range(50, 950, 10), *(1000 - step for step in reversed(low)), 1000]
    return np.unique(np.array(steps, dtype=np.float64)) / 1000.0


GRID: Final[Floats] = _grid()
"""Thresholds that are tried, shape (t,), rising: every hundredth, and finer at both ends, where scores of a sure model
and of rare positives are. Fixed before any label is seen, which the guarantee needs; all on the ledger's bins.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Cells on a grid of thresholds.

    `grid`: shape (t,), rising. `predictions`, `labels`: cells whose score is the highest threshold that still flags
    them, -inf where none does (or where there is no score).
    """

    grid: Floats
    predictions: Predictions
    labels: Labels

    @classmethod
    def of(
        cls, predictions: Predictions, labels: Labels, grid: ArrayLike = GRID, *, decided: bool = False
    ) -> Cuts:
        """Put scores on a grid. What was flagged when the predictions were made is kept if `decided`, else forgotten.

        Raises: QualityError for a grid that is empty, not finite or does not rise.
        """
        steps = np.asarray(grid, dtype=np.float64)
        if steps.ndim != 1 or not len(steps) or not bool(np.all(np.isfinite(steps))):
            raise QualityError(
                f"grid: found shape {steps.shape}, wanted (t,) finite thresholds, one at least"
            )
        if bool(np.any(np.diff(steps) <= 0)):
            raise QualityError("grid: found thresholds that do not rise, wanted each above the one before")
        flagged, score, pi, count, _ = _cells(steps, predictions, decided, None)
        return cls(
            steps,
            Predictions(flagged, score, pi, count),
            Labels(*_cells(steps, labels, decided, labels.positive)),
        )

    def at(self, threshold: float) -> tuple[Predictions, Labels]:
        """The cells as that threshold flags them; it must be of the grid to be exact."""
        return (
            replace(self.predictions, flagged=self.predictions.score >= threshold),
            replace(self.labels, flagged=self.labels.score >= threshold),
        )

    def predicted(self) -> Ints:
        """Predictions flagged at each threshold, shape (t,)."""
        return self._from_top(self.predictions.score, self.predictions.count).astype(np.int64)

    def reached(self) -> Floats:
        """The share of them that could have been reviewed, shape (t,); 1 where nothing is flagged."""
        could = np.where(self.predictions.pi > 0, self.predictions.count, 0)
        every = self.predicted()
        share: Floats = self._from_top(self.predictions.score, could) / np.maximum(every, 1)
        return np.where(every > 0, share, 1.0)

    def labelled(self, weights: ArrayLike) -> Floats:
        """A sum over the labels flagged at each threshold, shape (t,); `weights`: shape (c,), one per cell."""
        return self._from_top(self.labels.score, np.asarray(weights, dtype=np.float64))

    def _from_top(self, score: Floats, weights: NDArray[np.generic]) -> Floats:
        place = np.searchsorted(self.grid, score, side="right") - 1
        inside = place >= 0
        sums = np.bincount(place[inside], weights=weights[inside], minlength=len(self.grid))
        return np.cumsum(sums[::-1])[::-1].astype(np.float64)


def _cells(
    grid: Floats, rows: Predictions | Labels, decided: bool, positive: Bools | None
) -> tuple[Bools, Floats, Floats, Ints, Bools]:
    """Flag, score on the grid, probability, count and truth of the cells that are not empty; pi = 0 stays a cell."""
    known = np.isfinite(rows.score)
    place = np.where(known, np.searchsorted(grid, np.where(known, rows.score, 0.0), side="right"), 0)
    chances, chance = _coded(rows.pi)
    key = place * len(chances) + chance
    for sort in (rows.flagged if decided else None, positive):
        key = key * 2 if sort is None else key * 2 + sort
    count = np.bincount(key, weights=rows.count, minlength=1)
    full = np.flatnonzero(count > 0)
    below = np.concatenate([[-np.inf], grid])
    return (
        (full // 2 % 2).astype(np.bool_),
        below[full // 4 // len(chances)],
        np.minimum(chances[full // 4 % len(chances)], 1.0),
        count[full].astype(np.int64),
        (full % 2).astype(np.bool_),
    )


def _coded(pi: Floats) -> tuple[Floats, Ints]:
    """The distinct probabilities, rising, and the number of each row's; rounded where there are too many of them.

    Sorting a million of them would take longer than all the rest, so that few are looked at first.
    """
    chances = np.unique(pi[:: max(len(pi) // LOOKED_AT, 1)]) if len(pi) else np.zeros(1)
    if len(chances) <= MOST_PROBABILITIES:
        chance = np.minimum(np.searchsorted(chances, pi), len(chances) - 1)
        other = chances[chance] != pi
        if not bool(other.any()):
            return chances, chance
        chances = np.union1d(chances, pi[other])
        if len(chances) <= MOST_PROBABILITIES:
            return chances, np.searchsorted(chances, pi)
    some = pi > 0
    step = np.round(np.log(np.where(some, pi, 1.0)) / PROBABILITY_STEP).astype(np.int64)
    lowest = int(step.min())
    # Code 0 is probability 0, which no rounding may come to.
    code = np.where(some, step - lowest + 1, 0)
    used = np.flatnonzero(np.bincount(code))
    rounded = np.where(used > 0, np.exp((used - 1 + lowest) * PROBABILITY_STEP), 0.0)
    return rounded, np.searchsorted(used, code)
