"""A route's predictions and reviews as cells, and what they say of other thresholds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.ledger import Reader, Window, schema
from gateway.ledger.grid import SCORE_BINS
from gateway.ledger.labels import REVIEW
from gateway.quality import Estimate, Labels, Predictions, measure
from gateway.types import UNPREDICTED

__all__ = ["Cells", "Threshold", "read_cells", "thresholds"]

DRAWS: Final = 1000
"""For intervals of parts: the 2.5 % point is within 1 % of its rank."""

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


Rows = list[tuple[Any, ...]]


def read_cells(reader: Reader, window: Window) -> dict[str, Cells]:
    """By route, what was predicted and what reviewers said of it; without the holdout and what people answered.

    Raises: LedgerUnavailable.
    """
    keys = ("route", "outcome", "flagged", "score_bin", "review_pi")
    came: dict[str, Rows] = defaultdict(list)
    for route, outcome, flagged, cell, pi, rows in reader.summed(
        schema.tally_scores, window, keys, ("rows",)
    ):
        if route and rows > 0 and flagged >= 0 and outcome not in UNPREDICTED:
            came[route].append((flagged, cell, pi, int(rows)))
    said: dict[str, Rows] = defaultdict(list)
    wanted = (*keys, "source", "sampled", "positive")
    for route, outcome, flagged, cell, pi, source, sampled, positive, labels in reader.summed(
        schema.tally_labels, window, wanted
    ):
        usable = source == REVIEW and sampled and positive >= 0 and flagged >= 0
        if usable and labels > 0 and outcome not in UNPREDICTED:
            said[route].append((flagged, cell, pi, int(labels), positive))
    return {route: _cells(came[route], said.get(route, [])) for route in came}


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


def _cells(came: Rows, said: Rows) -> Cells:
    return Cells(_predictions(_table(came, 4)), _labels(_table(said, 5)))


def _table(rows: Rows, width: int) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _predictions(table: NDArray[np.float64]) -> Predictions:
    keys, count = _together(table[:, :3], table[:, 3])
    return Predictions.of(keys[:, 0] == 1, _score(keys[:, 1]), keys[:, 2], count)


def _labels(table: NDArray[np.float64]) -> Labels:
    keys, count = _together(table[:, [0, 1, 2, 4]], table[:, 3])
    return Labels.of(keys[:, 0] == 1, _score(keys[:, 1]), keys[:, 2], keys[:, 3] == 1, count)


def _together(
    keys: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cells of equal keys added up: fewer to sort at each threshold."""
    if not len(keys):
        return keys, count.astype(np.int64)
    code = np.zeros(len(keys), np.int64)
    for column in keys.T:
        values, index = np.unique(column, return_inverse=True)
        code = code * len(values) + index
        _, code = np.unique(code, return_inverse=True)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return keys[first], np.bincount(inverse, weights=count).astype(np.int64)


def _score(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of a bin; NaN where there was no score."""
    return np.where(cell >= 0, (cell + 0.5) / SCORE_BINS, np.nan)
