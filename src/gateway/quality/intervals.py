"""Intervals of one rate from one simple random sample.

statsmodels has both; it costs 60 MB and a second to import, so it is the tests' oracle instead.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from gateway.errors import QualityError

__all__ = ["clopper_pearson_interval", "normal_quantile", "wilson_interval"]


def normal_quantile(level: float) -> float:
    """The two-sided normal quantile: 1.96 for a level of 0.95."""
    if not 0.0 < level < 1.0:
        raise QualityError(f"level: found {level}, wanted a share between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2.0)


def wilson_interval(
    events: float, trials: float, level: float = 0.95, population: float | None = None
) -> tuple[float, float]:
    """Bound a rate.

    Args:
        events, trials: counts; effective (non-integer) ones are allowed.
        level: share of intervals that hold the truth.
        population: size of the finite population that the trials were drawn from without replacement, if the
        rate of that very
            population is meant; the sample then counts for trials * (population - 1) / (population - trials).
    Returns: (low, high), fractions in [0, 1].
    Raises: QualityError for no trials, or events outside 0..trials.
    Source: Wilson 1927, JASA 22:209-212; finite population: Kish 1965, Survey Sampling, 2.2.
    """
    _check(events, trials)
    z2 = normal_quantile(level) ** 2
    rate = events / trials
    if population is not None:
        if population <= trials:
            return rate, rate  # everything was looked at
        trials *= (population - 1.0) / (population - trials)
    centre = (rate + z2 / (2.0 * trials)) / (1.0 + z2 / trials)
    half = sqrt(z2 * (rate * (1.0 - rate) / trials + z2 / (4.0 * trials * trials))) / (1.0 + z2 / trials)
    # At the ends the bound is the rate itself; the subtraction above would leave 1e-17.
    return (0.0 if events == 0 else max(centre - half, 0.0)), (
        1.0 if rate == 1.0 else min(centre + half, 1.0)
    )


def clopper_pearson_interval(events: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Bound a rate so that the level is never undercut.

    Args and errors as `wilson_interval`. Returns: (low, high), fractions in [0, 1].
    Source: Clopper and Pearson 1934, Biometrika 26:404-413.
    """
    from scipy.special import betaincinv  # here, as scipy stays out of the serving process

    _check(events, trials)
    normal_quantile(level)
    tail = (1.0 - level) / 2.0
    low = 0.0 if events <= 0 else float(betaincinv(events, trials - events + 1.0, tail))
    high = 1.0 if events >= trials else float(betaincinv(events + 1.0, trials - events, 1.0 - tail))
    return low, high


def _check(events: float, trials: float) -> None:
    if not trials > 0:
        raise QualityError(f"trials: found {trials}, wanted at least one")
    if not 0 <= events <= trials:
        raise QualityError(f"events: found {events}, wanted 0 to {trials}")
