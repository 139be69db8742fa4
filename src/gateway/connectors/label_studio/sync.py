"""One round with Label Studio: what became of the tasks there, then new ones out.

Exactly-once rests on the ledger. A task is leased and written down before it is sent, so after a crash or a lost
answer it is in doubt, and looked for there by its key (decision id and row) before it is sent again; a version of an
annotation is written down in the transaction that makes it a label. Everything else may be done twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from gateway.config.label_studio import LabelStudio, LabelStudioQueue
from gateway.connectors.label_studio.answers import HOLDER, Taker
from gateway.connectors.label_studio.api import PAGE, Api, Task
from gateway.connectors.label_studio.payload import key_of, task_json
from gateway.errors import LabelToolError
from gateway.ledger import Lease, Ledger, RouteClasses, label_tools
from gateway.ledger.label_tools import Sent, State
from gateway.services.readable import Messages

__all__ = ["Round", "Sync"]

DOUBT_S: Final = 120.0
"""How long after it was tried a task may still turn up there: longer than any request takes."""

ANSWERED_PAGES: Final = 8
"""Pages of answered tasks that one round looks at again; the next round goes on from there."""

MOST_SEND_BYTES: Final = 8 * 1024 * 1024
"""Of one request with tasks."""

MOST_OPEN: Final = 10_000
"""Tasks without an answer that are looked at in one round; no queue may have more of them there."""

T = TypeVar("T")


@dataclass(slots=True)
class Round:
    """What one round did, by queue or together."""

    sent: int = 0
    open: int = 0
    answers: int = 0
    given_back: int = 0
    withdrawn: int = 0


class Sync:
    """Used by one thread.

    Args:
        classes: a route -> its classes, None for one that is not served.
        queue_classes: a queue -> all classes that its routes have.
        messages: what captured messages are read by.
        clock_us: the time, microseconds since 1970.
    """

    def __init__(
        self,
        settings: LabelStudio,
        ledger: Ledger,
        api: Api,
        *,
        classes: Callable[[str], RouteClasses | None],
        queue_classes: Callable[[str], Sequence[str]],
        messages: Callable[[], Messages | None],
        clock_us: Callable[[], int],
    ) -> None:
        self._settings, self._ledger, self._api = settings, ledger, api
        self._classes, self._queue_classes, self._messages = classes, queue_classes, messages
        self._clock_us = clock_us
        self._checked: set[str] = set()
        self._after: dict[str, tuple[bytes, int]] = {}
        self._taker = Taker(ledger, classes, api.author, clock_us)
        self.counts = self._taker.counts

    def round(self, queue: str) -> Round:
        """All there is to do for a queue.

        Raises: LabelToolError; LedgerUnavailable. What was done until then is done.
        """
        told = self._settings.queues[queue]
        done = Round()
        try:
            if queue not in self._checked:
                self._api.check(told.project, self._queue_classes(queue))
                self._checked.add(queue)
            self._settle(queue, told)
            self._look_at_open(queue, told, done)
            self._look_at_answered(queue, told, done)
            self._withdraw(queue, told, done)
            self._send(queue, told, done)
        except LabelToolError:
            self._checked.discard(queue)
            raise
        return done

    def look_at(self, queue: str, tasks: Sequence[int], answers: Sequence[int]) -> Round:
        """Only some tasks, by their numbers there or by those of their annotations: what a webhook tells of."""
        told, done = self._settings.queues[queue], Round()
        found = self._read(
            partial(label_tools.recall, place=self.place(queue), remote=tasks, answers=answers)
        )
        for page in _pages(found):
            self._look(queue, told, page, done)
        return done

    def place(self, queue: str) -> str:
        """Where the tasks of a queue lie; tasks of another place are sent anew."""
        return f"{self._settings.url} project {self._settings.queues[queue].project}"

    # --- what is in doubt ---------------------------------------------------------------------------------------

    def _settle(self, queue: str, told: LabelStudioQueue) -> None:
        """Find out about tasks that may or may not have arrived."""
        doubtful = [task for task in self._sent(queue, (State.OPEN,)) if task.remote is None]
        for page in _pages(doubtful):
            found = self._found(told.project, page)
            here = [(task, found[task.key]) for task in page if found.get(task.key)]
            self._write(
                partial(
                    label_tools.mark_sent,
                    tasks=[task for task, _ in here],
                    remote=[ids[0].id for _, ids in here],
                )
            )
            for _, (_, *twice) in here:
                for one in twice:
                    if not one.answers:
                        self._api.delete(one.id)
            over_us = self._clock_us() - int(DOUBT_S * 1e6)
            lost = [task for task in page if not found.get(task.key) and task.sent_us < over_us]
            if lost:
                self._write(partial(label_tools.release, tasks=lost, holder=HOLDER))

    def _found(self, project: int, tasks: Sequence[Sent]) -> dict[tuple[bytes, int], list[Task]]:
        """What lies there of some tasks, those with annotations first, then the oldest."""
        keys = {key_of(*task.key): task.key for task in tasks}
        found: dict[tuple[bytes, int], list[Task]] = {}
        for one in sorted(self._api.find(project, list(keys)), key=lambda task: (not task.answers, task.id)):
            if one.key in keys:
                found.setdefault(keys[one.key], []).append(one)
        return found

    # --- answers ------------------------------------------------------------------------------------------------

    def _look_at_open(self, queue: str, told: LabelStudioQueue, done: Round) -> None:
        tasks = [task for task in self._sent(queue, (State.OPEN,)) if task.remote is not None]
        for page in _pages(tasks):
            done.open += self._look(queue, told, page, done)

    def _look_at_answered(self, queue: str, told: LabelStudioQueue, done: Round) -> None:
        since_us = self._clock_us() - int(self._settings.corrections_h * 3_600e6)
        for _ in range(ANSWERED_PAGES):
            after = self._after.get(queue, (b"", -1))
            page = self._read(
                partial(
                    label_tools.sent,
                    place=self.place(queue),
                    states=(State.ANSWERED,),
                    limit=PAGE,
                    after=after,
                    done_after_us=since_us,
                )
            )
            if page:
                self._look(queue, told, page, done)
            self._after[queue] = page[-1].key if len(page) == PAGE else (b"", -1)
            if len(page) < PAGE:
                return

    def _look(self, queue: str, told: LabelStudioQueue, page: Sequence[Sent], done: Round) -> int:
        """Take the answers to at most PAGE tasks. Returns: how many lie there without any."""
        numbers = [task.remote for task in page if task.remote is not None]
        # A number alone proves nothing: another database may lie behind the same address.
        there = {one.id: one for one in self._api.tasks(told.project, numbers)} if numbers else {}
        idle = 0
        for task in page:
            one = there.get(task.remote or 0)
            if one is not None and one.key == key_of(*task.key):
                took = self._taker.take(queue, task, one)
                done.answers += took.answers
                done.given_back += took.skips
                idle += not one.answers
            elif task.remote is not None:
                self._lost(queue, task, done)
        return idle

    def _lost(self, queue: str, task: Sent, done: Round) -> None:
        """Somebody deleted it there: an answer stands, an open task goes to others."""
        if task.state is not State.OPEN or self._taker.deleted_task(queue, task):
            self._write(partial(label_tools.forget, tasks=[task]))
            done.given_back += task.state is State.OPEN

    # --- out and back -------------------------------------------------------------------------------------------

    def _withdraw(self, queue: str, told: LabelStudioQueue, done: Round) -> None:
        """Take away what nobody need answer any more: open tasks done elsewhere, and all that is kept no longer."""
        for task in self._sent(queue, (State.ELSEWHERE, State.GONE), PAGE):
            if task.remote is None:
                lying = self._found(told.project, [task]).get(task.key, [])
            else:
                lying = [
                    one
                    for one in self._api.tasks(told.project, [task.remote])
                    if one.key == key_of(*task.key)
                ]
            for one in lying:
                if task.state is State.GONE or not one.answers:
                    self._api.delete(one.id)
                    done.withdrawn += 1
                else:
                    self._taker.take(queue, task, one)  # too late, and told so
            self._write(partial(label_tools.forget, tasks=[task]))

    def _send(self, queue: str, told: LabelStudioQueue, done: Round) -> None:
        while True:
            hold_us = int(self._settings.hold_h * 3_600e6)
            taken, new = self._write(
                partial(
                    label_tools.take,
                    queue=queue,
                    holder=HOLDER,
                    place=self.place(queue),
                    at_most=told.at_most,
                    hold_us=hold_us,
                    now_us=self._clock_us(),
                )
            )
            if not taken:
                return
            made = [(sent, self._made(lease)) for lease, sent in new]
            for group in _fitting(made):
                try:
                    numbers = self._api.send(told.project, [task for _, task in group])
                except LabelToolError as error:
                    if error.kind in ("denied", "not_found", "refused"):  # none of them arrived
                        left = [sent for sent, _ in made[made.index(group[0]) :]]
                        self._write(partial(label_tools.release, tasks=left, holder=HOLDER))
                    raise
                self._write(partial(label_tools.mark_sent, tasks=[sent for sent, _ in group], remote=numbers))
                done.sent += len(group)
                done.open += len(group)

    def _made(self, lease: Lease) -> dict[str, Any]:
        known = self._classes(lease.facts.route)
        return task_json(lease, self._messages(), known, show=self._settings.show_prediction)

    # --- the ledger ---------------------------------------------------------------------------------------------

    def _sent(self, queue: str, states: Sequence[State], limit: int = MOST_OPEN) -> list[Sent]:
        return self._read(partial(label_tools.sent, place=self.place(queue), states=states, limit=limit))

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return self._ledger.reader.snapshot(work)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        return self._ledger.transact(work).result()


def _pages(tasks: Sequence[Sent]) -> list[Sequence[Sent]]:
    return [tasks[start : start + PAGE] for start in range(0, len(tasks), PAGE)]


def _fitting(made: Sequence[tuple[Sent, dict[str, Any]]]) -> list[list[tuple[Sent, dict[str, Any]]]]:
    """Groups that are short enough to be sent at once; a lone long one goes by itself."""
    groups: list[list[tuple[Sent, dict[str, Any]]]] = []
    size = 0
    for sent, task in made:
        its = len(json.dumps(task))
        if not groups or size + its > MOST_SEND_BYTES:
            groups.append([])
            size = 0
        groups[-1].append((sent, task))
        size += its
    return groups
