"""How far reviewers agree beyond what chance alone would bring.

Kappa is (p_o - p_e) / (1 - p_e): the share of answers that agree, less the share that would if everybody drew labels by
their own (Cohen) or the common (Fleiss) frequencies. statsmodels and scikit-learn have both, as the tests' oracles.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from gateway.errors import QualityError
from gateway.quality.intervals import normal_quantile

__all__ = ["Agreement", "cohen_kappa", "fleiss_kappa"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement with its interval.

    `kind`: `cohen` or `fleiss`. `tasks`: how many it is from. `agree`: the share of pairs of answers that are equal.
    `kappa`, `low`, `high`: None where every answer is the same, as chance alone would then agree too; `low` and `high`
    also where a single task is all there is.
    """

    kind: str
    tasks: int
    agree: float
    kappa: float | None
    low: float | None
    high: float | None


def cohen_kappa(one: Ints, other: Ints, categories: int, level: float = 0.95) -> Agreement:
    """Agreement of two reviewers who both answered every task.

    Args:
        one, other: shape (n,), category numbers 0 to categories - 1.
        level: share of intervals that hold the truth, in large samples.
    Raises: QualityError, for no tasks, arrays of different shape, or a number that is no category.
    Source: Cohen 1960, Educ. Psychol. Meas. 20:37-46; variance: Fleiss, Cohen and Everitt 1969, Psychol. Bull. 72:323.
    """
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise QualityError(f"answers: found shapes {one.shape} and {other.shape}, wanted two of (n,), n > 0")
    both = np.concatenate([one, other])
    if both.min() < 0 or both.max() >= categories:
        raise QualityError(f"answers: found {both.min()} to {both.max()}, wanted 0 to {categories - 1}")
    n = len(one)
    table = np.zeros((categories, categories))
    np.add.at(table, (one, other), 1.0 / n)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, expected = float(np.trace(table)), float(rows @ columns)
    if expected >= 1.0 - 1e-12:
        return Agreement("cohen", n, observed, None, None, None)
    kappa = (observed - expected) / (1.0 - expected)
    diagonal = float(np.sum(np.diag(table) * (1.0 - (rows + columns) * (1.0 - kappa)) ** 2))
    off = table * (columns[:, None] + rows[None, :]) ** 2
    rest = float(off.sum() - np.trace(off)) * (1.0 - kappa) ** 2
    variance = (diagonal + rest - (kappa - expected * (1.0 - kappa)) ** 2) / (n * (1.0 - expected) ** 2)
    half = normal_quantile(level) * sqrt(max(variance, 0.0))
    return Agreement("cohen", n, observed, kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def fleiss_kappa(table: Ints, level: float = 0.95) -> Agreement:
    """Agreement of any reviewers, not always the same ones, of whom two or more answered each task.

    Args:
        table: shape (tasks, categories), how many said what; two answers a task at least, not always as many.
        level: share of intervals that hold the truth, in large samples; by the jackknife over tasks.
    Raises: QualityError, for no tasks, or one with fewer than two answers.
    Source: Fleiss 1971, Psychol. Bull. 76:378-382; jackknife: Efron and Stein 1981, Ann. Stat. 9:586-596.
    """
    if table.ndim != 2 or not table.size:
        raise QualityError(
            f"table: found shape {table.shape}, wanted (tasks, categories), one of each at least"
        )
    answers = table.sum(axis=1)
    if table.min() < 0 or answers.min() < 2:
        raise QualityError(f"table: found a task of {answers.min()} answers, wanted two at least")
    n = len(table)
    agree = (table * (table - 1)).sum(axis=1) / (answers * (answers - 1))
    whole = _fleiss(np.array([agree.sum()]), table.sum(axis=0, keepdims=True), n)[0]
    if not np.isfinite(whole):
        return Agreement("fleiss", n, float(agree.mean()), None, None, None)
    low = high = None
    if n > 1:
        without = _fleiss(agree.sum() - agree, table.sum(axis=0) - table, n - 1)
        # Left out, a task may be all that was not the same: chance would then agree on every other too.
        without = np.where(np.isfinite(without), without, 1.0)
        variance = (n - 1) / n * float(np.sum((without - without.mean()) ** 2))
        half = normal_quantile(level) * sqrt(variance)
        low, high = max(-1.0, float(whole) - half), min(1.0, float(whole) + half)
    return Agreement("fleiss", n, float(agree.mean()), float(whole), low, high)


def _fleiss(agree: Floats, totals: Ints, tasks: int) -> Floats:
    """Kappa from sums over tasks, shape (k,); NaN where chance agrees always. `totals`: shape (k, categories)."""
    shares = totals / totals.sum(axis=1, keepdims=True)
    expected = (shares**2).sum(axis=1)
    room = 1.0 - expected
    kappa: Floats = np.full(len(agree), np.nan)
    np.divide(agree / tasks - expected, room, out=kappa, where=room > 1e-12)
    return kappa
