"""The fixed grids that tallies are kept on.

Fixed, so that counts of any two hours, policies or gateways add up exactly; a sketch library would merge no
better and would have to be the same version everywhere.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MOST_DIFFERENCE",
    "NO_SCORE",
    "OVERHEAD_BUCKETS",
    "SCORE_BINS",
    "hours",
    "overhead_bucket",
    "overhead_edges_us",
    "score_bin",
    "score_edges",
]

SCORE_BINS: Final = 1000
"""Bins of equal width over [0, 1]; the last one includes 1."""

NO_SCORE: Final = -1
"""The bin of a prediction without a score."""

MOST_DIFFERENCE: Final = 1e100
"""Scores that differ by more are counted as compared and not added up: one square that overflowed would make a sum
infinite for good.
"""

_STEPS_PER_OCTAVE: Final = 16
_OCTAVES: Final = 27

OVERHEAD_BUCKETS: Final = _STEPS_PER_OCTAVE * _OCTAVES + 2
"""One below 1 us, 16 an octave up to 2^27 us (134 s), one above: a quantile is right to 4.4 %."""

HOUR_US: Final = 3_600_000_000


def score_bin(score: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """The bin of each score, shape (n,); scores outside [0, 1] go to the nearest bin, NaN to `NO_SCORE`."""
    known = np.isfinite(score)
    # Cut off before it is multiplied: a sidecar may send any number there is.
    scaled = np.floor(np.clip(np.where(known, score, 0.0), 0.0, 1.0) * SCORE_BINS)
    bins: NDArray[np.int16] = np.where(known, np.minimum(scaled, SCORE_BINS - 1), NO_SCORE).astype(np.int16)
    return bins


def score_edges() -> NDArray[np.float64]:
    """The bins' edges, shape (SCORE_BINS + 1,)."""
    return np.linspace(0.0, 1.0, SCORE_BINS + 1)


def overhead_bucket(us: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """The bucket of each time in microseconds, shape (n,); what is not finite counts as the lowest."""
    safe = np.where(np.isfinite(us), np.maximum(us, 0.5), 0.5)
    steps = np.floor(np.log2(safe) * _STEPS_PER_OCTAVE) + 1
    buckets: NDArray[np.int16] = np.clip(steps, 0, OVERHEAD_BUCKETS - 1).astype(np.int16)
    return buckets


def overhead_edges_us() -> NDArray[np.float64]:
    """The buckets' edges in microseconds, shape (OVERHEAD_BUCKETS + 1,); the first is 0, the last infinite."""
    inner = 2.0 ** (np.arange(OVERHEAD_BUCKETS - 1) / _STEPS_PER_OCTAVE)
    return np.concatenate([[0.0], inner, [np.inf]])


def hours(time_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The whole hours since 1970, UTC, shape (n,)."""
    return np.asarray(time_us // HOUR_US, dtype=np.int64)
