"""People and a budget: who is behind, who is ahead, and when nobody can say."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.errors import QualityError
from gateway.quality.workload import workload


@pytest.mark.parametrize(
    ("made", "done", "waits", "hours", "everything", "state"),
    [
        (60, 0, 60, 0.9, False, "unknown"),
        (480, 470, 10, 8.0, False, "balanced"),
        (480, 200, 280, 8.0, False, "overload"),
        (480, 340, 140, 8.0, False, "overload"),
        (480, 360, 120, 8.0, False, "balanced"),  # 75 % of 480 is within chance of four fifths
        (480, 700, 0, 8.0, False, "underload"),
        (100, 100, 0, 8.0, True, "starved"),
        (100, 100, 0, 8.0, False, "balanced"),  # nobody was too slow, and shares can still rise
        (480, 470, 10, 8.0, True, "balanced"),
    ],
)
def test_states(made: int, done: int, waits: int, hours: float, everything: bool, state: str) -> None:
    found = workload(60.0, made, done, waits, hours, everything=everything)
    assert found.state == state, found.words
    assert found.words


def test_people_who_keep_the_budget_are_left_alone() -> None:
    """A Poisson count around the budget is neither over nor under in 99 of 100 windows."""
    rng = np.random.default_rng(2)
    for per_hour, hours in ((60.0, 8.0), (10.0, 3.0), (600.0, 24.0)):
        states = [
            workload(per_hour, count + 5, count, 5, hours, everything=False).state
            for count in rng.poisson(per_hour * hours, 1000).tolist()
        ]
        assert states.count("balanced") >= 990, (per_hour, hours)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(QualityError, match="wanted_per_hour: found 0"):
        workload(0, 1, 1, 1, 1.0, everything=False)
