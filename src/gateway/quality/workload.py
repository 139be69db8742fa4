"""Whether people keep up with a review budget, and whether there is enough to review: a verdict with its counts."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

from gateway.errors import QualityError

__all__ = ["STATES", "State", "Workload", "workload"]

State = Literal["unknown", "balanced", "overload", "underload", "starved"]

STATES: Final[tuple[State, ...]] = ("unknown", "balanced", "overload", "underload", "starved")

LEAST_HOURS: Final = 1.0
"""Nobody works evenly: less than an hour says nothing about a rate an hour."""

LEAST_WANTED: Final = 10.0
"""Tasks that the budget must have come to before people are said to do fewer or more than it."""

TOLERANCE: Final = 0.2
"""People who do four fifths of a budget, or six, keep it."""

SIGMA: Final = 2.0
"""Counts of independent events spread by their root; what is within two of it is chance."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A budget beside what became of it. Rates are an hour; `words` says what is amiss and what would mend it."""

    wanted_per_hour: float
    made_per_hour: float
    done_per_hour: float
    open: int
    hours: float
    state: State
    words: str

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it."""
        return {
            "wanted_per_hour": self.wanted_per_hour,
            "made_per_hour": round(self.made_per_hour, 3),
            "done_per_hour": round(self.done_per_hour, 3),
            "open": self.open,
            "hours": round(self.hours, 3),
            "state": self.state,
            "reason": self.words,
        }


def workload(
    wanted_per_hour: float, made: int, done: int, still_open: int, hours: float, *, everything: bool
) -> Workload:
    """Judge one route's reviews.

    Args:
        wanted_per_hour: the budget. made, done: tasks made for people, and done by them, in the last `hours`.
        still_open: tasks that wait. everything: every prediction is reviewed already, so that no share can be raised.
    Raises: QualityError for a budget that is not above zero.
    """
    if not wanted_per_hour > 0:
        raise QualityError(f"wanted_per_hour: found {wanted_per_hour}, wanted more than 0")
    span = max(hours, 1e-9)
    state, words = _judge(wanted_per_hour, wanted_per_hour * hours, made, done, still_open, hours, everything)
    return Workload(wanted_per_hour, made / span, done / span, still_open, hours, state, words)


def _judge(
    per_hour: float, wanted: float, made: int, done: int, still_open: int, hours: float, everything: bool
) -> tuple[State, str]:
    did = f"people did {done:,} of the {wanted:,.0f} that the budget of {per_hour:g} an hour comes to"
    if hours < LEAST_HOURS or wanted < LEAST_WANTED:
        return "unknown", f"too early to say: {wanted:,.0f} tasks were to be done in {hours:.1f} h"
    few = done + SIGMA * sqrt(done + 1.0) < (1 - TOLERANCE) * wanted
    if everything and made + SIGMA * sqrt(made + 1.0) < (1 - TOLERANCE) * wanted:
        return "starved", (
            f"every prediction is put before people already, and only {made:,} came in {hours:.1f} h: "
            f"they have time for {wanted:,.0f}"
        )
    # Few are done, though there is work: an empty queue is not people's doing.
    if few and still_open > 0 and made > done:
        return "overload", (
            f"{did}, and {still_open:,} wait: lower per_hour to {max(done / hours, 0.1):.2g} "
            "or bring more people, as what is never answered teaches nothing"
        )
    if done - SIGMA * sqrt(done + 1.0) > (1 + TOLERANCE) * wanted:
        return "underload", f"{did}: raise per_hour to {done / hours:.2g} to learn more from the same people"
    return "balanced", f"{did}"
