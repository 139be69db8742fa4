"""Batches as the data plane hands them over, made of counts; and a clock that tests move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.autopilot.division import CELLS
from gateway.runtime import Batch, PolicyNames
from gateway.types import Stratum

NAMES = {1: PolicyNames(routes=("spam",), backends=("m",), rules=((),))}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def records(
    stratum: NDArray[np.integer], pi: NDArray[np.floating] | float, policy: int = 1
) -> dict[str, NDArray]:
    """One prediction each; flagged where its stratum is."""
    rows = len(stratum)
    return {
        "policy": np.full(rows, policy, np.uint32),
        "route": np.zeros(rows, np.uint16),
        "row": np.zeros(rows, np.uint32),
        "segment": np.zeros(rows, np.uint32),
        "stratum": stratum.astype(np.uint8),
        "flagged": (stratum == Stratum.FLAGGED).astype(np.uint8),
        "review_pi": np.broadcast_to(np.asarray(pi, np.float32), (rows,)),
    }


def made(columns: dict[str, NDArray], segment: str = "") -> Batch:
    return Batch(
        records=columns, attempts={}, mirrors={}, strings=(segment,), captures=(), names=NAMES, raises={}
    )


def batch(unflagged: int, flagged: int, policy: int = 1, segment: str = "", pi: float = 0.0) -> Batch:
    """Low scores and flagged ones."""
    return made(records(np.repeat(np.array([0, 1]), [unflagged, flagged]), pi, policy), segment)


def by_stratum(
    flagged: float = 0.0,
    low: float = 0.0,
    near: float = 0.0,
    fallback: float = 0.0,
    disagreement: float = 0.0,
) -> NDArray[np.float64]:
    """Predictions a second by cell, in the order of the shares; a fallback's are flagged one in ten."""
    cells = np.zeros(CELLS)
    cells[Stratum.FLAGGED, 1], cells[Stratum.LOW, 0], cells[Stratum.NEAR, 0] = flagged, low, near
    cells[Stratum.FALLBACK] = 0.9 * fallback, 0.1 * fallback
    cells[Stratum.DISAGREEMENT, 0] = disagreement
    return cells
