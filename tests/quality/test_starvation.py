"""Starvation: a source that stops is found in days, and weekends are no end."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import nbinom, poisson

from gateway.errors import QualityError
from gateway.quality.evidence import Evidence
from gateway.quality.intervals import wilson_interval
from gateway.quality.starvation import FALLS, Flow, fall_e_values, make_flow

LONG = os.environ.get("SIMULATE") == "long"
YEARS = 1000 if LONG else 60
ARL = 3650.0
REFERENCE = 14
SERVED = 1000.0


@dataclass(frozen=True)
class Source:
    """Labels a day, their spread beyond chance, what part of them weekends bring."""

    mean: float
    dispersion: float = 0.0
    weekend: float = 1.0


STEADY, USUAL, SELDOM = Source(20), Source(20, 0.05, 0.5), Source(3, 0.1, 0.5)


def labels(
    rng: np.random.Generator, source: Source, days: int, end: int | None, left: float
) -> NDArray[np.int64]:
    """Labels of each day; from day `end` on only the part `left`."""
    day = np.arange(days)
    mean = source.mean * np.where(day % 7 < 5, 1.0, source.weekend)
    if end is not None:
        mean = np.where(day >= end, mean * left, mean)
    if source.dispersion:
        mean = rng.gamma(1 / source.dispersion, np.maximum(mean, 1e-9) * source.dispersion)
    return np.asarray(rng.poisson(mean))


def first_alarm(
    rng: np.random.Generator, source: Source, days: int = 365, end: int | None = None, left: float = 0.0
) -> int | None:
    """Days from the end of the reference, or from that of the source, until it is found."""
    came = labels(rng, source, REFERENCE + days, None if end is None else REFERENCE + end, left)
    flow = make_flow(np.full(REFERENCE, SERVED), came[:REFERENCE])
    evidence = Evidence((0.0,) * len(FALLS))
    for at, found in enumerate(came[REFERENCE:]):
        evidence = evidence.after(at, *fall_e_values(flow, SERVED, float(found)))
        if evidence.level >= ARL:
            return at + 1 - (end or 0)
    return None


@pytest.mark.parametrize("source", [STEADY, USUAL, SELDOM], ids=["steady", "weekends", "seldom"])
def test_a_year_of_a_living_source_has_a_false_alarm_in_one_of_ten_at_the_most(source: Source) -> None:
    """Once in ten years, as the run length says."""
    rng = np.random.default_rng(20_291)
    alarms = sum(first_alarm(rng, source) is not None for _ in range(YEARS))
    assert wilson_interval(alarms, YEARS, 0.99)[0] < 0.1, alarms
    assert alarms <= YEARS // 8


@pytest.mark.parametrize(
    ("source", "within"), [(STEADY, 2), (USUAL, 3), (SELDOM, 10)], ids=["20", "weekends", "3"]
)
def test_a_source_that_stops_is_found_in_days(source: Source, within: int) -> None:
    """Half of them within so many days, after twenty good ones."""
    rng = np.random.default_rng(20_292)
    found = [first_alarm(rng, source, 80, end=20) for _ in range(YEARS)]
    assert all(at is not None for at in found)
    assert np.median([at for at in found if at is not None]) <= within


def test_a_source_that_falls_to_a_tenth_is_found_though_labels_still_come() -> None:
    """One app of ten still sends."""
    rng = np.random.default_rng(20_293)
    found = [first_alarm(rng, USUAL, 80, end=20, left=0.1) for _ in range(YEARS)]
    assert np.median([99 if at is None else at for at in found]) <= 6


def test_e_values_are_likelihood_ratios() -> None:
    """As scipy has the distributions, and one on average where nothing fell."""
    flow = Flow(0.03, 0.02, 0.1, 100, 14)
    size, mean = 10.0, 20.0
    for count in (0, 3, 25):
        before = nbinom.pmf(count, size, size / (size + mean))
        after = [nbinom.pmf(count, size, size / (size + fall * mean)) for fall in FALLS]
        assert fall_e_values(flow, 1000.0, count) == pytest.approx([one / before for one in after])
    chance = nbinom.pmf(np.arange(2000), size, size / (size + mean))
    for index in range(len(FALLS)):
        values = [fall_e_values(flow, 1000.0, count)[index] for count in range(2000)]
        assert float(np.dot(values, chance)) == pytest.approx(1.0)
    plain = Flow(0.03, 0.02, 0.0, 100, 14)
    ratio = poisson.pmf(3, FALLS[1] * mean) / poisson.pmf(3, mean)
    assert fall_e_values(plain, 1000.0, 3)[1] == pytest.approx(ratio)


def test_young_days_are_expected_to_have_less() -> None:
    """Labels that come within a week are not missing on the first day."""
    flow = make_flow([1000] * 14, [50, 45, 60, 52, 48, 50, 55, 47, 51, 53, 49, 50, 46, 54])
    assert flow.rate == pytest.approx(0.0507, abs=0.0001)
    assert flow.expected(1000, 0.2) == pytest.approx(10.1, abs=0.1)
    assert max(fall_e_values(flow, 1000, 10, 1.0)) > 1e6
    assert max(fall_e_values(flow, 1000, 10, 0.2)) < 1.0
    late = make_flow([1000] * 14, [10] * 14, [0.2] * 14)
    assert late.rate == pytest.approx(0.05)


def test_what_is_unusual_to_begin_with_cannot_stop() -> None:
    """Too few labels, one day, and no traffic: said, and never an alarm."""
    few = make_flow([1000] * 14, [1] * 14)
    assert few.reason == "14 of the 20 labels that it takes at least to know what is usual"
    assert fall_e_values(few, 1000, 0) == (1.0, 1.0, 1.0)
    assert make_flow([1000], [50]).reason == "one day does not tell what is usual"
    assert make_flow([], []).reason is not None
    good = make_flow([1000] * 5, [50] * 5)
    assert fall_e_values(good, 0, 0) == (1.0, 1.0, 1.0)
    assert fall_e_values(good, 1e12, 0)[0] <= np.exp(300) * 1.01


def test_nonsense_is_refused() -> None:
    """Counts below zero, and shares above one."""
    with pytest.raises(QualityError):
        make_flow([1.0], [1.0, 2.0])
    with pytest.raises(QualityError):
        make_flow([-1.0], [1.0])
    with pytest.raises(QualityError):
        fall_e_values(Flow(0.1, 0.1, 0.0, 50, 9), 10, -1)
    with pytest.raises(QualityError):
        fall_e_values(Flow(0.1, 0.1, 0.0, 50, 9), 10, 1, 1.5)
