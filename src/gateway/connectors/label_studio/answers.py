"""From annotations to labels: each version of each one once, with the reason where it cannot be."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway.connectors.label_studio.api import LabelStudioAnswer, Task
from gateway.errors import LabelError, LeaseLost, NotFound, TooLate
from gateway.ledger import Kept, Ledger, RouteClasses, Truth, label_tools, tool_answers, truth_of
from gateway.ledger.label_tools import Sent
from gateway.ledger.tool_answers import Answered, Known

__all__ = ["HOLDER", "Taker", "Took"]

log = logging.getLogger(__name__)

HOLDER: Final = "label-studio"
"""The reviewer that leases what lies in Label Studio."""

REMEMBERED: Final = 10_000
"""Answers that could not be taken, remembered so that each is told of once."""


@dataclass(slots=True)
class Took:
    """What became of a task's annotations."""

    answers: int = 0
    skips: int = 0


class Taker:
    """Used by one thread.

    Args:
        classes: a route -> its classes, None for one that is not served.
        author: the number of a user there -> who that is.
        clock_us: the time, microseconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        classes: Callable[[str], RouteClasses | None],
        author: Callable[[int | None], str],
        clock_us: Callable[[], int],
    ) -> None:
        self._ledger, self._classes, self._author, self._clock_us = ledger, classes, author, clock_us
        self._told: OrderedDict[tuple[int, str], None] = OrderedDict()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """By (queue, `answer` or `dropped`, what): since the start."""

    def take(self, queue: str, task: Sent, one: Task, *, whole: bool = True) -> Took:
        """Take what is new of a task's annotations.

        Args:
            whole: those are all that there are, so one that is missing was deleted.
        Raises: LedgerUnavailable; then the rest is as new as before.
        """
        took = Took()
        before = self._ledger.reader.snapshot(partial(tool_answers.known, task=task))
        left = {answer.id for answer in one.answers}
        gone = [old for old in before.values() if whole and old.answer not in left and old.token is not None]
        for old in gone:  # first, as who deletes an answer may have given another one
            self._deleted(queue, task, old)
        if gone:  # under another lease now
            [task] = self._ledger.reader.snapshot(partial(label_tools.look_up, keys=[task.key]))
        for answer in sorted(one.answers, key=lambda answer: (answer.version, answer.id)):
            known = before.get(answer.id)
            if known is not None and known.version == answer.version:
                continue
            # A correction goes under the name of the first version: it is that reviewer's answer which is corrected.
            author = known.author if known is not None else answer.email or self._author(answer.completed_by)
            self._one(queue, task, answer, Answered(answer.id, answer.version, author), known, took)
            [task] = self._ledger.reader.snapshot(partial(label_tools.look_up, keys=[task.key]))
        return took

    def deleted_task(self, queue: str, task: Sent) -> bool:
        """Give back an open task that is not there any more; False where it is somebody else's by now."""
        words = "deleted in Label Studio"
        work = partial(
            tool_answers.give_back,
            task=task,
            holder=HOLDER,
            reason=words,
            now_us=self._clock_us(),
            rules=self._ledger.review_rules,
        )
        gone = self._tried(queue, Answered(-task.task, f"{task.token}", HOLDER), lambda: self._write(work))
        self.counts[queue, "answer", "deleted"] += gone
        return gone

    def _one(
        self,
        queue: str,
        task: Sent,
        answer: LabelStudioAnswer,
        answered: Answered,
        known: Known | None,
        took: Took,
    ) -> None:
        now_us = self._clock_us()
        if answer.fault:
            self._drop(
                queue, answered, answer.fault, f"annotation {answer.id} has {answer.fault}, wanted one choice"
            )
        elif answer.skipped:
            words = "skipped in Label Studio"
            skip = partial(
                tool_answers.give_back,
                task=task,
                holder=HOLDER,
                reason=words,
                now_us=now_us,
                answered=answered,
                before=known,
                rules=self._ledger.review_rules,
            )
            if self._tried(queue, answered, lambda: self._write(skip), task):
                took.skips += 1
                self.counts[queue, "answer", "skipped"] += 1
        else:

            def truth(route: str) -> Truth:
                return truth_of(route, self._classes(route), label=answer.label)

            keep = partial(
                tool_answers.submit,
                task=task,
                holder=HOLDER,
                answered=answered,
                truth=truth,
                now_us=now_us,
                before=known,
                rules=self._ledger.review_rules,
            )
            kept: list[Kept] = []
            if self._tried(queue, answered, lambda: kept.append(self._write(keep)), task):
                took.answers += 1
                self.counts[queue, "answer", kept[0].value] += 1

    def _deleted(self, queue: str, task: Sent, gone: Known) -> None:
        """An annotation is gone there: what was said is taken back, and the task is open again."""
        undo = partial(
            tool_answers.undo,
            task=task,
            holder=HOLDER,
            taken=gone,
            now_us=self._clock_us(),
            rules=self._ledger.review_rules,
        )
        answered = Answered(gone.answer, tool_answers.TAKEN_BACK, gone.author)
        if self._tried(queue, answered, lambda: self._write(undo), task):
            self.counts[queue, "answer", "taken_back"] += 1

    def _tried(
        self, queue: str, answered: Answered, work: Callable[[], object], task: Sent | None = None
    ) -> bool:
        """Do it, or say why it cannot be done; what can never be done for `task` is written down."""
        try:
            work()
        except (LeaseLost, NotFound, TooLate) as error:
            self._drop(queue, answered, error.code, str(error))
            if task is not None:
                self._write(partial(tool_answers.note, task=task, answered=answered, token=None))
            return False
        except LabelError as error:
            self._drop(queue, answered, error.kind, str(error))
            return False
        return True

    def _drop(self, queue: str, answered: Answered, reason: str, words: str) -> None:
        """Count what cannot be taken, each version of it once; settings that change may let it in later."""
        key = (answered.answer, answered.version)
        if key in self._told:
            return
        self._told[key] = None
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self.counts[queue, "dropped", reason] += 1
        log.warning(
            "an answer of Label Studio is not taken: %s",
            words,
            extra={"queue": queue, "annotation": answered.answer, "author": answered.author},
        )

    def _write(self, work: Callable[[Any], Any]) -> Any:
        return self._ledger.transact(work).result()
