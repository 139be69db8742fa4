"""A route's predictions and reviews as cells, and what they say of other thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.grid import SCORE_BINS
from gateway.ledger.quality import RouteQuality
from gateway.quality import Estimate, Labels, Predictions, measure

__all__ = ["Cells", "Threshold", "cells_of", "thresholds"]

DRAWS: Final = 400
"""For intervals of a plot: the 2.5 % point is within 2 % of its rank."""

THRESHOLDS: Final = tuple(np.arange(5, 100, 5) / 100)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """One route: what was predicted and what reviewers said, by score, side and probability."""

    predictions: Predictions
    labels: Labels


@dataclass(frozen=True, slots=True)
class Threshold:
    """Precision and recall, were all flagged whose score is `threshold` or more. `flagged`: share of predictions."""

    threshold: float
    flagged: float
    precision: Estimate
    recall: Estimate

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        return {
            "threshold": self.threshold,
            "flagged": self.flagged,
            "precision": self.precision.as_dict(),
            "recall": self.recall.as_dict(),
        }


def cells_of(quality: RouteQuality) -> Cells:
    """The report's own cells, with scores in place of their bins."""
    came, said = quality.predictions, quality.labels
    keys, count = _together([came.flagged, came.score, came.pi], came.count)
    predictions = Predictions.of(keys[0], _score(keys[1]), keys[2], count)
    known, labels = _together([said.flagged, said.score, said.pi, said.positive], said.count)
    return Cells(predictions, Labels.of(known[0], _score(known[1]), known[2], known[3], labels))


def thresholds(cells: Cells, rng: np.random.Generator) -> tuple[Threshold, ...]:
    """Precision and recall at other thresholds; none where nothing was scored or labelled."""
    predictions, labels = cells.predictions, cells.labels
    scored, known = predictions.score >= 0, labels.score >= 0
    total = int(predictions.count[scored].sum())
    if not total or not labels.count[known].sum():
        return ()
    found = []
    for cut in THRESHOLDS:
        above, above_known = predictions.score >= cut - 1e-9, labels.score >= cut - 1e-9
        numbers = measure(
            Predictions(
                above[scored], predictions.score[scored], predictions.pi[scored], predictions.count[scored]
            ),
            Labels(
                above_known[known],
                labels.score[known],
                labels.pi[known],
                labels.count[known],
                labels.positive[known],
            ),
            rng,
            draws=DRAWS,
        )
        part = float(predictions.count[scored & above].sum()) / total
        found.append(Threshold(float(cut), part, numbers.precision, numbers.recall))
    return tuple(found)


def _together(
    keys: Sequence[NDArray[Any]], count: NDArray[np.int64]
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Cells of equal keys added up: fewer to sort at each threshold."""
    if not len(count):
        return list(keys), count
    code = np.zeros(len(count), np.int64)
    for column in keys:
        values, index = np.unique(column, return_inverse=True)
        code = code * len(values) + index
        _, code = np.unique(code, return_inverse=True)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return [column[first] for column in keys], np.bincount(inverse, weights=count).astype(np.int64)


def _score(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of a bin; NaN where there was no score."""
    return np.where(cell >= 0, (cell + 0.5) / SCORE_BINS, np.nan)
