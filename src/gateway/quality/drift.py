"""Traffic that is no longer what it was: a day's scores, or categories, against those of a reference.

Two questions, and both must be answered yes. Is it more than chance? A chi-squared test of each day, whose evidence is
added up (`evidence`). Is it large enough to matter? The population stability index (PSI) less its bias: of two samples
of one population a plain PSI is (B-1)(1/n + 1/m) on average, not 0.

Days differ by more than chance alone: weekends, campaigns, one user with a thousand calls. By how much more is learnt
from the days of the reference (Rao and Scott's dispersion), and chi-squared is divided by it: by the upper limit of
what it may be, as a dispersion taken too low is too low on every day to come.

Simulated (`tests/quality/test_drift.py`; ten bins, a reference of 7 days, 1,000 predictions a day, 200 repetitions of a
year; at a run length of 3,650 days 10 % may have a false alarm). Nothing changed: chi-squared alone 14 %, as here 1 %.
Days that differ by a PSI of .03 by themselves: chi-squared alone 100 %, as here 5.5 %. A shift of PSI .04 is always
found, half of the time within 3 days; a plain PSI above .1 finds it never, and fires on a fifth of days of no change
where there are 100 predictions a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError
from gateway.quality.intervals import normal_quantile

__all__ = [
    "LEAST_EXPECTED",
    "MATERIAL",
    "MOST_BINS",
    "Reference",
    "Shift",
    "compare",
    "equal_mass",
    "largest",
    "make_reference",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BINS: Final = 10
"""More find small changes later: a shift spreads over them, and each must be told from chance."""

LEAST_EXPECTED: Final = 5.0
"""Of a day's predictions in each bin, for chi-squared to be near its limit; a day of fewer is too thin to be tested."""

MATERIAL: Final = 0.02
"""Of a debiased PSI: what is less than this is no news, however certain. A share that goes from 10 to 15 % is .02; the
rule of thumb of credit scoring calls .1 a little and .25 much, but finds nothing of what stays below."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a day is compared with.

    `counts`: shape (B,). `dispersion`: the variance between its days over that of chance alone, 1 at the least; 1 where
    there was but one day. `most_dispersion`: the upper 90 % limit of that.
    """

    counts: Floats
    dispersion: float
    most_dispersion: float

    @property
    def total(self) -> float:
        return float(self.counts.sum())


@dataclass(frozen=True, slots=True)
class Shift:
    """One day, or some, against the reference.

    `n`, `m`: predictions of either. `p`: how likely chance alone brings as much; None where `reason` says why there is
    no test. `psi`, `low`, `high`: PSI less its bias with its interval; below 0 is less than chance brings. None as p.
    """

    n: float
    m: float
    p: float | None
    psi: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def material(self) -> bool:
        """Whether it is large enough to matter; whether it is more than chance is for the evidence to say."""
        return self.psi is not None and self.psi >= MATERIAL


def equal_mass(counts: ArrayLike, most: int = MOST_BINS) -> Ints:
    """Ordered cells -> bins of about equally many predictions.

    Args: counts: shape (c,), of the reference, in the order of the scores.
    Returns: the bin of each cell, shape (c,), rising from 0. A cell that holds more than a bin's part is one alone.
    """
    here = _column("counts", counts)
    total = float(here.sum())
    if total <= 0:
        return np.zeros(len(here), dtype=np.int64)
    middle = np.cumsum(here) - here / 2.0
    raw = np.minimum((middle * most / total).astype(np.int64), most - 1)
    raw = np.maximum.accumulate(raw)
    filled = raw[here > 0]
    # Cells that nothing fell into so far join the next bin that something did, else the last.
    place = np.searchsorted(np.unique(filled), raw, side="left")
    return np.minimum(place, len(np.unique(filled)) - 1).astype(np.int64)


def largest(counts: ArrayLike, most: int = MOST_BINS) -> Ints:
    """Categories without an order -> bins: the largest stand alone, the others together.

    Returns: the bin of each category, shape (c,). The last bin is for the others, and for those never seen before.
    """
    here = _column("counts", counts)
    order = np.argsort(-here, kind="stable")
    bins = np.full(len(here), min(most - 1, len(here)), dtype=np.int64)
    alone = order[: most - 1]
    bins[alone] = np.arange(len(alone))
    return bins


def make_reference(days: ArrayLike) -> Reference:
    """What later days are compared with.

    Args: days: shape (D, B), predictions of each day by bin; weighted ones count as many as their weights are worth.
    Raises: QualityError for negative counts, or nothing at all.
    Source: Rao and Scott 1981, JASA 76:221-230 (dividing by the dispersion); McCullagh and Nelder 1989, 4.5.
    """
    counts = np.asarray(days, dtype=np.float64)
    if counts.ndim != 2 or not counts.size or not bool(np.all(counts >= 0)) or not counts.sum() > 0:
        raise QualityError(
            f"days: found shape {counts.shape}, wanted (days, bins) of counts, one prediction at least"
        )
    pooled = counts.sum(axis=0)
    some, bins = counts.sum(axis=1) > 0, pooled > 0
    expected = counts[some].sum(axis=1, keepdims=True) * (pooled[bins] / pooled.sum())
    from scipy.special import chdtri  # here, as scipy stays out of the serving process

    freedom = (int(some.sum()) - 1) * (int(bins.sum()) - 1)
    if freedom <= 0:
        return Reference(pooled, 1.0, 1.0)
    squared = float(((counts[some][:, bins] - expected) ** 2 / expected).sum())
    return Reference(pooled, max(squared / freedom, 1.0), max(squared / float(chdtri(freedom, 0.9)), 1.0))


def compare(day: ArrayLike, reference: Reference, level: float = 0.95) -> Shift:
    """A day against the reference.

    Args: day: shape (B,), predictions by bin, all of them counted or all weighted as the reference.
    Returns: p by chi-squared of two samples over the most dispersion. PSI with half
        a prediction added to each bin, less (B-1)(1/n + 1/m) times the dispersion; interval by the delta method and the
        variance that PSI has by chance alone.
    Raises: QualityError for another shape, or negative counts.
    Source: PSI's bias and variance: Yurdakul and Naranjo 2020, Journal of Risk Model Validation 14(4).
    """
    here, there = _column("day", day), reference.counts
    if here.shape != there.shape:
        raise QualityError(f"day: found shape {here.shape}, wanted {there.shape} like the reference")
    n, m = float(here.sum()), reference.total
    used = (here + there) > 0
    bins = int(used.sum())
    if bins < 2:
        return Shift(
            n, m, None, None, None, None, "everything is of one kind, so that nothing can have moved"
        )
    if n < LEAST_EXPECTED * bins:
        reason = f"{n:,.0f} of the {LEAST_EXPECTED * bins:,.0f} predictions that it takes at least"
        return Shift(n, m, None, None, None, None, reason)
    here, there = here[used], there[used]
    p = _chance(here, there, reference)
    q, r = (here + 0.5) / (n + 0.5 * bins), (there + 0.5) / (m + 0.5 * bins)
    ratio = np.log(q / r)
    noise = reference.dispersion * (1.0 / n + 1.0 / m)
    value = float(((q - r) * ratio).sum()) - (bins - 1) * noise
    slope, back = ratio + 1.0 - r / q, -ratio + 1.0 - q / r
    variance = float((q * slope**2).sum() - (q * slope).sum() ** 2) / n
    variance += float((r * back**2).sum() - (r * back).sum() ** 2) / m
    spread = sqrt(max(variance, 0.0) * reference.dispersion + 2.0 * (bins - 1) * noise**2)
    half = normal_quantile(level) * spread
    return Shift(n, m, p, value, value - half, value + half)


def _chance(day: Floats, there: Floats, reference: Reference) -> float:
    from scipy.special import chdtrc

    n, m = float(day.sum()), float(there.sum())
    pooled = (day + there) / (n + m)
    squared = float(((day - n * pooled) ** 2 / (n * pooled) + (there - m * pooled) ** 2 / (m * pooled)).sum())
    return float(chdtrc(len(day) - 1, squared / reference.most_dispersion))


def _column(name: str, values: ArrayLike) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not len(column) or not bool(np.all(np.isfinite(column) & (column >= 0))):
        raise QualityError(
            f"{name}: found shape {column.shape} or a negative count, wanted counts of shape (n,)"
        )
    return column
