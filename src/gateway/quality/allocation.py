"""Whom to label when labels are few: a budget divided among strata.

In: how many predictions each stratum has, a guess of how many of them are positive, and what is to be known first. Out:
how many labels of each, as expectations. Strata never straddle the decision; where a budget's own strata do (what a
fallback answered is flagged or not), they are pools of such cells.

RMSE of recall with 200 labels of 20,000 predictions of which 1 % are positive, ten strata by score, 1,500 simulated
windows: proportional .215, by Neyman with a guess of the rates that is wrong by two either way .139, with the true
rates .129; with the floors below .159 and .155. Smaller ones in `tests/quality/test_allocation.py`.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError

__all__ = [
    "LOWEST_LEAST",
    "SIDE_LEAST",
    "STRATUM_LEAST",
    "Objective",
    "allocate",
    "guess",
    "neyman",
    "pool",
    "spreads",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Objective = Literal["both", "precision", "recall"]
"""What is to be known first."""

WEIGHTS: Final[dict[Objective, tuple[float, float]]] = {
    "both": (1.0, 1.0),
    "precision": (1.0, 0.0),
    "recall": (0.0, 1.0),
}
"""Of the variances of precision and of recall."""

SIDE_LEAST: Final[dict[Objective, tuple[float, float]]] = {
    "both": (0.35, 0.35),
    "precision": (0.35, 0.2),
    "recall": (0.2, 0.35),
}
"""Least parts of a budget for what is flagged, and for the rest: without the first there is no precision, without the
second no recall. Where both are wanted, the sum of variances alone would give recall nearly everything if positives are
rare.
"""

LOWEST_LEAST: Final = 0.3
"""Least part of what is spent on the unflagged for the stratum that scores lowest: positives that a model is sure are
none are found nowhere else.
"""

STRATUM_LEAST: Final = 0.25
"""Least part of an equal share for each stratum, however dull it looks: a rate is only known where it is looked at."""

TINY: Final = 1e-9
"""Of the largest spread: what a stratum without any has, so that it takes what the others cannot use. And what is less
than this part of all predictions is none.
"""


def guess(labels: ArrayLike, positive: ArrayLike, prior: ArrayLike, strength: float = 10.0) -> Floats:
    """Rates to plan by: what the labels say, pulled towards a prior guess that is worth `strength` labels.

    Args:
        labels, positive: shape (n,), counts so far; zero is allowed. prior: shape (n,), rates within (0, 1).
    Returns: rates, shape (n,), never 0 or 1: a stratum in which nothing was found yet is not known to hold nothing.
    Raises: QualityError for more positives than labels, or a prior outside (0, 1).
    Source: Cochran 1977, Sampling Techniques, 5.5: the optimum is flat, so that a guess wrong by two costs little.
    """
    seen, found, before = _column("labels", labels), _column("positive", positive), _column("prior", prior)
    if bool(np.any(found > seen)) or bool(np.any(found < 0)):
        raise QualityError("positive: found fewer than none or more than labels, wanted a part of them")
    if not bool(np.all((before > 0) & (before < 1))):
        raise QualityError("prior: found a rate outside (0, 1), wanted a guess such as 0.05")
    return (found + strength * before) / (seen + strength)


def spreads(size: ArrayLike, rate: ArrayLike, flagged: ArrayLike, objective: Objective = "both") -> Floats:
    """How much one label of each stratum tells: S_h of Neyman's n_h ~ N_h S_h.

    Args:
        size: shape (h,), predictions (or predictions a second). rate: shape (h,), share of positives in each.
        flagged: shape (h,), which side of the decision each lies on.
    Returns: shape (h,), up to a common factor. For precision sqrt(q(1-q)) where flagged and else 0; for recall
        (1-R) sqrt(q(1-q)) where flagged and R sqrt(q(1-q)) where not; for both what minimises the sum of the two
        variances.
    Source: Neyman 1934, JRSS 97:558; both at once: Cochran 1977, Sampling Techniques, 5A.4.
    """
    sizes, rates, sides = _column("size", size), _column("rate", rate), np.asarray(flagged, dtype=np.bool_)
    if not bool(np.all((rates >= 0) & (rates <= 1))):
        raise QualityError("rate: found one outside [0, 1], wanted the share of positives")
    of_precision, of_recall = WEIGHTS[objective]
    part = sizes / max(float(sizes.sum()), TINY)
    made = float(part[sides].sum())
    positives = float((part * rates).sum())
    recall = float((part * rates)[sides].sum()) / positives if positives > TINY else 0.5
    # Variance of P is sum (N_h/F)^2 q(1-q)/n_h over the flagged, that of R sum (c N_h/T)^2 q(1-q)/n_h with c below.
    of_sides = np.where(sides, of_precision / max(made, TINY), 0.0)
    share = of_recall * np.where(sides, 1.0 - recall, recall) / max(positives, TINY)
    spread: Floats = np.sqrt(rates * (1.0 - rates)) * np.hypot(of_sides, share)
    return spread


def pool(size: ArrayLike, spread: ArrayLike, group: ArrayLike, groups: int) -> tuple[Floats, Floats]:
    """Cells -> pools that are sampled with one probability each: their sizes and spreads, shape (groups,).

    A pool's variance is that of its cells, each with its own rate, so that its spread is their root mean square.
    """
    sizes, cells = _column("size", size), np.asarray(group, dtype=np.int64)
    total = np.bincount(cells, weights=sizes, minlength=groups).astype(np.float64)
    square = np.bincount(cells, weights=sizes * _column("spread", spread) ** 2, minlength=groups)
    return total, np.sqrt(square / np.where(total > 0, total, 1.0))


def neyman(
    size: ArrayLike, spread: ArrayLike, budget: float, least: ArrayLike = 0.0, most: ArrayLike | None = None
) -> Floats:
    """Divide a budget by n_h ~ N_h S_h within bounds.

    Args:
        size, spread: shape (h,). budget: labels. least: of each, shape (h,) or one number; scaled down where it adds up
        to more than the budget. most: of each; its size if absent.
    Returns: expected labels, shape (h,), that add up to the budget, or to what there is where that is less. What
        a stratum has no room for goes to the others in Neyman's proportion.
    """
    sizes, weight = _column("size", size), _column("spread", spread)
    if not budget >= 0:
        raise QualityError(f"budget: found {budget}, wanted a number of labels")
    room = sizes if most is None else np.minimum(np.broadcast_to(_array(most), sizes.shape), sizes)
    low = np.minimum(np.broadcast_to(_array(least), sizes.shape), room)
    budget = min(float(budget), float(room.sum()))
    if budget <= 0:
        return np.zeros(len(sizes))
    if low.sum() >= budget:
        return np.asarray(low * (budget / low.sum()), dtype=np.float64)
    top = float(weight.max())
    wanted = sizes * (np.maximum(weight / top, TINY) if top > 0 else 1.0)
    # The sum of clip(scale * wanted, low, room) grows with the scale, along straight lines between the scales at which
    # a stratum leaves its least or is full: find the piece, then the point on it.
    some = wanted > 0
    turns = np.unique(np.concatenate([low[some] / wanted[some], room[some] / wanted[some]]))
    sums = np.array([np.clip(turn * wanted, low, room).sum() for turn in turns])
    after = int(np.clip(np.searchsorted(sums, budget), 1, len(turns) - 1)) if len(turns) > 1 else 0
    scale = turns[after]
    if after and sums[after] > sums[after - 1]:
        way = (budget - sums[after - 1]) / (sums[after] - sums[after - 1])
        scale = turns[after - 1] + (turns[after] - turns[after - 1]) * way
    return np.asarray(np.clip(scale * wanted, low, room), dtype=np.float64)


def allocate(
    size: ArrayLike,
    spread: ArrayLike,
    flagged: ArrayLike,
    budget: float,
    *,
    lowest: int | None = None,
    objective: Objective = "both",
    start: ArrayLike | None = None,
    trust: float = 1.0,
) -> Floats:
    """Divide a review budget: Neyman's proportions, with floors that no guess may undercut.

    Args:
        size: shape (h,), predictions; strata without any get nothing. spread: shape (h,), from `spreads`. flagged:
        shape (h,). lowest: the stratum of the lowest scores. objective: decides the least part of either side.
        start: shape (h,), parts to begin with; equal ones if absent. trust: 0-1, how far to go from there to Neyman's.
    Returns: expected labels, shape (h,), that add up to the budget, or to all there is.
    """
    sizes, sides = _column("size", size), np.asarray(flagged, dtype=np.bool_)
    there = sizes > 0
    budget = min(float(budget), float(sizes.sum()))
    first = np.ones(len(sizes)) if start is None else _column("start", start)
    wanted = trust * neyman(sizes, spread, budget) + (1.0 - trust) * _by_weight(sizes, first, budget)
    wanted = np.maximum(wanted, np.minimum(STRATUM_LEAST * budget / max(int(there.sum()), 1) * there, sizes))
    # Each side its part, then within it; the least of one side is what the other may not take.
    least = SIDE_LEAST[objective]
    of_flagged = float(np.clip(_part(wanted, sides), least[0], 1.0 - least[1])) * budget
    rooms = float(sizes[sides].sum()), float(sizes[~sides].sum())
    of_flagged = min(max(of_flagged, budget - rooms[1]), rooms[0])
    given = np.zeros(len(sizes))
    for side, part in ((sides, of_flagged), (~sides, budget - of_flagged)):
        given += _by_weight(np.where(side, sizes, 0.0), np.where(side, wanted, 0.0), part)
    if lowest is None or sides[lowest]:
        return given
    rest = budget - of_flagged
    low = min(LOWEST_LEAST * rest, float(sizes[lowest]))
    if given[lowest] >= low:
        return given
    others = ~sides & (np.arange(len(sizes)) != lowest)
    given = np.where(others, given * ((rest - low) / (rest - given[lowest])), given)
    given[lowest] = low
    return given


def _by_weight(room: Floats, weight: Floats, budget: float) -> Floats:
    """Gives by weight, but to none more than it has room for; what is left over goes to the others."""
    per_prediction = np.where(room > 0, weight / np.where(room > 0, room, 1.0), 0.0)
    return neyman(room, per_prediction, budget)


def _part(values: Floats, where: Bools) -> float:
    total = float(values.sum())
    return float(values[where].sum()) / total if total > 0 else 0.0


def _array(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _column(name: str, values: ArrayLike) -> Floats:
    column = _array(values)
    if column.ndim != 1:
        raise QualityError(f"{name}: found shape {column.shape}, wanted one number a stratum")
    if not bool(np.all(np.isfinite(column))) or bool(np.any(column < 0)):
        raise QualityError(f"{name}: found a number that is negative or not finite, wanted 0 or more")
    return column
