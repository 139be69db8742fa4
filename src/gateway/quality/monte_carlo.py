"""Intervals of ratios of weighted counts, where some counts are small or zero.

Recall is TP / (TP + FN), and FN is the sum of few, heavily weighted labels, often of none. The delta method
and the bootstrap then give an interval of width zero; drawing each stratum's rate from its own distribution
does not, because a rate of which nothing was seen still has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.quality.intervals import normal_quantile
from gateway.quality.strata import Strata

__all__ = ["DRAWS", "Bounds", "cp_monte_carlo", "positives", "shared_jeffreys"]

DRAWS = 4000
"""The 2.5 % point of 4,000 draws is within 0.5 % of its rank, for 2 ms."""

Floats = NDArray[np.float64]


LEAST_PART = 0.01
"""Of the prior: a stratum that was nearly all looked at still has one."""


class Rates(Protocol):
    """Draws of a side's rates, shape (draws, h); `upper`: for a bound that large rates move."""

    def __call__(self, side: Strata, rng: np.random.Generator, draws: int, *, upper: bool) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """(low, high) of each ratio, fractions in [0, 1]; None where its denominator can be zero throughout."""

    precision: tuple[float, float] | None
    recall: tuple[float, float] | None
    f1: tuple[float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Positives on either side, one draw each, shape (draws,), with how many are flagged in all."""

    true_positive: Floats
    false_negative: Floats
    flagged: int


def shared_jeffreys(
    strata: Strata, rng: np.random.Generator, level: float = 0.95, draws: int = DRAWS
) -> Bounds:
    """Bounds of about the level, for showing.

    Per stratum, of n labels x positive: rate ~ Beta(x + s/2, n - x + s/2), with s the stratum's part of what is unseen
    on its side: the strata share one Jeffreys prior (one each would add half a false negative per stratum, times its
    weight). Then the positives among its unlabelled predictions ~ Binomial(unseen, rate). With unequal weights,
    effective counts stand for x and n.

    Beyond labels of a stratum that all agree the limit is drawn from Beta(s, n), or Beta(n, s): with the plain prior an
    interval holds the truth in only 88 % of windows where 2.5 missed positives are to be expected in the sample
    (computed for n = 100), and often none comes. Both by stratum, not by side: where what is near the threshold, or
    what a shadow contradicts, is reviewed more than the rest, its positives say nothing of the rest, which holds most
    of those missed (recall then held in 90-93 % of windows of the hardest population, now in 97 %).
    """
    return _both(_jeffreys, strata, rng, level, draws)


def cp_monte_carlo(
    strata: Strata, rng: np.random.Generator, level: float = 0.95, draws: int = DRAWS
) -> Bounds:
    """Wider bounds that hold the level, for whatever acts on them.

    The lower bounds draw flagged rates from Beta(x, n - x + 1) and unflagged ones from Beta(x + 1, n - x),
    the two distributions that Clopper and Pearson's limits are quantiles of; the upper bounds swap them.
    """
    return _both(_clopper, strata, rng, level, draws)


def positives(side: Strata, rng: np.random.Generator, draws: int, *, upper: bool) -> Floats:
    """Positives of strata on one side, those seen and those drawn by Shared-Jeffreys, shape (draws,).

    `upper`: for a bound that large rates move, else for one that small rates do. Without strata there are none.
    """
    found = np.full(draws, float(side.positive.sum()))
    if len(side.unseen):
        found += rng.binomial(side.unseen, _jeffreys(side, rng, draws, upper=upper)).sum(axis=1)
    return found


def _both(rates: Rates, strata: Strata, rng: np.random.Generator, level: float, draws: int) -> Bounds:
    """Every ratio grows with the flagged rates and falls with the unflagged ones."""
    low = _draw(strata, rng, draws, lambda side: rates(side, rng, draws, upper=not side.flagged[0]))
    high = _draw(strata, rng, draws, lambda side: rates(side, rng, draws, upper=bool(side.flagged[0])))
    return _bounds(low, high, level)


def _draw(strata: Strata, rng: np.random.Generator, draws: int, rates: Callable[[Strata], Floats]) -> _Draws:
    sides = []
    for flagged in (True, False):
        side = strata.side(flagged)
        positives = np.full(draws, float(side.positive.sum()))
        if len(side.unseen):
            positives += rng.binomial(side.unseen, rates(side)).sum(axis=1)
        sides.append(positives)
    return _Draws(sides[0], sides[1], int(strata.population[strata.flagged].sum()))


def _jeffreys(side: Strata, rng: np.random.Generator, draws: int, *, upper: bool) -> Floats:
    events = side.effective * side.rate
    others = side.effective - events
    # One prior for the side, divided by what is unseen: where probabilities of review differ, a stratum that is seldom
    # looked at has most of it, and a share by number would leave it hardly any.
    unseen = side.unseen.astype(np.float64)
    part = unseen / unseen.sum() if unseen.sum() > 0 else np.full(len(unseen), 1.0 / len(unseen))
    part = np.maximum(part, LEAST_PART)
    yes = no = 0.5 * part
    # Brown, Cai and DasGupta 2001, 4.1.1: the limit beyond labels that all agree is Clopper and Pearson's,
    # 3.7 events per n labels instead of 2.5.
    if upper:
        none = side.positive == 0
        yes, no = np.where(none, part, yes), np.where(none, 0.0, no)
    else:
        every = side.positive == side.labelled
        yes, no = np.where(every, 0.0, yes), np.where(every, part, no)
    tiny = 1e-9  # numpy refuses Beta(0, .)
    return rng.beta(np.maximum(events + yes, tiny), np.maximum(others + no, tiny), (draws, len(part)))


def _clopper(side: Strata, rng: np.random.Generator, draws: int, *, upper: bool) -> Floats:
    events = side.effective * side.rate
    others = side.effective - events
    shape = (draws, len(side.rate))
    # Beta(0, .) and Beta(., 0) stand for all mass at 0 and at 1; numpy refuses them.
    tiny = 1e-9
    if upper:
        return np.where(others > tiny, rng.beta(events + 1.0, np.maximum(others, tiny), shape), 1.0)
    return np.where(events > tiny, rng.beta(np.maximum(events, tiny), others + 1.0, shape), 0.0)


def _bounds(low: _Draws, high: _Draws, level: float) -> Bounds:
    normal_quantile(level)
    tail = (1.0 - level) / 2.0

    def ratio(name: str) -> tuple[float, float] | None:
        below, above = _ratio(low, name), _ratio(high, name)
        if below is None or above is None:
            return None
        return float(np.quantile(below, tail)), float(np.quantile(above, 1.0 - tail))

    return Bounds(ratio("precision"), ratio("recall"), ratio("f1"))


def _ratio(drawn: _Draws, name: str) -> Floats | None:
    """One ratio per draw; draws without a denominator say nothing and are left out."""
    positive = drawn.true_positive
    if name == "precision":
        over, under = positive, np.full(len(positive), float(drawn.flagged))
    elif name == "recall":
        over, under = positive, positive + drawn.false_negative
    else:
        over, under = 2.0 * positive, drawn.flagged + positive + drawn.false_negative
    some = under > 0
    return over[some] / under[some] if bool(some.any()) else None
