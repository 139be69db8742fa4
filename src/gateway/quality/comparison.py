"""Whether two answers differ by more than two answers of the same model do.

A model that is asked twice, or two servers of one model, may differ by themselves: rounding, batching, sampling, state.
What a candidate says otherwise counts only above that noise, as in Diffy, which compares primary and candidate, and
primary and secondary (its twin): there a difference counts where raw > noise, and both (raw - noise) / (raw + noise)
and (raw - noise) / requests pass a fixed threshold (twitter/diffy, `DifferencesFilterFactory`). Here the thresholds are
replaced by what is known: it counts where the lower limit of raw less noise is above zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

from gateway.errors import QualityError
from gateway.quality.intervals import normal_quantile, wilson_interval

__all__ = ["MINIMUM_COMPARED", "Differences", "Excess", "mean_excess", "share_excess"]

MINIMUM_COMPARED: Final = 30
"""On each side, before anything is said about what is above the noise."""


@dataclass(frozen=True, slots=True)
class Excess:
    """What is left of a difference once the noise is taken off it, or the reason why that cannot be said.

    `value`, `low`, `high`: the difference less the noise; all three or none. `compared`, `noise`: comparisons on either
    side. `counts`: whether it is above the noise; None where that cannot be said. `reason`: why not; None where it can.
    """

    value: float | None
    low: float | None
    high: float | None
    compared: int
    noise: int
    counts: bool | None
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "compared": self.compared,
            "noise_compared": self.noise,
            "counts": self.counts,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences of scores as sums: how many, and the sums of their sizes and squares."""

    count: int
    sum_absolute: float
    sum_squared: float

    @property
    def mean(self) -> float:
        return self.sum_absolute / self.count

    @property
    def variance_of_mean(self) -> float:
        spread = max(self.sum_squared / self.count - self.mean**2, 0.0)
        return spread / max(self.count - 1, 1)


def share_excess(
    events: int, trials: int, noise_events: int, noise_trials: int, level: float = 0.95
) -> Excess:
    """The share that disagrees, less the share that disagrees with a twin.

    The interval is for independent samples. Both are of the same calls where they overlap, and an odd answer of the
    primary's makes both disagree: the true interval is narrower then, so that a difference is never counted too easily.

    Raises: QualityError for more events than trials.
    Source: Newcombe 1998, Statistics in Medicine 17:873-890, method 10 (Wilson limits squared and added).
    """
    short = _too_few(trials, noise_trials)
    if short is not None:
        return Excess(None, None, None, trials, noise_trials, None, short)
    (low, high), (noise_low, noise_high) = (
        wilson_interval(events, trials, level),
        wilson_interval(noise_events, noise_trials, level),
    )
    rate, noise = events / trials, noise_events / noise_trials
    value = rate - noise
    least = value - sqrt((rate - low) ** 2 + (noise_high - noise) ** 2)
    most = value + sqrt((high - rate) ** 2 + (noise - noise_low) ** 2)
    return Excess(value, max(least, -1.0), min(most, 1.0), trials, noise_trials, least > 0.0)


def mean_excess(found: Differences, noise: Differences, level: float = 0.95) -> Excess:
    """The mean size of the differences of scores, less that between twins; the interval is Welch's, by the normal.

    Raises: QualityError for sums that no differences have.
    """
    short = _too_few(found.count, noise.count)
    if short is not None:
        return Excess(None, None, None, found.count, noise.count, None, short)
    if min(found.sum_squared, noise.sum_squared) < 0:
        raise QualityError("sum_squared: found a negative one")
    value = found.mean - noise.mean
    half = normal_quantile(level) * sqrt(found.variance_of_mean + noise.variance_of_mean)
    return Excess(value, value - half, value + half, found.count, noise.count, value - half > 0.0)


def _too_few(trials: int, noise_trials: int) -> str | None:
    for count, what in (
        (trials, "answers compared"),
        (noise_trials, "answers of the primary's twin compared"),
    ):
        if count < MINIMUM_COMPARED:
            return f"{count} of the {MINIMUM_COMPARED} {what} that it takes at least"
    return None
