"""Feedback that stops: somebody removed the button, an import failed, a segment's app no longer sends.

A metric without labels looks like one without faults, so silence must be found. Labels of a day are counts that spread
more than chance (weekends, one eager user): negative binomial, with a mean of the predictions served times the labels
that came for each in the reference, times the share that can have come by that age (`delay`). Each day is a likelihood
ratio of "a fall to so much" against "as before", and these are added up as evidence (`evidence`).

"As before" is taken low, and its spread high, by their 90 % limits from the reference: what is estimated wrong once is
wrong on every day to come.

Simulated (`tests/quality/test_starvation.py`; a reference of 14 days, a run length of 3,650 days at which 10 % of years
may have a false alarm, 200 repetitions): 1 % had one at the most. A source that stops is found in 1 day at 20 labels a
day that spread by chance alone, in 2 or 3 where weekends bring half and days differ besides, in 5 to 8 at 3 a day; a
fall to 40 % in 5 to 30 days. With a reference of 7 days that takes about half as long again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.intervals import normal_quantile

__all__ = ["FALLS", "LEAST_LABELS", "STARVED", "Flow", "fall_e_values", "make_flow"]

Floats = NDArray[np.float64]

FALLS: Final = (0.02, 0.25, 0.5)
"""Parts of what came before that a fall is reckoned to: a stray label or two after the end must not hide it."""

LEAST_LABELS: Final = 20
"""In the reference, before anything is expected of a source."""

STARVED: Final = 0.6
"""A source that gives less than this part of what is expected is starved; above it it has become quieter."""

MOST_DISPERSION: Final = 10.0
"""Of a day's variance beyond chance, over its mean squared: more than this is no flow that could fall."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How labels came in the reference.

    `rate`: labels a prediction served. `least_rate`: its lower 90 % limit. `dispersion`: variance beyond chance over
    the mean squared, its upper 90 % limit. `labels`, `days`: it rests on. `reason`: why nothing can be expected, None
    where it can.
    """

    rate: float
    least_rate: float
    dispersion: float
    labels: int
    days: int
    reason: str | None = None

    def expected(self, served: float, share: float = 1.0) -> float:
        """Labels of so many predictions, of which this share can have come."""
        return self.rate * served * share


def make_flow(served: ArrayLike, labels: ArrayLike, share: ArrayLike | None = None) -> Flow:
    """What is usual.

    Args: served: shape (D,), predictions a day. labels: shape (D,), of these predictions, so far. share: shape (D,), of
        all their labels, what can have come; 1 if absent.
    Raises: QualityError for unequal lengths or negative numbers.
    Source: negative binomial by moments: Lloyd-Smith 2007, PLoS ONE 2(2):e180; the limit of the dispersion is where
        Pearson's chi-squared meets its lower 10 % point.
    """
    from scipy.special import chdtri  # here, as scipy stays out of the serving process

    came, found = _days("served", served), _days("labels", labels)
    part = np.ones(len(came)) if share is None else _days("share", share)
    if not came.shape == found.shape == part.shape:
        raise QualityError(f"labels: found shape {found.shape}, wanted {came.shape} like served")
    exposed = came * part
    some = exposed > 0
    days, total = int(some.sum()), int(found.sum())
    if total < LEAST_LABELS:
        reason = f"{total} of the {LEAST_LABELS} labels that it takes at least to know what is usual"
        return Flow(0.0, 0.0, 0.0, total, days, reason)
    if days < 2:
        return Flow(0.0, 0.0, 0.0, total, days, "one day does not tell what is usual")
    rate = float(found[some].sum() / exposed[some].sum())
    mean, squared = rate * exposed[some], (found[some] - rate * exposed[some]) ** 2
    point = float(chdtri(days - 1, 0.9))
    low, high = 0.0, MOST_DISPERSION
    if float((squared / mean).sum()) > point:
        for _ in range(50):
            middle = 0.5 * (low + high)
            over = float((squared / (mean + middle * mean**2)).sum()) > point
            low, high = (middle, high) if over else (low, middle)
    else:
        high = 0.0
    deviation = sqrt(float((mean + high * mean**2).sum())) / float(exposed[some].sum())
    least = max(rate - normal_quantile(0.8) * deviation, 0.1 * rate)
    return Flow(rate, least, high, total, days)


def fall_e_values(flow: Flow, served: float, labels: float, share: float = 1.0) -> tuple[float, ...]:
    """The likelihood of a day after a fall to each of `FALLS`, over that of a day as before.

    Args: as a day of `make_flow`.
    Returns: one each; 1 where nothing could be expected. At most 1 on average while the rate is `least_rate` or more.
    Raises: QualityError for negative numbers.
    """
    if not (served >= 0 and labels >= 0 and 0 <= share <= 1):
        raise QualityError(
            f"found served {served}, labels {labels}, share {share}, wanted none below 0, share to 1"
        )
    mean = flow.least_rate * served * share
    if mean <= 0 or flow.reason is not None:
        return (1.0,) * len(FALLS)
    if flow.dispersion < 1e-6:
        return tuple(exp(min(labels * log(fall) + mean * (1.0 - fall), 300.0)) for fall in FALLS)
    size = 1.0 / flow.dispersion
    ratios = [(mean + size) / (fall * mean + size) for fall in FALLS]
    return tuple(
        exp(min(labels * (log(fall) + log(ratio)) + size * log(ratio), 300.0))
        for fall, ratio in zip(FALLS, ratios, strict=True)
    )


def _days(name: str, values: ArrayLike) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not bool(np.all(np.isfinite(column) & (column >= 0))):
        raise QualityError(
            f"{name}: found shape {column.shape} or a negative number, wanted one number a day"
        )
    return column
