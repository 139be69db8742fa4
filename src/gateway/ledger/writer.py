"""The one thread that writes.

Two kinds of work come to it. *Jobs* (labels, leases, policies) are waited for: they are committed together,
as many as came while the last commit was on its way to the disk, and their futures are resolved after the
commit. *Batches* are not waited for: they are added up until company or time is enough, tried again while the
database cannot take them, and in the end dropped and counted. While batches wait for another try, jobs are
served on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
import tenacity

from gateway.errors import LedgerUnavailable
from gateway.ledger import labels, tallies
from gateway.ledger.database import failure_reason, is_unavailable
from gateway.ledger.limits import Limits

__all__ = ["Writer"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Job(Generic[T]):
    """Work on a connection, and who waits for it. A job that raises leaves nothing behind."""

    work: Callable[[sa.Connection], T]
    future: Future[T]


@dataclass(slots=True)
class LabelJob:
    """Labels that one caller sent together; those of several callers are written in one go."""

    rows: Sequence[labels.LabelRow]
    future: Future[list[labels.Kept]]


class Writer:
    """Owns the thread; `engine` has the only connection that writes."""

    def __init__(self, engine: sa.Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._segments = tallies.Segments(limits.segments)
        self._wake = threading.Condition()
        self._jobs: deque[Job[Any] | LabelJob] = deque()
        self._batches: deque[tuple[tallies.Batch, int, int]] = deque()
        self._queued_records = self._queued_bytes = 0
        self._due: float | None = None
        self._came = self._settled = 0
        self._hurry = 0
        self._closing = False
        self._started = False
        self._counters: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin to write; until then jobs are refused."""
        with self._wake:
            self._started = True
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for as long as `timeout_s`, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

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
        records = len(batch.records["row"])
        payload = sum(len(capture["request"]) + len(capture["answer"]) for capture in batch.captures)
        limits = self._limits
        with self._wake:
            full = (
                self._queued_records + records > limits.queued_records
                or self._queued_bytes + payload > limits.queued_capture_bytes
            )
            if full or self._closing:
                self._drop(batch, "queue_full" if full else "closing")
                return
            self._batches.append((batch, records, payload))
            self._queued_records += records
            self._queued_bytes += payload
            self._came += 1
            if self._due is None:
                self._due = time.monotonic() + limits.linger_s
            self._wake.notify()

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
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._ready():
                    self._wake.wait(self._patience())  # anew each time: a batch that comes sets the time
                over = self._closing and not self._jobs and not self._batches
                batches_due = self._batches_due()
            if over:
                return
            self._serve_jobs()
            if batches_due:
                self._store_batches()

    def _ready(self) -> bool:
        return bool(self._jobs) or self._closing or self._batches_due()

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
            results = self._transaction(lambda connection: _work(connection, group))
        except Exception as error:
            if not is_unavailable(error):
                log.exception("the ledger's writer met an error that is a fault of its own")
            self.count("jobs_failed." + failure_reason(error), len(group))
            for job in group:
                job.future.set_exception(
                    LedgerUnavailable(
                        f"the ledger could not commit ({failure_reason(error)}); nothing was kept, try again"
                    )
                )
            return
        for job, result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _store_batches(self) -> None:
        """Add some batches up and store them; in the end they are stored or counted as dropped."""
        taken: list[tallies.Batch] = []
        records = payload = 0
        with self._wake:
            while self._batches and (
                not taken or records + self._batches[0][1] <= self._limits.group_records
            ):
                batch, its_records, its_payload = self._batches.popleft()
                taken.append(batch)
                records, payload = records + its_records, payload + its_payload
            self._due = time.monotonic() + self._limits.linger_s if self._batches else None
        delta = tallies.Delta()
        for batch in taken:
            part = tallies.Delta()
            try:
                tallies.reduce_batch(batch, part, self._segments, self._limits)
            except Exception:
                log.exception("a batch of records could not be read")
                self._drop(batch, "malformed")
            else:
                delta.merge(part)
        try:
            dropped = self._retrying()(
                self._transaction, lambda connection: tallies.store(connection, delta, self._limits)
            )
        except Exception as error:
            reason = failure_reason(error)
            log.error("records were not kept: %s", reason, exc_info=not is_unavailable(error))
            self.count("dropped.records." + reason, delta.records)
            self.count("dropped.review_tasks." + reason, len(delta.tasks))
        else:
            self.count("stored.records", delta.records)
            delta.dropped += dropped
        for name, count in delta.dropped.items():
            self.count("dropped." + name, count)
        with self._wake:
            self._queued_records -= records
            self._queued_bytes -= payload
            self._settled += len(taken)
            self._wake.notify_all()

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
                self._wake.wait_for(lambda: bool(self._jobs) or self._closing, left)
            self._serve_jobs()

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    return work(connection)
            except Exception as error:
                if is_unavailable(error):
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


def _work(connection: sa.Connection, group: Sequence[Job[Any] | LabelJob]) -> list[Any]:
    """The results of jobs, or the exception where one failed by itself, in order."""
    together = [job for job in group if isinstance(job, LabelJob)]
    rows = [row for job in together for row in job.rows]
    kept = _tried(connection, lambda inner: labels.keep(inner, rows)) if rows else []
    following = iter(kept) if isinstance(kept, list) else None
    results: list[Any] = []
    for job in group:
        if not isinstance(job, LabelJob):
            results.append(_tried(connection, job.work))
        elif following is not None:
            results.append([next(following) for _ in job.rows])
        else:  # one of them cannot be kept: find out which, and keep the others
            results.append(_tried(connection, partial(labels.keep, rows=job.rows)))
    return results


def _tried(connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T | Exception:
    """Within a savepoint, so that what fails by its own fault leaves nothing and the others' work stands."""
    try:
        with connection.begin_nested():
            return work(connection)
    except Exception as error:
        if is_unavailable(error):
            raise
        return error
