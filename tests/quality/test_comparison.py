"""A difference counts only above the noise: known cases, an oracle, and what the interval holds."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.quality import Differences, mean_excess, share_excess

ROUNDS = 2000


def test_the_interval_is_newcombes() -> None:
    """Method 10, by the example of the paper's table II: 56/70 and 48/80."""
    found = share_excess(56, 70, 48, 80)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert found.counts is True


def test_as_much_as_the_noise_does_not_count() -> None:
    """A model that differs from its own twin as often as from the candidate says nothing of the candidate."""
    assert share_excess(50, 1000, 50, 1000).counts is False
    assert share_excess(90, 1000, 20, 1000).counts is True
    assert share_excess(20, 1000, 90, 1000).counts is False


@pytest.mark.parametrize(("trials", "noise"), [(29, 100), (100, 29), (0, 0)])
def test_too_few_comparisons_give_no_number_and_say_so(trials: int, noise: int) -> None:
    """No verdict from too little data."""
    for found in (
        share_excess(0, trials, 0, noise),
        mean_excess(Differences(trials, 0.0, 0.0), Differences(noise, 0.0, 0.0)),
    ):
        assert (found.value, found.low, found.high, found.counts) == (None, None, None, None)
        assert "of the 30" in (found.reason or "")


def differences(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Differences:
    return Differences(len(values), float(np.abs(values).sum()), float((values**2).sum()))


def test_scores_that_differ_by_noise_alone_seldom_count() -> None:
    """One-sided at 2.5 %, with three standard errors of the simulation."""
    rng = np.random.default_rng(7)
    false_alarms = held = 0
    for _ in range(ROUNDS):
        one, twin = rng.normal(0, 0.05, 200), rng.normal(0, 0.05, 60)
        found = mean_excess(differences(one), differences(twin))
        false_alarms += bool(found.counts)
        other = mean_excess(differences(rng.normal(0, 0.10, 200)), differences(twin))
        assert other.low is not None
        assert other.high is not None
        held += other.low <= 0.05 * np.sqrt(2 / np.pi) <= other.high
    assert false_alarms / ROUNDS < 0.025 + 3 * np.sqrt(0.025 * 0.975 / ROUNDS)
    assert held / ROUNDS > 0.95 - 3 * np.sqrt(0.95 * 0.05 / ROUNDS)


def test_labels_that_differ_by_noise_alone_seldom_count() -> None:
    """Also where both are of the same calls, and an odd answer of the primary's makes both disagree."""
    rng = np.random.default_rng(8)
    independent = shared = found = 0
    for _ in range(ROUNDS):
        raw, noise = rng.binomial(500, 0.04), rng.binomial(100, 0.04)
        independent += bool(share_excess(int(raw), 500, int(noise), 100).counts)
        odd = rng.random(500) < 0.03
        candidate, twin = odd | (rng.random(500) < 0.01), odd[:100] | (rng.random(100) < 0.01)
        shared += bool(share_excess(int(candidate.sum()), 500, int(twin.sum()), 100).counts)
        worse = odd | (rng.random(500) < 0.15)
        found += bool(share_excess(int(worse.sum()), 500, int(twin.sum()), 100).counts)
    limit = 0.025 + 3 * np.sqrt(0.025 * 0.975 / ROUNDS)
    assert independent / ROUNDS < limit
    assert shared / ROUNDS < limit
    assert found / ROUNDS > 0.8, "a candidate that is wrong in 15 % more is found"
