"""Rewards of arms with the probability of each draw: as rows, or added up in cells that can be added again.

A fleet's and a day's rewards are added, never averaged: a cell holds how many, their sum and the sum of their squares,
for one arm, propensity, probability of review and context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError

__all__ = ["RewardSums", "Rewards"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST: Final = 1e-9
"""A row of a smaller probability says nothing, whatever it says; its weight squared would pass what numbers hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Rewards:
    """Columns of shape (n,), one row per reward or per cell; made by `of` and `cells`.

    `arm`: 0 to `arms` - 1. `propensity`: the probability with which the arm was drawn, in (0, 1]. `pi`: with which the
    row was chosen for a label, in (0, 1]. `context`: any whole number, equal for rows that are alike but for the arm
    (the policy version, the segment). `count`, `total`, `squares`: rewards, their sum and the sum of their squares.
    `low`, `high`: the range of one reward. `left_out`: rows that had no finite reward in range, or no probability.
    """

    arms: int
    arm: Ints
    propensity: Floats
    pi: Floats
    context: Ints
    count: Ints
    total: Floats
    squares: Floats
    low: float = 0.0
    high: float = 1.0
    left_out: int = 0

    @classmethod
    def of(
        cls,
        reward: ArrayLike,
        propensity: ArrayLike,
        arm: ArrayLike,
        arms: int,
        *,
        pi: ArrayLike = 1.0,
        context: ArrayLike = 0,
        low: float = 0.0,
        high: float = 1.0,
    ) -> Rewards:
        """From rows: each of the first three (n,), or one number for all.

        Raises: QualityError for shapes that do not fit, arms outside 0..arms - 1, a range that is none.
        """
        r = np.asarray(reward, dtype=np.float64)
        good = np.isfinite(r)
        with np.errstate(invalid="ignore"):
            good &= (r >= low) & (r <= high)
        value = np.where(good, r, 0.0)
        return cls.cells(
            propensity,
            arm,
            arms,
            np.where(good, 1, 0),
            value,
            value**2,
            pi=pi,
            context=context,
            low=low,
            high=high,
            left_out=int((~good).sum()),
        )

    @classmethod
    def cells(
        cls,
        propensity: ArrayLike,
        arm: ArrayLike,
        arms: int,
        count: ArrayLike,
        total: ArrayLike,
        squares: ArrayLike,
        *,
        pi: ArrayLike = 1.0,
        context: ArrayLike = 0,
        low: float = 0.0,
        high: float = 1.0,
        left_out: int = 0,
    ) -> Rewards:
        """From sums over rows that share arm, propensity, pi and context; cells may repeat.

        Raises: QualityError as `of`.
        """
        if arms < 1:
            raise QualityError(f"arms: found {arms}, wanted at least one")
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise QualityError(
                f"range of rewards: found {low} to {high}, wanted two numbers, the lower first"
            )
        given = (propensity, arm, count, total, squares, pi, context)
        try:
            columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(column)) for column in given))
        except ValueError as error:
            shapes = ", ".join(str(np.shape(column)) for column in given)
            raise QualityError(f"columns: found shapes {shapes}, wanted one length") from error
        if columns[0].ndim != 1:
            raise QualityError(f"columns: found {columns[0].ndim} dimensions, wanted one")
        p, q = columns[0].astype(np.float64), columns[5].astype(np.float64)
        number, index = columns[2].astype(np.int64), columns[1].astype(np.int64)
        with np.errstate(invalid="ignore"):
            good = (p >= LEAST) & (p <= 1) & (q >= LEAST) & (q <= 1)
        left_out += int(number[~good].sum())
        good &= number > 0
        if bool(np.any((index[good] < 0) | (index[good] >= arms))):
            raise QualityError(f"arm: found one outside 0 to {arms - 1}")
        return cls(
            arms,
            index[good],
            p[good],
            q[good],
            columns[6][good].astype(np.int64),
            number[good],
            columns[3][good].astype(np.float64),
            columns[4][good].astype(np.float64),
            float(low),
            float(high),
            left_out,
        )

    def sums(self, column: Floats) -> Floats:
        """(n,) added up by arm: (arms,)."""
        return np.bincount(self.arm, column, self.arms).astype(np.float64)


_SUMS: Final = ("labels", "total", "squares", "w", "ww", "wr", "wwr", "wwrr")


@dataclass(frozen=True, slots=True, eq=False)
class RewardSums:
    """All that SNIPS asks of rewards, (arms,) each: sums that may be added by day and by machine, and kept.

    `labels`, `total`, `squares`: rewards, their sum, the sum of their squares. `w`, `ww`: sums of the weights and of
    their squares; `wr`, `wwr`, `wwrr`: with the reward and its square. `least`: the smallest propensity; 1 without a
    row. `low`, `high`: the range of one reward.
    """

    labels: Floats
    total: Floats
    squares: Floats
    w: Floats
    ww: Floats
    wr: Floats
    wwr: Floats
    wwrr: Floats
    least: Floats
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, rewards: Rewards) -> RewardSums:
        """From rows or cells."""
        weight = 1.0 / (rewards.propensity * rewards.pi)
        count = rewards.count.astype(np.float64)
        least = np.ones(rewards.arms)
        np.minimum.at(least, rewards.arm, rewards.propensity)
        columns = (
            count,
            rewards.total,
            rewards.squares,
            weight * count,
            weight**2 * count,
            weight * rewards.total,
            weight**2 * rewards.total,
            weight**2 * rewards.squares,
        )
        sums = {name: rewards.sums(column) for name, column in zip(_SUMS, columns, strict=True)}
        return cls(**sums, least=least, low=rewards.low, high=rewards.high)

    def __add__(self, other: RewardSums) -> RewardSums:
        """Raises: QualityError for other arms, or rewards of another range."""
        if len(self.w) != len(other.w) or (self.low, self.high) != (other.low, other.high):
            raise QualityError("sums: found rewards of other arms, or of another range")
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        return RewardSums(**sums, least=np.minimum(self.least, other.least), low=self.low, high=self.high)

    def kept(self) -> dict[str, list[float]]:
        """As plain numbers."""
        return {name: [float(value) for value in getattr(self, name)] for name in (*_SUMS, "least")}

    @classmethod
    def of_kept(cls, kept: Mapping[str, ArrayLike], low: float, high: float) -> RewardSums:
        """Raises: QualityError for what is not what `kept` made."""
        try:
            columns = [np.asarray(kept[name], dtype=np.float64) for name in (*_SUMS, "least")]
        except (KeyError, TypeError, ValueError) as error:
            raise QualityError(f"sums: found {sorted(kept)}, wanted {', '.join(_SUMS)}, least") from error
        if any(column.shape != columns[0].shape or column.ndim != 1 for column in columns):
            raise QualityError("sums: found columns of several lengths")
        if not all(bool(np.all(np.isfinite(column))) for column in columns):
            raise QualityError("sums: found a number that is not finite")
        return cls(**dict(zip((*_SUMS, "least"), columns, strict=True)), low=low, high=high)

    def yes_or_no(self, arm: int) -> bool:
        """Whether every reward of an arm is at one end of the range: only then does r (1 - r) say how they vary."""
        count, total, squares = self.labels[arm], self.total[arm], self.squares[arm]
        # (r - low) (high - r) is 0 at both ends and positive between them.
        between = (self.low + self.high) * total - squares - self.low * self.high * count
        return bool(between <= 1e-9 * max(count, 1.0) * (self.high - self.low) ** 2)

    def alike(self, arm: int) -> bool:
        """Whether all rewards of an arm are the same, which says nothing about how they vary."""
        count, total, squares = self.labels[arm], self.total[arm], self.squares[arm]
        if count == 0:
            return True
        return bool(squares - total / count * total <= 1e-9 * count * (self.high - self.low) ** 2)
