"""The review queue as the ledger's users call it: each call is one job of the writer's, or one look of the reader's."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import sqlalchemy as sa

from gateway.ledger import audit, review
from gateway.ledger.labels import Kept, Truth
from gateway.ledger.reading import Reader
from gateway.ledger.review import gold
from gateway.ledger.writer import Writer
from gateway.quality.agreement import Agreement

__all__ = ["Reviews"]


class Reviews:
    """That part of `gateway.ledger.Ledger`; its futures end as that one's."""

    def __init__(
        self, writer: Writer, reader: Reader, clock_us: Callable[[], int], dice: random.Random
    ) -> None:
        self._writer = writer
        self.reader = reader
        self._clock_us = clock_us
        self._dice = dice

    def set_review_rules(self, rules: review.ReviewRules) -> None:
        """How queues are worked on from now on; tasks that are open already follow."""
        self._writer.review_rules = rules

    @property
    def review_rules(self) -> review.ReviewRules:
        """How queues are worked on."""
        return self._writer.review_rules

    def lease(
        self, queue: str, reviewer: str, lease_s: float, *, shown: bool = False
    ) -> Future[review.Lease | review.NothingForYou]:
        """The reviewer's next task of a queue. `shown`: the reviewer sees what the model said before the answer."""
        now_us, rule = self._clock_us(), self.review_rules.queue(queue)
        work = partial(review.lease, queue=queue, reviewer=reviewer, lease_us=_us(lease_s), now_us=now_us)
        return self._writer.submit(partial(work, rule=rule, dice=self._dice, shown=shown))

    def heartbeat(self, task: int, token: int, reviewer: str, lease_s: float) -> Future[int]:
        """Extend a lease; until when it is good. Ends also with NotFound, LeaseLost."""
        now_us = self._clock_us()
        work = partial(review.heartbeat, task=task, token=token, reviewer=reviewer, now_us=now_us)
        return self._writer.submit(partial(work, lease_us=_us(lease_s)))

    def submit_review(
        self, task: int, token: int, reviewer: str, truth: Callable[[str], Truth]
    ) -> Future[Kept]:
        """Keep a reviewer's answer; `truth` makes it of the task's route.

        The future ends also with NotFound, LeaseLost, TooLate, LabelError.
        """
        work = partial(review.submit, task=task, token=token, reviewer=reviewer, truth=truth)
        return self._writer.submit(partial(work, now_us=self._clock_us(), rules=self.review_rules))

    def skip_review(self, task: int, token: int, reviewer: str, reason: str) -> Future[None]:
        """Give a task back. Ends also with NotFound, LeaseLost."""
        work = partial(review.skip, task=task, token=token, reviewer=reviewer, reason=reason)
        return self._writer.submit(partial(work, now_us=self._clock_us(), rules=self.review_rules))

    def undo_review(
        self, task: int, token: int, reviewer: str, lease_s: float
    ) -> Future[review.Lease | None]:
        """Take back an answer or a skip; the task again, unless somebody else holds it.

        Ends also with NotFound, LeaseLost, TooLate.
        """
        work = partial(review.undo, task=task, token=token, reviewer=reviewer, lease_us=_us(lease_s))
        return self._writer.submit(partial(work, now_us=self._clock_us(), rules=self.review_rules))

    def reveal_review(self, task: int, token: int, reviewer: str) -> Future[review.Revealed]:
        """What the model and others said, after the answer. Ends also with NotFound, LeaseLost."""
        now_us = self._clock_us()
        return self._writer.submit(
            partial(review.reveal, task=task, token=token, reviewer=reviewer, now_us=now_us)
        )

    def review_stats(self, queue: str | None = None) -> list[review.QueueStats]:
        """Tasks by queue; one queue or all. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(review.stats, queue=queue, now_us=self._clock_us()))

    def review_agreement(self, queue: str) -> Agreement | None:
        """How far reviewers of a queue agree; None where none can say. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(review.agreement, queue=queue))

    def review_accuracy(self, queue: str | None = None) -> list[review.Accuracy]:
        """How often reviewers are right, by gold. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(review.accuracy, queue=queue))

    def gold(self, queue: str | None = None) -> list[review.GoldTask]:
        """The tasks whose truth is known. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(gold.listed, queue=queue))

    def make_gold(self, decision: bytes, row: int, truth: Truth | None, author: str) -> Future[bool]:
        """Make a prediction gold; False where it is. Ends also with NotFound, LabelError; see `review.gold.make`."""
        now_us = self._clock_us()

        def work(connection: sa.Connection) -> bool:
            made = gold.make(connection, decision, row, truth, author, now_us)
            if made:
                subject = f"decision {decision.hex()} row {row}"
                audit.note(connection, time_us=now_us, actor=author, action="gold.make", subject=subject)
            return made

        return self._writer.submit(work)

    def make_agreed_gold(self, queue: str, most: int, author: str) -> Future[int]:
        """Make gold of what reviewers of a queue agreed on lately; how many were made."""
        now_us = self._clock_us()

        def work(connection: sa.Connection) -> int:
            made = gold.make_agreed(connection, queue, most, author, now_us)
            subject = f"queue {queue}"
            audit.note(
                connection, time_us=now_us, actor=author, action="gold.make", subject=subject, agreed=made
            )
            return made

        return self._writer.submit(work)

    def retire_gold(self, number: int, author: str) -> Future[None]:
        """Hand a gold task out no more. Ends also with NotFound."""
        now_us = self._clock_us()

        def work(connection: sa.Connection) -> None:
            gold.retire(connection, number, now_us)
            audit.note(
                connection, time_us=now_us, actor=author, action="gold.retire", subject=f"gold {number}"
            )

        return self._writer.submit(work)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
