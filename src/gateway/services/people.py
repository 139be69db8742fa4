"""People as a backend: questions of calls become urgent review tasks, and reviewers' answers the callers' answers.

In: questions of the desk, answers that the review service has put on disk. Out: labels for the calls that wait. Never:
an answer that is not on disk, or a wait of its own: how long a call waits is the data plane's affair.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gateway.errors import LedgerUnavailable
from gateway.ledger import Ledger, Urgent

__all__ = ["People", "PeopleCounts"]

log = logging.getLogger(__name__)

REMEMBERED_TASKS: Final = 10_000
"""Tasks whose callers have gone on, remembered to tell a late answer from any other."""

RESULTS: Final = ("answered", "unanswered", "refused")
"""What becomes of a call that people are asked about."""


@dataclass(frozen=True, slots=True)
class PeopleCounts:
    """One backend of people. `late`: answers that came when nobody waited any more."""

    backend: str
    waiting: int
    age_s: float
    results: Mapping[str, int]
    late: int


@dataclass(slots=True)
class _Waiting:
    decision: bytes
    backend: str
    since: float
    labels: list[str | None]
    tasks: list[int] = field(default_factory=list)


class People:
    """Thread-safe.

    Args:
        reply: takes a question's number and its labels by row, or None where it could not be asked.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ledger: Ledger,
        reply: Callable[[int, list[str] | None], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._reply, self._clock = ledger, reply, clock
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._tasks: dict[int, tuple[int, int]] = {}
        self._gone: OrderedDict[int, str] = OrderedDict()
        self._results: Counter[tuple[str, str]] = Counter()
        self._late: Counter[str] = Counter()

    def start(self) -> None:
        """Clear what calls of an earlier process left behind."""
        self._ledger.expire_urgent().add_done_callback(_told)

    def ask(self, question: Mapping[str, Any]) -> None:
        """Make the tasks of a question; without them on disk nobody is asked."""
        self.put(question)

    def put(self, question: Mapping[str, Any]) -> Future[list[int]]:
        """The same, for who waits until the tasks are there. A failure is told by `reply` as well."""
        number, rows = question["question"], question["rows"]
        waiting = _Waiting(question["id"], question["backend"], self._clock(), [None] * len(rows))
        with self._lock:
            self._waiting[number] = waiting
        names = ["rows", "queue", "route", "backend", "segment", "policy", "time_us", "until_us", "request"]
        # an unsigned hash, where the ledger's column has a sign
        unit = int.from_bytes(question["unit"].to_bytes(8, "little"), "little", signed=True)
        asked = Urgent(decision=question["id"], unit=unit, **{name: question[name] for name in names})
        made = self._ledger.ask_people(asked)
        made.add_done_callback(partial(self._asked, number))
        return made

    def withdraw(self, questions: Sequence[int], *, expire: bool = True) -> None:
        """Their callers have gone on, or away. `expire`: the tasks go at once, and not only when their time is up."""
        with self._lock:
            found = [waiting for number in questions if (waiting := self._waiting.pop(number, None))]
            for waiting in found:
                self._results[waiting.backend, "unanswered"] += 1
                self._forget(waiting)
        if found and expire:
            self._ledger.expire_urgent([waiting.decision for waiting in found]).add_done_callback(_told)

    def waits_for(self, task: int) -> bool:
        """Whether a caller waits for the answer to a task."""
        with self._lock:
            return task in self._tasks

    def tasks(self) -> list[int]:
        """The tasks whose answers callers wait for."""
        with self._lock:
            return list(self._tasks)

    def answered(self, task: int, label: str) -> None:
        """A reviewer's answer is on disk: with the last row's the caller gets its own. Of several the first counts."""
        with self._lock:
            number, row = self._tasks.get(task, (None, 0))
            if number is None:
                backend = self._gone.pop(task, None)
                if backend is not None:
                    self._late[backend] += 1
                return
            waiting = self._waiting[number]
            if waiting.labels[row] is None:
                waiting.labels[row] = label
            labels = [said for said in waiting.labels if said is not None]
            if len(labels) < len(waiting.labels):
                return
            del self._waiting[number]
            for known in waiting.tasks:
                self._tasks.pop(known, None)
        in_time = self._reply(number, labels)
        with self._lock:
            self._results[waiting.backend, "answered" if in_time else "unanswered"] += 1

    def counts(self) -> list[PeopleCounts]:
        """By backend that was asked so far: who waits, and what became of the others."""
        now = self._clock()
        with self._lock:
            since: dict[str, list[float]] = {backend: [] for backend, _ in self._results}
            for waiting in self._waiting.values():
                since.setdefault(waiting.backend, []).append(waiting.since)
            return [
                PeopleCounts(
                    backend,
                    waiting=len(begun),
                    age_s=now - min(begun, default=now),
                    results={result: self._results[backend, result] for result in RESULTS},
                    late=self._late[backend],
                )
                for backend, begun in since.items()
            ]

    def _asked(self, number: int, made: Future[list[int]]) -> None:
        """Runs in the ledger's thread, before any lease of these tasks is told."""
        error = made.exception()
        if error is not None:
            with self._lock:
                waiting = self._waiting.pop(number, None)
                if waiting is not None:
                    self._results[waiting.backend, "refused"] += 1
            if waiting is not None:
                log.warning("people were not asked: %s", error)
                self._reply(number, None)
            return
        with self._lock:
            waiting = self._waiting.get(number)
            if waiting is None:
                return  # withdrawn meanwhile: that expires the tasks after this made them
            waiting.tasks = made.result()
            for row, task in enumerate(waiting.tasks):
                self._tasks[task] = (number, row)

    def _forget(self, waiting: _Waiting) -> None:
        for task in waiting.tasks:
            self._tasks.pop(task, None)
            self._gone[task] = waiting.backend
        while len(self._gone) > REMEMBERED_TASKS:
            self._gone.popitem(last=False)


def _told(done: Future[None]) -> None:
    error = done.exception()
    if isinstance(error, LedgerUnavailable):
        log.warning("urgent tasks that nobody waits for are not cleared yet: %s", error)
    elif error is not None:
        log.error("urgent tasks could not be cleared", exc_info=error)
