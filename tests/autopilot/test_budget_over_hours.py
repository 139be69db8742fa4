"""A simulated day of traffic through `ReviewBudget`: what is spent, and with which probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.autopilot import ReviewBudget, Shares
from gateway.runtime import FIRST_SHARES
from gateway.types import Stratum
from tests.autopilot.stream import Clock, made, records

STEP_S = 10.0
MIX = np.array([0.93, 0.02, 0.03, 0.02])
"""Of low, flagged, near and fallback."""


def calls_a_second(at_s: float, kind: str) -> float:
    """Steady; or a day's swing; or bursts of ten times the traffic for five minutes of each hour; or two
    hours of next to nothing, or nothing, after two that are busy."""
    if kind == "bursts":
        return 80.0 if at_s % 3600 < 300 else 8.0
    if kind == "swing":
        return 8.0 * (1.0 + 0.9 * np.sin(2 * np.pi * at_s / (6 * 3600)))
    if kind == "nights":
        return 0.02 if (at_s // 7200) % 2 else 8.0
    if kind == "silence":
        return 0.0 if (at_s // 7200) % 2 else 8.0
    return 8.0


def simulate(kind: str, per_hour: float, hours: float, seed: int = 1) -> dict[str, object]:
    """Poisson sampling by the shares in force, as the data plane does it, each with the share it was drawn by."""
    rng, clock = np.random.default_rng(seed), Clock()
    budget = ReviewBudget({"spam": per_hour}, {}, clock)
    in_force, versions, reviews, wrong = FIRST_SHARES, 0, 0, 0
    smallest = dict.fromkeys(("flagged", "low"), 1.0)
    busy = 0.0  # the budget of a time with next to no traffic cannot be spent
    for at_s in np.arange(0, hours * 3600, STEP_S):
        came = rng.poisson(calls_a_second(at_s, kind) * STEP_S * MIX)
        busy += (calls_a_second(at_s, kind) > 1) * STEP_S
        stratum = np.repeat(np.arange(4), came)
        share = np.array([getattr(in_force, one.text) for one in Stratum])[stratum]
        reviews += int((rng.random(len(share)) < share).sum())
        budget.consume(made(records(stratum, share)))
        clock.now = at_s + STEP_S
        revised = budget.revise()
        if revised is not None:
            in_force, versions = revised["spam"], versions + 1
        wrong += budget.shares["spam"] != in_force
        for name in smallest:
            smallest[name] = min(smallest[name], getattr(in_force, name))
    return {
        "spent": reviews / (per_hour * busy / 3600),
        "versions": versions,
        "wrong": wrong,
        "smallest": smallest,
        "shares": in_force,
    }


@pytest.mark.parametrize(
    ("kind", "per_hour"),
    [
        ("steady", 60.0),
        ("bursts", 60.0),
        ("bursts", 600.0),
        ("swing", 60.0),
        ("nights", 60.0),
        ("silence", 60.0),
    ],
)
def test_a_budget_is_kept_within_a_tenth_over_hours(kind: str, per_hour: float) -> None:
    """Eight hours, with chance itself allowed for: two standard deviations of a Poisson count."""
    found = simulate(kind, per_hour, 8)
    chance = 2 / np.sqrt(per_hour * 8 * (0.5 if kind in ("nights", "silence") else 1.0))
    assert found["spent"] == pytest.approx(1.0, abs=0.1 + chance)
    assert found["wrong"] == 0, "the shares said to be in force are those that calls were drawn with"
    assert all(share > 0 for share in found["smallest"].values())


def test_steady_traffic_has_few_policy_versions() -> None:
    """The rates of what is rare are noisy; a version for each wobble would make a table of every report."""
    found = simulate("steady", 60.0, 8)
    assert found["versions"] <= 16, "some while rates settle, and two an hour"


def test_a_weighted_sum_of_what_was_sampled_finds_the_rate_whatever_the_shares_did() -> None:
    """Each record has the probability it was drawn with, so that moving shares bias nothing."""
    rng, clock = np.random.default_rng(3), Clock()
    budget = ReviewBudget({"spam": 600.0}, {}, clock)
    in_force, total, weighted = FIRST_SHARES, 0, 0.0
    for at_s in np.arange(0, 6 * 3600, STEP_S):
        came = rng.poisson(calls_a_second(at_s, "bursts") * STEP_S * MIX)
        stratum = np.repeat(np.arange(4), came)
        of: Shares = in_force
        share = np.array([getattr(of, one.text) for one in Stratum])[stratum]
        truth = rng.random(len(stratum)) < np.array([0.01, 0.7, 0.2, 0.1])[stratum]
        chosen = rng.random(len(stratum)) < share
        total += int(truth.sum())
        weighted += float((truth[chosen] / share[chosen]).sum())
        budget.consume(made(records(stratum, share)))
        clock.now = at_s + STEP_S
        revised = budget.revise()
        in_force = revised["spam"] if revised is not None else in_force
    assert weighted == pytest.approx(total, rel=0.15)
