"""How a report puts numbers, on a terminal as on a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.printing import count

if TYPE_CHECKING:
    from gateway.quality import Estimate

__all__ = [
    "OUTCOME_WORDS",
    "REASON_WORDS",
    "age",
    "labels_of",
    "lasting",
    "micros",
    "of_100",
    "percent",
    "time_of",
]

OUTCOME_WORDS = {
    "model": "answered by the first model",
    "fallback": "answered by a later model",
    "static": "answered by a fixed answer",
    "human": "answered by people",
    "holdout": "kept from the model, to compare with",
    "rejected": "refused by a rule",
    "error": "not answered",
}
REASON_WORDS = {
    "ok": "nothing was amiss",
    "low_confidence": "the model was not sure enough",
    "invalid_output": "the answer failed a check",
    "backend_error": "the model returned an error",
    "deadline": "the model took too long",
    "overload": "the model had too many calls",
    "circuit_open": "the model had failed too often",
    "kill_switch": "models are switched off",
    "loop_guard": "the unit kept meeting fallbacks",
    "holdout": "the unit is in the control group",
    "explore": "another model is being tried",
}


def labels_of(number: int) -> str:
    return f"{number:,} label" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """One digit after the point, and never 100 or 0 % unless it is so."""
    text = f"{100 * share:.1f}"
    if text == "100.0":
        return "100 %" if share == 1.0 else ">99.9 %"
    if text == "0.0":
        return "0 %" if share == 0.0 else "<0.1 %"
    return f"{text} %"


def hundredths(rate: float) -> str:
    """Whole ones, but near the ends, where 99.6 and 100 are not the same."""
    near_an_end = 0.0 < rate < 0.01 or 0.99 < rate < 1.0
    return f"{100 * rate:.1f}" if near_an_end else f"{100 * rate:.0f}"


def of_100(estimate: Estimate) -> tuple[str, str]:
    """The number out of a hundred, and its interval in brackets."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "?", ""
    value, low, high = (hundredths(rate) for rate in (estimate.value, estimate.low, estimate.high))
    return value, f"(95 % interval: {low} to {high})"


def micros(us: float) -> str:
    return f"{us:.0f} us" if us < 10_000 else f"{us / 1000:.0f} ms"


def lasting(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else age(seconds)


def age(seconds: float) -> str:
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return count(int(seconds // size), word)
    return "less than a minute"


def time_of(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
