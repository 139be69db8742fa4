"""Reviewers for tests: what they lease and say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.ledger import Kept, Lease, Ledger, NothingForYou, QueueRule, ReviewRules, Truth, truth_of
from tests.ledger.making import CLASSES, sampled

QUEUE = "moderation"


def says(positive: bool) -> Callable[[str], Truth]:
    return lambda route: truth_of(route, CLASSES, positive=positive)


def fill(ledger: Ledger, *numbers: int, queue: str = QUEUE) -> None:
    for number in numbers:
        ledger.write_batch(sampled(number, queue=queue))
    assert ledger.flush()


def lease(ledger: Ledger, reviewer: str = "ann", seconds: float = 60, queue: str = QUEUE) -> Lease:
    leased = ledger.lease(queue, reviewer, seconds).result()
    assert isinstance(leased, Lease), leased
    return leased


def nothing(ledger: Ledger, reviewer: str = "ann", queue: str = QUEUE) -> NothingForYou:
    leased = ledger.lease(queue, reviewer, 60).result()
    assert isinstance(leased, NothingForYou), leased
    return leased


def answer(ledger: Ledger, task: Lease, reviewer: str, positive: bool = True) -> Kept:
    """What became of an answer under a lease."""
    return ledger.submit_review(task.task, task.token, reviewer, says(positive)).result()


def review(ledger: Ledger, reviewer: str, positive: bool = True, queue: str = QUEUE) -> Lease:
    """Lease a task and answer it."""
    task = lease(ledger, reviewer, queue=queue)
    assert answer(ledger, task, reviewer, positive) is Kept.ACCEPTED
    return task


def rule(ledger: Ledger, queues: Mapping[str, QueueRule] | None = None, **moderation: object) -> None:
    """Set the rules of queues."""
    ledger.set_review_rules(ReviewRules({QUEUE: QueueRule(**moderation), **(queues or {})}))  # type: ignore[arg-type]


def labels(ledger: Ledger) -> list[bool]:
    """What the labels that count say, by task."""
    return list(ledger.reader.labelled(source="review").positive.tolist())
