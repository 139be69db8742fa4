"""How long until precision and recall are known to within so much: the report's own intervals, of labels to come.

What is expected after so many hours (predictions, reviews, positives among them) goes through `measure`, so that a plan
and the report that is made later can differ only by chance and by what was assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from gateway.errors import QualityError
from gateway.quality.measure import Quality, measure
from gateway.quality.strata import Labels, Predictions

__all__ = ["MOST_HOURS", "Milestone", "expected_quality", "milestones"]

MOST_HOURS: Final = 5 * 8760.0
"""What takes longer is not planned: the model will not be the same."""

STEP: Final = 1.2
"""Hours are looked at on a grid of this ratio: a milestone is right to a fifth."""

DRAWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Milestone:
    """When a number's interval is at most `within` to either side of its middle.

    `hours`, `reviews`: both None where that takes longer than `MOST_HOURS`.
    """

    metric: Literal["precision", "recall"]
    within: float
    hours: float | None
    reviews: int | None


def expected_quality(
    per_hour: ArrayLike,
    share: ArrayLike,
    rate: ArrayLike,
    flagged: ArrayLike,
    hours: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Quality:
    """What `measure` would say after so many hours.

    Args:
        per_hour: shape (h,), predictions an hour by stratum, lowest scores first on either side. share: shape (h,),
        probability of review. rate: shape (h,), share of positives. flagged: shape (h,).
    Raises: QualityError for hours that are not above zero, and as `Predictions.of`.
    """
    if not hours > 0:
        raise QualityError(f"hours: found {hours}, wanted more than 0")
    each, pi = np.asarray(per_hour, dtype=np.float64), np.asarray(share, dtype=np.float64)
    sides, yes = np.asarray(flagged, dtype=np.bool_), np.asarray(rate, dtype=np.float64)
    count = np.round(each * hours).astype(np.int64)
    labels = np.minimum(np.round(each * hours * pi).astype(np.int64), count)
    positive = np.minimum(np.round(each * hours * pi * yes).astype(np.int64), labels)
    score = np.arange(len(each), dtype=np.float64)
    known = Labels.of(
        np.tile(sides, 2),
        np.tile(score, 2),
        np.tile(pi, 2),
        np.repeat([True, False], len(each)),
        np.concatenate([positive, labels - positive]),
    )
    return measure(Predictions.of(sides, score, pi, count), known, rng, draws=draws)


def milestones(
    per_hour: ArrayLike,
    share: ArrayLike,
    rate: ArrayLike,
    flagged: ArrayLike,
    within: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Milestone, ...]:
    """The first time that each number is known to within each width, precision first.

    Args as `expected_quality`; within: half widths of 95 % intervals, in (0, 0.5). Raises: QualityError.
    """
    for width in within:
        if not 0 < width < 0.5:
            raise QualityError(
                f"within: found {width:g}, wanted a half width between 0 and 0.5, such as 0.05"
            )
    reviews = float((np.asarray(per_hour, dtype=np.float64) * np.asarray(share, dtype=np.float64)).sum())
    open_yet: dict[tuple[Literal["precision", "recall"], float], float | None] = {
        (metric, width): None for metric in ("precision", "recall") for width in within
    }
    hours = 0.25
    while hours <= MOST_HOURS and None in open_yet.values():
        quality = expected_quality(per_hour, share, rate, flagged, hours, rng)
        for (metric, width), when in open_yet.items():
            known = quality.precision if metric == "precision" else quality.recall
            if when is None and known.low is not None and known.high is not None:
                wide = (known.high - known.low) / 2.0
                # With none of the kind seen yet an interval may be narrow at an end by chance; it has labels enough.
                if wide <= width:
                    open_yet[metric, width] = hours
        hours *= STEP
    return tuple(
        Milestone(metric, width, when, None if when is None else round(reviews * when))
        for (metric, width), when in open_yet.items()
    )
