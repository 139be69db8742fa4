"""The one thread that writes; on PostgreSQL two.

Two kinds of work come to it. *Jobs* (labels, leases, policies) are waited for: they are committed together,
as many as came while the last commit was on its way to the disk, and their futures are resolved after the
commit. *Batches* are not waited for: they are added up until company or time is enough, tried again while the
database cannot take them, and in the end dropped and counted. While batches wait for another try, jobs are
served on. An SQLite file has one writer, so both are one thread's; in PostgreSQL jobs have a thread and a connection
of their own, and nobody waits behind a group of records.

Other processes may write to the same PostgreSQL. Where two transactions were in each other's way, the one that gave in
is done again at once; where a commit's outcome is not known, the group is stored again under its number, once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity

from gateway.errors import LedgerUnavailable
from gateway.ledger import labels, segments, tallies
from gateway.ledger.database import failure_reason, is_conflict, is_unavailable, writes_side_by_side
from gateway.ledger.jobs import CONFLICTS, Job, LabelJob, is_one, work, work_bare
from gateway.ledger.limits import Limits
from gateway.ledger.review import ReviewRules
from gateway.ledger.storing import Group, Stored, forget_writers, store

__all__ = ["Writer"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_REMEMBER_US = 30 * 24 * 3_600_000_000  # a writer that is silent for so long sends nothing again


@dataclass(slots=True)
class Waiting:
    """A batch in the queue. One with an origin is acknowledged: `future` has whether it was new."""

    batch: tallies.Batch
    records: int
    payload: int
    origin: str = ""
    number: int = 0
    future: Future[bool] | None = None


class Writer:
    """Owns the threads; `engine` has the only connections that write."""

    def __init__(self, engine: sa.Engine, limits: Limits) -> None:
        self.review_rules = ReviewRules()
        """What new tasks get; replaced as a whole."""
        self._engine = engine
        self._limits = limits
        self._segments = segments.Segments(limits.segments)
        self._name = f"process:{uuid.uuid4()}"  # a process that starts anew is another writer
        self._groups = 0
        self._wake = threading.Condition()
        self._jobs: deque[Job[Any] | LabelJob] = deque()
        self._batches: deque[Waiting] = deque()
        self._queued_records = self._queued_bytes = 0
        self._due: float | None = None
        self._came = self._settled = 0
        self._hurry = 0
        self._closing = False
        self._started = False
        self._counters: Counter[str] = Counter()
        self._apart = writes_side_by_side(engine)
        works = [(True, False), (False, True)] if self._apart else [(True, True)]
        self._threads = [
            threading.Thread(target=self._run, args=work, name=f"ledger-writer-{at}", daemon=True)
            for at, work in enumerate(works)
        ]

    def start(self) -> None:
        """Begin to write; until then jobs are refused.

        Raises: what the database raises, where it cannot be read.
        """
        with self._engine.begin() as connection:
            self._segments.learn(segments.known(connection))
            forget_writers(connection, time.time_ns() // 1000 - _REMEMBER_US)
        with self._wake:
            self._started = True
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for as long as `timeout_s`, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def counters(self) -> dict[str, int]:
        """What was written and dropped since the start, and what waits."""
        with self._wake:
            return {
                **self._counters,
                "queued.records": self._queued_records,
                "queued.jobs": len(self._jobs),
            }

    def put(self, batch: tallies.Batch) -> None:
        """Queue a batch, or drop it whole when the queue is full; never blocks."""
        if refused := self._queue(_waiting(batch)):
            self._drop(batch, refused)

    def keep(self, batch: tallies.Batch, origin: str, number: int) -> Future[bool]:
        """Queue a batch that is acknowledged; where it cannot be, its future says so at once."""
        future: Future[bool] = Future()
        if refused := self._queue(_waiting(batch, origin, number, future)):
            future.set_exception(LedgerUnavailable(f"the ledger takes no records now ({refused}); try again"))
        return future

    def _queue(self, waiting: Waiting) -> str | None:
        """The reason where there was no place."""
        limits = self._limits
        with self._wake:
            if self._closing:
                return "closing"
            if (
                self._queued_records + waiting.records > limits.queued_records
                or self._queued_bytes + waiting.payload > limits.queued_capture_bytes
            ):
                return "queue_full"
            self._batches.append(waiting)
            self._queued_records += waiting.records
            self._queued_bytes += waiting.payload
            self._came += 1
            if self._due is None:
                self._due = time.monotonic() + limits.linger_s
            self._wake.notify_all()
        return None

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """Run `work` in a transaction; the future has its result once that is committed."""
        future: Future[T] = Future()
        self._enqueue(Job(work, future))
        return future

    def submit_labels(self, rows: Sequence[labels.LabelRow]) -> Future[list[labels.Kept]]:
        """As `submit`, for labels: those that wait at the same time are written together."""
        future: Future[list[labels.Kept]] = Future()
        self._enqueue(LabelJob(rows, future))
        return future

    def flush(self, timeout_s: float) -> bool:
        """Wait until every batch that came before this call is stored or dropped; False when the time was up."""
        with self._wake:
            until = self._came
            self._hurry = max(self._hurry, until)
            self._wake.notify_all()
            return self._wake.wait_for(lambda: self._settled >= until, timeout_s)

    def _enqueue(self, job: Job[Any] | LabelJob) -> None:
        with self._wake:
            is_open = self._started and not self._closing
            if not is_open or len(self._jobs) >= self._limits.queued_jobs:
                why = f"{len(self._jobs)} requests wait for it" if is_open else "it is not open"
                job.future.set_exception(LedgerUnavailable(f"the ledger takes nothing now: {why}; try again"))
                return
            self._jobs.append(job)
            self._wake.notify_all()

    def _run(self, jobs: bool, batches: bool) -> None:
        """One thread's work, until the end; `jobs`, `batches`: what of it is its own."""
        while True:
            with self._wake:
                while not (self._closing or (jobs and self._jobs) or (batches and self._batches_due())):
                    # Anew each time: a batch that comes sets the time.
                    self._wake.wait(self._patience() if batches else None)
                due = batches and self._batches_due()
                over = self._closing and not (jobs and self._jobs) and not (batches and self._batches)
            if over:
                return
            if jobs:
                self._serve_jobs()
            if due:
                self._store_batches()

    def _batches_due(self) -> bool:
        if not self._batches:
            return False
        return (
            self._closing
            or self._hurry > self._settled
            or self._queued_records >= self._limits.group_records
            or (self._due is not None and time.monotonic() >= self._due)
        )

    def _patience(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def _serve_jobs(self) -> None:
        """Commit the jobs that wait, together."""
        with self._wake:
            group = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._limits.group_jobs))]
        group = [job for job in group if job.future.set_running_or_notify_cancel()]
        if not group:
            return
        try:
            results = self._committed(group)
        except Exception as error:
            if not is_unavailable(error):
                log.exception("the ledger's writer met an error that is a fault of its own")
            self.count("jobs_failed." + failure_reason(error), len(group))
            for job in group:
                job.future.set_exception(_not_committed(failure_reason(error)))
            return
        for job, result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _committed(self, group: Sequence[Job[Any] | LabelJob]) -> list[Any]:
        """The results of jobs, or the exception where one failed by itself, in order."""
        if is_one(group):
            try:
                return self._transaction(lambda connection: work_bare(connection, group))
            except Exception as error:
                if is_unavailable(error):
                    raise
                if len(group) == 1 and not isinstance(error, sa.exc.IntegrityError):
                    return [error]
                # Another process was first to write the same key, or one of several cannot be kept: look closer.
        return self._transaction(lambda connection: work(connection, group))

    def _store_batches(self) -> None:
        """Add some batches up and store them; in the end they are stored or counted as dropped."""
        taken: list[Waiting] = []
        records = payload = 0
        with self._wake:
            while self._batches and (
                not taken or records + self._batches[0].records <= self._limits.group_records
            ):
                taken.append(self._batches.popleft())
                records, payload = records + taken[-1].records, payload + taken[-1].payload
            self._due = time.monotonic() + self._limits.linger_s if self._batches else None
        groups, futures = self._grouped(taken)
        if groups:
            self._store(groups, futures)
        with self._wake:
            self._queued_records -= records
            self._queued_bytes -= payload
            self._settled += len(taken)
            self._wake.notify_all()

    def _grouped(self, taken: Sequence[Waiting]) -> tuple[list[Group], list[Future[bool] | None]]:
        """All batches of this process as one group, those of others one by one; and who waits for each group."""
        ours = tallies.Delta()
        groups: list[Group] = []
        futures: list[Future[bool] | None] = []
        if any(waiting.future is None for waiting in taken):
            self._groups += 1
            groups.append(Group(self._name, self._groups, ours))
            futures.append(None)
        for waiting in taken:
            if waiting.future is not None and not waiting.future.set_running_or_notify_cancel():
                continue  # whoever sent it has it still
            delta = tallies.Delta()
            try:
                tallies.reduce_batch(waiting.batch, delta, self._segments, self._limits)
            except Exception:
                log.exception("a batch of records could not be read")
                self._drop(waiting.batch, "malformed")
                if waiting.future is not None:  # it would be no better if it came again
                    waiting.future.set_result(True)
                continue
            if waiting.future is None:
                ours.merge(delta)
            else:
                groups.append(Group(waiting.origin, waiting.number, delta))
                futures.append(waiting.future)
        return groups, futures

    def _store(self, groups: Sequence[Group], futures: Sequence[Future[bool] | None]) -> None:
        def put_in(connection: sa.Connection) -> Stored:
            return store(
                connection, groups, self._segments, self._limits, time.time_ns() // 1000, self.review_rules
            )

        try:
            stored = self._retrying()(self._transaction, put_in)
        except Exception as error:
            reason = failure_reason(error)
            log.error("records were not kept: %s", reason, exc_info=not is_unavailable(error))
            for group, future in zip(groups, futures, strict=True):
                if future is None:
                    self.count("dropped.records." + reason, group.delta.records)
                    self.count("dropped.review_tasks." + reason, len(group.delta.tasks))
                else:
                    future.set_exception(_not_committed(reason))
            return
        self._segments.settle(stored.claimed)
        for group, future, fresh in zip(groups, futures, stored.fresh, strict=True):
            # One of ours that is known was committed by the try before, whose end we did not see.
            self.count("stored.records" if fresh or future is None else "known.records", group.delta.records)
            if future is not None:
                future.set_result(fresh)
        for name, count in stored.dropped.items():
            self.count("dropped." + name, count)

    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_unavailable),
            wait=tenacity.wait_exponential(multiplier=0.05, max=1.0) + tenacity.wait_random(0, 0.05),
            stop=self._give_up,
            sleep=self._serve_meanwhile,
            reraise=True,
        )

    def _give_up(self, state: tenacity.RetryCallState) -> bool:
        return self._closing or tenacity.stop_after_delay(self._limits.retry_s)(state)

    def _serve_meanwhile(self, seconds: float) -> None:
        """Wait between two tries, but let no job wait for it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._closing:
            with self._wake:
                self._wake.wait_for(lambda: (self._jobs and not self._apart) or self._closing, left)
            if not self._apart:
                self._serve_jobs()

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        for _ in range(CONFLICTS):
            try:
                return self._once(work)
            except sa.exc.DBAPIError as error:
                if not is_conflict(error):
                    raise
                self.count("conflicts", 1)
        return self._once(work)

    def _once(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    return work(connection)
            except Exception as error:
                if is_unavailable(error) and not is_conflict(error):
                    connection.invalidate()  # whatever state it is in, the next one is new
                raise

    def _drop(self, batch: tallies.Batch, reason: str) -> None:
        self.count("dropped.records." + reason, len(batch.records["row"]))
        self.count("dropped.review_tasks." + reason, sum(len(capture["rows"]) for capture in batch.captures))

    def count(self, name: str, count: int) -> None:
        """Raise one of `counters`."""
        if count:
            with self._wake:
                self._counters[name] += count


def _waiting(
    batch: tallies.Batch, origin: str = "", number: int = 0, future: Future[bool] | None = None
) -> Waiting:
    payload = sum(len(capture["request"]) + len(capture["answer"]) for capture in batch.captures)
    return Waiting(batch, len(batch.records["row"]), payload, origin, number, future)


def _not_committed(reason: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"the ledger could not commit ({reason}), so nothing is promised; send it again: twice counts once"
    )
