"""What the settings say about queues, in the form that the review queue works by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.config import Settings

__all__ = [
    "MAX_REVIEWERS",
    "MAX_SEEN",
    "USUAL",
    "USUAL_QUEUE",
    "QueueRule",
    "ReviewRules",
    "TaskRule",
    "rules_of",
]

MAX_REVIEWERS: Final = 64
"""Reviewers who may have seen a task; after them it is set aside, so that its list of names does not grow for ever."""

MAX_SEEN: Final = 96
"""The same, together with those who were asked to settle it. An entry of PostgreSQL's index has 2,704 bytes at most."""


@dataclass(frozen=True, slots=True)
class QueueRule:
    """How a queue is worked on; see `gateway.config.queues.Queue`. `reviewers`: empty for everybody."""

    reviews_required: int = 1
    adjudicate_in: str | None = None
    max_skips: int = 3
    gold_share: float = 0.0
    lease_s: float = 300.0
    reviewers: frozenset[str] = frozenset()
    blind: bool = False


@dataclass(frozen=True, slots=True)
class TaskRule:
    """What the tasks of a route get when they are made. `deadline_us`: from the call on; None where there is none."""

    priority: int = 5
    deadline_us: int | None = None


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """By name of a queue, and of a route; those that are not named have the usual."""

    queues: Mapping[str, QueueRule] = field(default_factory=dict)
    routes: Mapping[str, TaskRule] = field(default_factory=dict)

    def queue(self, name: str) -> QueueRule:
        return self.queues.get(name, USUAL_QUEUE)

    def route(self, name: str) -> TaskRule:
        return self.routes.get(name, _USUAL_TASK)


USUAL_QUEUE: Final = QueueRule()
_USUAL_TASK: Final = TaskRule()
USUAL: Final = ReviewRules()
"""Where the settings say nothing."""


def rules_of(settings: Settings) -> ReviewRules:
    """The rules that a settings file means."""
    queues = {
        name: QueueRule(
            reviews_required=queue.reviews_required,
            adjudicate_in=queue.adjudicate_in,
            max_skips=queue.max_skips,
            gold_share=queue.gold_share,
            lease_s=queue.lease_s,
            reviewers=frozenset(queue.reviewers),
            blind=queue.blind,
        )
        for name, queue in settings.queues.items()
    }
    routes = {
        name: TaskRule(
            route.review.priority,
            None if route.review.deadline_h is None else int(route.review.deadline_h * 3.6e9),
        )
        for name, route in settings.routes.items()
        if route.review is not None
    }
    return ReviewRules(queues, routes)
