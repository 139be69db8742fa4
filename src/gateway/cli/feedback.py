"""Feedback between the rooms: what the settings say of it for the services, and what the services count for metrics."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config import Settings
from gateway.services import Control, FeedbackRules, Rate
from gateway.telemetry import Point
from gateway.telemetry.registry import Source

__all__ = ["feedback_rate", "feedback_rules", "feedback_source"]


def feedback_rules(settings: Settings) -> FeedbackRules:
    """What of feedback is believed."""
    receipts = settings.receipts
    return FeedbackRules(receipts.max_age_h, receipts.clock_skew_s, receipts.pending_s)


def feedback_rate(settings: Settings) -> Rate | None:
    """How much each caller may send; None: as much as it likes."""
    feedback = settings.feedback
    if feedback.per_caller_per_s is None:
        return None
    return Rate(feedback.per_caller_per_s, feedback.burst)


def feedback_source(control: Control) -> Source:
    """What became of items, by kind; what waits for its decision; and what was dropped."""

    def points() -> Iterable[Point]:
        feedback, waiting = control.feedback, control.waiting
        for (kind, status, code), count in feedback.results.copy().items():
            yield Point("gateway.feedback", count, {"kind": kind, "status": status, "reason": code})
        for status, count in waiting.kept.copy().items():
            yield Point("gateway.feedback.resolved", count, {"status": status})
        yield Point("gateway.feedback.pending", waiting.left)
        yield Point("gateway.dropped", feedback.limited, {"what": "feedback", "reason": "rate"})
        for reason, count in waiting.dropped.copy().items():
            yield Point("gateway.dropped", count, {"what": "feedback", "reason": reason})

    return points
