"""The words of the design as code: closed lists whose numbers the data plane shares."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "NO_INDEX",
    "NO_STRING",
    "STATUS_NAMES",
    "UNKNOWN",
    "UNPREDICTED",
    "Outcome",
    "Reason",
    "Stratum",
    "reason_text",
]

NO_INDEX: Final = 0xFFFF
"""No such route, backend, rule or arm in a record."""

NO_STRING: Final = 0xFFFF_FFFF
"""No such string in a batch's table."""

UNKNOWN: Final = 0xFF
"""Neither yes nor no in a record's flag."""

STATUS_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC's status names, by their numbers."""


class Outcome(IntEnum):
    """How a call ended."""

    MODEL = 0
    FALLBACK = 1
    STATIC = 2
    HUMAN = 3
    HOLDOUT = 4
    REJECTED = 5
    ERROR = 6

    @property
    def text(self) -> str:
        return self.name.lower()


class Reason(IntEnum):
    """Why a call ended so."""

    OK = 0
    LOW_CONFIDENCE = 1
    RULE = 2
    INVALID_OUTPUT = 3
    BACKEND_ERROR = 4
    DEADLINE = 5
    OVERLOAD = 6
    CIRCUIT_OPEN = 7
    KILL_SWITCH = 8
    LOOP_GUARD = 9
    HOLDOUT = 10
    EXPLORE = 11

    @property
    def text(self) -> str:
        return self.name.lower()


UNPREDICTED: Final = (Outcome.HUMAN, Outcome.HOLDOUT)
"""Outcomes of calls that no model answered by intent: their labels say nothing about a model's precision or recall."""


class Stratum(IntEnum):
    """How a prediction was sampled for review; the side of the decision stands in `flagged`, not here."""

    LOW = 0
    """Not flagged, and not near the threshold."""
    FLAGGED = 1
    NEAR = 2
    """Not flagged, but by little."""
    FALLBACK = 3
    """Answered by another than the first choice, flagged or not."""
    DISAGREEMENT = 4
    """A shadow said otherwise: known only after the answer."""

    @property
    def text(self) -> str:
        return self.name.lower()


def reason_text(reason: int, rule: str | None = None) -> str:
    """The reason as callers and metrics see it: `rule:<name>` where a rule decided."""
    word = Reason(reason).text
    return f"{word}:{rule}" if rule and reason == Reason.RULE else word
