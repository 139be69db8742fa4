"""Drift: nothing is said of chance and of ordinary days, and what moved is found within days."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from gateway.errors import QualityError
from gateway.quality.drift import MATERIAL, Shift, compare, equal_mass, largest, make_reference
from gateway.quality.evidence import MOST, Evidence, e_value
from gateway.quality.intervals import wilson_interval

LONG = os.environ.get("SIMULATE") == "long"
YEARS = 400 if LONG else 30
ARL = 3650.0
BINS = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Traffic: predictions a day, by how much days differ beyond chance, and how far the scores move."""

    n: int = 1000
    differ: float = 0.0
    moved: float = 0.0


def days(rng: np.random.Generator, share: Floats, kind: Kind, count: int) -> NDArray[np.int64]:
    of_day = (
        rng.dirichlet(share / kind.differ, count)
        if kind.differ
        else np.broadcast_to(share, (count, len(share)))
    )
    return rng.multinomial(kind.n, of_day)


def first_alarm(rng: np.random.Generator, kind: Kind, most: int = 365) -> tuple[int | None, list[Shift]]:
    """A week of reference, then the day of the first alarm."""
    share = rng.dirichlet(np.full(BINS, 20.0))
    reference = make_reference(days(rng, share, kind, 7))
    moved = share * np.exp(np.linspace(-1, 1, BINS) * kind.moved)
    evidence, shifts = Evidence(), []
    for at, day in enumerate(days(rng, moved / moved.sum(), kind, most)):
        shifts.append(shift := compare(day, reference))
        assert shift.p is not None
        evidence = evidence.after(at, float(e_value(shift.p)))
        if evidence.level >= ARL and shift.material:
            return at + 1, shifts
    return None, shifts


@pytest.mark.parametrize("kind", [Kind(), Kind(n=100), Kind(differ=0.003)], ids=["plain", "few", "weekends"])
def test_a_year_without_drift_has_a_false_alarm_in_one_of_ten_at_the_most(kind: Kind) -> None:
    """That is what a run length of ten years promises."""
    rng = np.random.default_rng(20_281)
    alarms = sum(first_alarm(rng, kind)[0] is not None for _ in range(YEARS))
    assert wilson_interval(alarms, YEARS, 0.99)[0] < 0.1, alarms
    assert alarms <= YEARS // 5


def test_chance_alone_would_alarm_on_ordinary_days() -> None:
    """Without the dispersion of the reference's days, days that differ are drift every year."""
    rng = np.random.default_rng(20_282)
    kind, share = Kind(differ=0.003), np.full(BINS, 0.1)
    reference = make_reference(days(rng, share, kind, 7).sum(axis=0, keepdims=True))
    evidence = Evidence()
    for at, day in enumerate(days(rng, share, kind, 60)):
        p = compare(day, reference).p
        assert p is not None
        evidence = evidence.after(at, float(e_value(p)))
    assert evidence.level > 100 * ARL


def test_a_small_shift_is_found_within_days_where_a_plain_psi_finds_it_never() -> None:
    """PSI .04 at a thousand predictions a day."""
    rng = np.random.default_rng(20_283)
    found = [first_alarm(rng, Kind(moved=0.31), 60) for _ in range(YEARS)]
    at = [day for day, _ in found if day is not None]
    assert len(at) == YEARS
    assert np.median(at) <= 4
    psi = [shift.psi for _, shifts in found for shift in shifts if shift.psi is not None]
    assert np.mean(psi) == pytest.approx(0.0385, abs=0.005)
    assert np.mean(np.array(psi) > 0.1) < 0.02


def test_psi_less_its_bias_is_nought_on_average_where_nothing_moved() -> None:
    """A plain PSI of 100 predictions a day is .1 and more on a third of days of no change."""
    rng = np.random.default_rng(20_284)
    share = np.full(BINS, 0.1)
    reference = make_reference(rng.multinomial(700, share)[None, :])
    shifts = [compare(day, reference) for day in rng.multinomial(100, share, 1500)]
    values = np.array([shift.psi for shift in shifts])
    bias = (BINS - 1) * (1 / 100 + 1 / 700)
    assert abs(values.mean()) < 0.015
    assert np.mean(values + bias > 0.1) > 0.2
    assert np.mean(values > 0.1) < 0.1


def test_the_interval_of_psi_holds_what_it_is_of() -> None:
    """A shift of known size."""
    rng = np.random.default_rng(20_285)
    share = np.full(BINS, 0.1)
    moved = share * np.exp(np.linspace(-1, 1, BINS) * 0.5)
    moved /= moved.sum()
    truth = float(((moved - share) * np.log(moved / share)).sum())
    held = 0
    for _ in range(400):
        shift = compare(rng.multinomial(1500, moved), make_reference(rng.multinomial(7000, share)[None, :]))
        assert shift.low is not None
        assert shift.high is not None
        held += shift.low <= truth <= shift.high
    low, high = wilson_interval(held, 400, 0.99)
    assert low < 0.97
    assert high > 0.93


def test_p_is_that_of_scipy() -> None:
    """Two samples, one day of reference, so that chance alone is reckoned with."""
    day, there = np.array([30, 60, 10, 45]), np.array([300, 420, 120, 350])
    shift = compare(day, make_reference(there[None, :]))
    assert shift.p == pytest.approx(chi2_contingency([day, there], correction=False).pvalue, rel=1e-9)


def test_e_values_are_one_on_average_and_p_of_nought_is_no_infinity() -> None:
    """Calibrated, and finite."""
    p = (np.arange(200_000) + 0.5) / 200_000
    assert float(e_value(p).mean()) == pytest.approx(1.0, abs=0.01)
    evidence = Evidence().after(1, float(e_value(0.0))).after(2, float(e_value(0.0)))
    assert evidence.level == MOST


def test_evidence_names_the_first_day_of_the_change_and_survives_a_restart() -> None:
    """What was good before is not held against what comes."""
    evidence = Evidence()
    for day in range(100, 130):
        evidence = evidence.after(day, 1.4 if day % 2 else 0.6)  # some days are bad luck
    for day in range(130, 136):
        evidence = evidence.after(day, 8.0)
    assert evidence.since in (129, 130)
    assert evidence.level > ARL
    assert Evidence.of(evidence.as_dict(), 1) == evidence
    assert Evidence.of({"sums": [1.0]}, 1) is None
    assert Evidence.of({**evidence.as_dict(), "sums": [float("nan")]}, 1) is None
    with pytest.raises(QualityError, match="e-values"):
        evidence.after(1, float("nan"))


def test_bins_hold_about_equally_many_and_ties_stay_together() -> None:
    """A score that half of the traffic has is a bin alone."""
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 20, 1000)
    bins = equal_mass(counts)
    held = np.bincount(bins, weights=counts)
    assert len(held) == 10
    assert held.max() < 1.3 * held.min()
    counts[500] = counts.sum()
    bins = equal_mass(counts)
    held = np.bincount(bins, weights=counts)
    assert (np.diff(bins) >= 0).all()
    assert held.min() > 0
    assert bins[499] < bins[500]
    assert list(equal_mass(np.zeros(4))) == [0, 0, 0, 0]
    assert list(equal_mass([0, 0, 5, 0])) == [0, 0, 0, 0]


def test_rare_categories_stand_together_with_those_never_seen() -> None:
    """A thousand countries are ten bins."""
    bins = largest(np.arange(1000))
    assert bins[999] == 0
    assert bins[0] == 9
    assert bins.max() == 9
    assert list(largest([3, 9])) == [1, 0]


def test_what_cannot_be_tested_says_why() -> None:
    """Few predictions, and traffic of one kind."""
    reference = make_reference(np.full((7, 4), 100))
    few = compare([1, 2, 3, 4], reference)
    assert few.p is None
    assert few.reason == "10 of the 20 predictions that it takes at least"
    assert not few.material
    one = compare([50, 0], make_reference([[10, 0], [20, 0]]))
    assert "one kind" in str(one.reason)
    fresh = compare([500, 0, 0, 0, 0], make_reference([[500, 500, 0, 0, 0]]))
    assert fresh.psi is not None
    assert fresh.psi > MATERIAL


@pytest.mark.parametrize("counts", [[[]], [[-1.0, 2.0]], [[0.0, 0.0]], [1.0, 2.0], [[np.nan, 1.0]]])
def test_a_reference_of_nothing_is_refused(counts: list[list[float]]) -> None:
    """Nothing could be compared with it."""
    with pytest.raises(QualityError):
        make_reference(counts)


def test_a_day_of_another_shape_is_refused() -> None:
    """Its bins would be others."""
    with pytest.raises(QualityError, match="like the reference"):
        compare([1.0], make_reference([[5.0, 5.0]]))
    with pytest.raises(QualityError, match="day"):
        compare([1.0, -1.0], make_reference([[5.0, 5.0]]))
