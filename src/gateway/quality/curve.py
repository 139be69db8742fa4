"""The value curve: what 1,000 calls are worth at each threshold, and for each share of them that people handle.

value_curve     against the threshold
people_curve    against the floor of confidence below which people decide
Curve, Part     its points, and its plateaus, steps and slopes by name
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.quality.cuts import GRID, REACHED, Cuts
from gateway.quality.intervals import normal_quantile
from gateway.quality.measure import MINIMUM_LABELS
from gateway.quality.monte_carlo import positives
from gateway.quality.strata import Labels, Predictions, stratify
from gateway.quality.value import DRAWS, PER, Amount, Costs, Path, rising

__all__ = ["Curve", "Part", "people_curve", "value_curve"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FLAT: Final = 0.05
"""Of the curve's height (of its best point above the better one of its ends): what a plateau may vary within."""

SHORT: Final = 0.05
"""Of the threshold: a change over no more than this is a step, over more it is a slope."""

UNSEEN_SHARE: Final = 0.01
"""A side of the decision with no label may hold this share of the predictions; its rate is then anything."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a curve: `plateau`, `step` (within 0.05) or `slope`, from `start` to `end` of the cut.

    `change`, `low`, `high`: of the value per 1,000 calls from its start to its end. `shown`: whether the labels show
    that it changes at all.
    """

    kind: Literal["plateau", "step", "slope"]
    start: float
    end: float
    change: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def words(self) -> str:
        where = f"from {self.start:g} to {self.end:g}"
        if self.kind == "plateau":
            return f"plateau {where}: the value hardly changes"
        way = "rises" if self.change > 0 else "falls"
        sure = "" if self.shown else ", which may be chance"
        return f"{self.kind} {where}: the value {way} by {abs(self.change):.4g}{sure}"

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "kind": self.kind,
            "from": self.start,
            "to": self.end,
            "change": self.change,
            "low": self.low,
            "high": self.high,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Value per 1,000 calls along a cut.

    `along`: what the cut is: a `threshold`, or a `confidence_floor`. `cut`: shape (t,), rising. `share`: shape (t,), of
    the predictions: flagged from the threshold on, or handled by people. `value`: t amounts. `parts`: its plateaus,
    steps and slopes; none where fewer than two points have a value.
    """

    along: Literal["threshold", "confidence_floor"]
    cut: Floats
    share: Floats
    value: tuple[Amount, ...]
    parts: tuple[Part, ...]

    @property
    def best(self) -> int | None:
        """Where the value is highest by the labels; None without any."""
        known = [index for index, one in enumerate(self.value) if one.value is not None]
        return max(known, key=lambda index: self.value[index].value or 0.0, default=None)

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        points = zip(self.cut, self.share, self.value, strict=True)
        return {
            "along": self.along,
            "points": [
                {self.along: float(cut), "share": float(share), **value.as_dict()}
                for cut, share, value in points
            ],
            "best": None if self.best is None else float(self.cut[self.best]),
            "parts": [part.as_dict() for part in self.parts],
        }


def value_curve(
    predictions: Predictions,
    labels: Labels,
    costs: Costs,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    grid: ArrayLike = GRID,
    draws: int = DRAWS,
) -> Curve:
    """Value per 1,000 calls at each threshold, of the window's own predictions; its `share` is what is flagged.

    Args: as `gateway.quality.value.cost_optimal`; level: share of intervals that hold the truth, each point by itself.
    Intervals by Shared-Jeffreys Monte Carlo of the positives on either side, as for recall: few, dear misses have one
    also where none was found. A threshold of which a side cannot be reviewed (pi = 0), or has no label, has no value.
    """
    cuts = Cuts.of(predictions, labels, grid)
    none = np.zeros(len(cuts.predictions.score), dtype=np.bool_)
    none_of_labels = np.zeros(len(cuts.labels.score), dtype=np.bool_)
    values: list[Amount] = []
    start, before = rng.bit_generator.state, -1
    for threshold in cuts.grid:
        came, known = cuts.at(float(threshold))
        above = int(came.count[came.flagged].sum()) + int(known.count[known.flagged].sum())
        if above == before:
            values.append(values[-1])
            continue
        rng.bit_generator.state = start  # the same draws at every threshold: what differs is not chance
        values.append(_amount(came, known, none, none_of_labels, costs, rng, level, draws))
        before = above
    share = cuts.predicted() / max(int(cuts.predictions.count.sum()), 1)
    parts = _parts(cuts.grid, values, Path.of(cuts, rising(cuts.labels.positive, costs)), level)
    return Curve("threshold", cuts.grid, share, tuple(values), parts)


def people_curve(
    predictions: Predictions,
    labels: Labels,
    costs: Costs,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    grid: ArrayLike = GRID,
    draws: int = DRAWS,
) -> Curve:
    """Value per 1,000 calls where people decide what is less sure than a floor; its `share` is what they handle.

    Args: as `value_curve`, with the confidence in place of the score, and `flagged` as it was decided.
    People are taken to be right, for the cost of a review and of a right decision; their mistakes would lower it.
    """
    cuts = Cuts.of(predictions, labels, grid, decided=True)
    came, known = cuts.predictions, cuts.labels
    total, start = max(int(came.count.sum()), 1), rng.bit_generator.state
    values, shares = [], []
    for floor in cuts.grid:
        aside = came.score < floor
        rng.bit_generator.state = start
        values.append(_amount(came, known, aside, known.score < floor, costs, rng, level, draws))
        shares.append(float(came.count[aside].sum()) / total)
    worth = costs.decision(known.flagged, known.positive) - costs.person(known.positive)
    parts = _parts(cuts.grid, values, Path.of(cuts, worth), level)
    return Curve("confidence_floor", cuts.grid, np.array(shares), tuple(values), parts)


def _amount(
    came: Predictions,
    known: Labels,
    aside: Bools,
    aside_known: Bools,
    costs: Costs,
    rng: np.random.Generator,
    level: float,
    draws: int,
) -> Amount:
    """The value of one way to decide: flagged, not flagged, or put aside for people."""
    total, labels = int(came.count.sum()), int(known.count[known.pi > 0].sum())
    if not total:
        return Amount(None, None, None, labels, "there were no predictions")
    value = low = high = 0.0
    lows, highs = np.zeros(draws), np.zeros(draws)
    groups = (
        (~aside & came.flagged, ~aside_known & known.flagged, costs.true_positive, costs.false_positive),
        (~aside & ~came.flagged, ~aside_known & ~known.flagged, costs.false_negative, costs.true_negative),
        (aside, aside_known, costs.review + costs.true_positive, costs.review + costs.true_negative),
    )
    for cells, of_labels, yes, no in groups:
        count = int(came.count[cells].sum())
        spread = yes - no
        low, high, value = low + count * no, high + count * no, value + count * no
        if not count or spread == 0.0:
            continue
        could = int(came.count[cells & (came.pi > 0)].sum())
        if could < REACHED * count:
            return Amount(
                None, None, None, labels, "predictions on one side are never reviewed (probability 0)"
            )
        if not int(known.count[of_labels & (known.pi > 0)].sum()):
            if count > UNSEEN_SHARE * total:
                return Amount(None, None, None, labels, "no label on one side of the decision")
            value += 0.5 * count * spread
            lows, highs = lows + min(spread, 0.0) * count, highs + max(spread, 0.0) * count
            continue
        strata = stratify(_one_side(came, cells), _labels_of(known, of_labels))
        scale = count / max(int(strata.population.sum()), 1) * spread
        value += scale * float(strata.positives.sum())
        # The lowest cost goes with few positives where they cost more than the others.
        lows = lows + scale * positives(strata, rng, draws, upper=spread < 0)
        highs = highs + scale * positives(strata, rng, draws, upper=spread > 0)
    normal_quantile(level)
    tail = (1.0 - level) / 2.0
    least, most = low + float(np.quantile(lows, tail)), high + float(np.quantile(highs, 1.0 - tail))
    per = PER / total
    # Adding 0.0 makes a value of -0.0 plain.
    return Amount(-value * per + 0.0, -max(most, value) * per + 0.0, -min(least, value) * per + 0.0, labels)


def _one_side(came: Predictions, cells: Bools) -> Predictions:
    kept = Predictions(came.flagged[cells], came.score[cells], came.pi[cells], came.count[cells])
    return replace(kept, flagged=np.ones(len(kept.score), dtype=np.bool_))


def _labels_of(known: Labels, cells: Bools) -> Labels:
    score, pi, count = known.score[cells], known.pi[cells], known.count[cells]
    return Labels(np.ones(len(score), dtype=np.bool_), score, pi, count, known.positive[cells])


def _parts(cut: Floats, values: list[Amount], path: Path, level: float) -> tuple[Part, ...]:
    """Plateaus are the longest stretches that change by no more than `FLAT` of the height; between them it changes."""
    known = np.array([index for index, one in enumerate(values) if one.value is not None], dtype=np.int64)
    if len(known) < 2 or path.total <= 0:
        return ()
    value = np.array([values[index].value for index in known], dtype=np.float64)
    height = float(value.max()) - max(float(value[0]), float(value[-1]))
    room = FLAT * (height if height > 0 else float(value.max() - value.min()))
    edges: list[tuple[int, int, bool]] = []
    first = 0
    while first < len(known) - 1:
        last = _flat_until(value, first, room)
        flat = last - first >= 2 and cut[known[last]] - cut[known[first]] > SHORT
        last = last if flat else first + 1
        if edges and not flat and not edges[-1][2]:
            edges[-1] = (edges[-1][0], last, False)
        else:
            edges.append((first, last, flat))
        first = last
    found = []
    z = normal_quantile(level)
    for start, end, flat in edges:
        gain, error, between = path.between(int(known[start]))
        change, spread = PER * float(gain[known[end]]), PER * z * float(error[known[end]])
        if between[known[end]] < MINIMUM_LABELS:  # too few to show a change
            spread = max(spread, abs(change))
        begin, finish = float(cut[known[start]]), float(cut[known[end]])
        kind: Literal["plateau", "step", "slope"] = (
            "plateau" if flat else "step" if finish - begin <= SHORT + 1e-9 else "slope"
        )
        found.append(Part(kind, begin, finish, change, change - spread, change + spread))
    return tuple(found)


def _flat_until(value: Floats, first: int, room: float) -> int:
    """The last point up to which the curve stays within `room`."""
    rest = value[first:]
    inside = np.maximum.accumulate(rest) - np.minimum.accumulate(rest) <= room
    return first + (len(inside) if bool(inside.all()) else int(np.argmin(inside))) - 1
