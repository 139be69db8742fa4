"""The ledger as the rest of the gateway holds it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.ledger import (
    audit,
    facts,
    labels,
    migrations,
    pending,
    policies,
    retention,
    rolling,
    size,
    urgent,
)
from gateway.ledger.database import shown, writer_engine
from gateway.ledger.forget import Forgotten, find_authored, forget
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import Kept, LabelRow, RouteClasses
from gateway.ledger.limits import Limits
from gateway.ledger.pending import PendingRow, Resolved
from gateway.ledger.reading import Reader
from gateway.ledger.reviewing import Reviews
from gateway.ledger.states import Key
from gateway.ledger.states import find as find_states
from gateway.ledger.states import put as put_states
from gateway.ledger.tallies import Batch
from gateway.ledger.urgent import Urgent
from gateway.ledger.writer import Writer

__all__ = ["Ledger"]

T = TypeVar("T")

PAUSE_S: Final = 0.05
"""Between two steps of tidying: others' work goes first."""


class Ledger(Reviews):
    """Thread-safe. What a future of it was resolved with is on disk; `write_batch` promises nothing and blocks nobody.

    Futures end with LedgerUnavailable when nothing could be kept (full disk, lock, database away, queue full): the same
    request may be sent again. It recovers by itself when the database does.

    Args:
        url: `sqlite:///path` or `postgresql://...`.
        limits: every bound of it.
        clock_us: the time, microseconds since 1970.
        dice: decides when a reviewer gets a task whose truth is known.
    """

    def __init__(
        self,
        url: str,
        limits: Limits | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        dice: random.Random | None = None,
    ) -> None:
        self._url = url
        self._engine = writer_engine(url)
        self._limits = limits or Limits()
        self.reader = Reader(url)
        """Reads what is committed; see `gateway.ledger.reading`."""
        super().__init__(Writer(self._engine, self._limits), self.reader, clock_us, dice or random.Random())

    def open(self) -> None:
        """Make or upgrade the schema, and begin to write.

        Raises: LedgerError when the schema is newer than this gateway; LedgerUnavailable when it cannot be opened.
        """
        try:
            if self._engine.url.get_backend_name() == "sqlite":
                file = Path(str(self._engine.url.database))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(mode=0o600)  # payloads are in it; SQLite gives its other files the same mode
            migrations.upgrade(self._engine)
            self._writer.start()
        except BaseException as error:
            self._engine.dispose()
            if not isinstance(error, (sa.exc.DBAPIError, OSError)):
                raise
            raise LedgerUnavailable(
                f"the ledger {shown(self._engine.url)} cannot be opened: {getattr(error, 'orig', error)}"
            ) from error

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then let go of the database."""
        self._writer.close(timeout_s)
        self._engine.dispose()
        self.reader.close()

    def write_batch(self, batch: Batch) -> None:
        """Take a batch of records; dropped whole and counted where the queue is full."""
        self._writer.put(batch)

    def keep_batch(self, batch: Batch, origin: str, number: int) -> Future[bool]:
        """Take a batch that is acknowledged: the future ends when it is on disk, with whether it was new.

        Sent again, to this ledger or to another process's on the same database, it changes nothing; so a sender keeps a
        batch until it is told, and sends it again where it is not.

        Args:
            origin: who made it, the same through all its restarts; `number`: counts its batches, in the order sent.
                A number at or below the last one that was kept counts as known.
        """
        return self._writer.keep(batch, origin, number)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until every batch taken before is readable, or dropped; False when the time was up."""
        return self._writer.flush(timeout_s)

    def counters(self) -> dict[str, int]:
        """`stored.<what>`, `known.<what>` (sent again), `dropped.<what>.<reason>`, `deleted.<what>.<age or size>`,
        `jobs_failed.<reason>`, `conflicts` since the start; `queued.<what>` now."""
        return self._writer.counters()

    def submit_labels(self, rows: Sequence[LabelRow]) -> Future[list[Kept]]:
        """Keep labels; what became of each, in order. All of them are kept, or none."""
        return self._writer.submit_labels(rows)

    def submit_feedback(
        self, rows: Sequence[LabelRow], waiting: Sequence[PendingRow], *, dry_run: bool = False
    ) -> Future[tuple[list[Kept], list[Kept]]]:
        """Keep labels, and what waits for its decision's record; what became of each. All of them are kept, or none.

        With `dry_run` none is: it is only found out what would become of them.
        """

        def work(connection: sa.Connection) -> tuple[list[Kept], list[Kept]]:
            with connection.begin_nested() as tried:
                kept = labels.keep(connection, rows) if rows else []
                held = pending.hold(connection, waiting, self._limits.pending_labels) if waiting else []
                if dry_run:
                    tried.rollback()
            return kept, held

        return self._writer.submit(work)

    def resolve_pending(self, classes: Callable[[str], RouteClasses | None]) -> Future[Resolved]:
        """Judge what waited for records that have come, and give up what waited too long."""
        return self._writer.submit(partial(pending.resolve, classes=classes, now_us=self._clock_us()))

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """Run `work` in a transaction of the writer; the future has its result once that is committed."""
        return self._writer.submit(work)

    def count(self, name: str, count: int) -> None:
        """Raise one of `counters`, for work that was submitted."""
        self._writer.count(name, count)

    def keep_policy(
        self,
        document: Mapping[str, Any],
        *,
        author: str,
        reason: str,
        source: Mapping[str, Any] | None = None,
        onto: int | None = None,
    ) -> int:
        """Keep a policy and return its version; see `policies.keep`. Waits for the commit.

        Raises: LedgerUnavailable; PolicyConflict, when the latest version is another than `onto`.
        """
        kept = partial(policies.keep, author=author, reason=reason, source=source, onto=onto)
        now_us = self._clock_us()
        return self._writer.submit(lambda inner: kept(inner, document, now_us=now_us)).result()

    def latest_policy(self) -> int:
        """The version in force; 0 for none. Raises: LedgerUnavailable."""
        return self.reader.snapshot(policies.latest_version)

    def find_policy(self, version: int | None = None, *, author: str | None = None) -> policies.Kept | None:
        """A version, or the latest: of all, or of those of an author. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(policies.find, version=version, author=author))

    def policy_history(self, limit: int) -> Sequence[policies.Told]:
        """The newest versions, newest first. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(policies.history, limit=limit))

    def states(self, kind: str) -> dict[Key, dict[str, Any]]:
        """What watchers of a kind remember, by (route, name). Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(find_states, kind=kind))

    def put_states(
        self, kind: str, values: Mapping[Key, Mapping[str, Any] | None], now_us: int | None = None
    ) -> None:
        """Remember, in place of what was; None forgets. All of it or nothing; waits for the commit.

        Raises: LedgerUnavailable.
        """
        at = self._clock_us() if now_us is None else now_us
        self._writer.submit(partial(put_states, kind=kind, values=values, now_us=at)).result()

    def audit(self, actor: str, action: str, subject: str, **details: Any) -> Future[None]:
        """Append to the audit trail by itself; what is written in a job of its own notes it there: `audit.note`.

        Raises: ValueError and TypeError as `audit.note`, from the future.
        """
        now_us = self._clock_us()

        def work(connection: sa.Connection) -> None:
            audit.note(connection, time_us=now_us, actor=actor, action=action, subject=subject, **details)

        return self._writer.submit(work)

    def tidy(self, keep: retention.Keep) -> retention.Step:
        """Roll tallies that are over, and take away what is too old or too much; blocks.

        One small transaction after the other, so that those who wait for the writer hardly notice.
        Returns: all that was deleted. Raises: LedgerUnavailable; what was done until then stays done.
        """
        now_us = self._clock_us()
        for tally in rolling.rolled_of:
            for span in reversed(rolling.SPANS):
                roll = partial(rolling.roll, tally=tally, span=span, now_hour=now_us // HOUR_US)
                while self._writer.submit(roll).result():
                    time.sleep(PAUSE_S)
        whole = retention.Step(more=True)
        while whole.more:
            step = self._writer.submit(partial(retention.step, keep=keep, now_us=now_us)).result()
            for what, count in step.deleted.items():
                self._writer.count(f"deleted.{what}", count)
            whole.deleted += step.deleted
            whole.more, whole.over_bytes = step.more, step.over_bytes
            time.sleep(PAUSE_S if step.more else 0.0)
        while self._writer.submit(partial(size.give_back, max_bytes=keep.max_bytes)).result():
            time.sleep(PAUSE_S)
        return whole

    def forget(self, unit: int, name: str, *, actor: str) -> Forgotten:
        """Take away what can be found of a unit; waits for the commit.

        Args:
            unit: its salted hash. name: the unit itself, which may be the author of labels.
        Raises: LedgerUnavailable; then nothing was taken away.
        """
        authored = self.reader.snapshot(partial(find_authored, name=name))
        work = partial(forget, unit=unit, authored=authored, actor=actor, now_us=self._clock_us())
        done = self._writer.submit(work).result()
        size.clear_log(self._engine)
        return done

    def ask_people(self, asked: Urgent) -> Future[list[int]]:
        """Make urgent tasks of a call that people are asked about; their ids, by row."""
        return self._writer.submit(partial(urgent.ask, asked=asked, now_us=self._clock_us()))

    def people_answers(self, tasks: Sequence[int]) -> dict[int, str]:
        """What reviewers said of urgent tasks, at whichever process. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(urgent.answers, tasks=tasks))

    def is_waited_for(self, task: int) -> bool:
        """Whether a caller may wait for the answer to a task, at whichever process. Raises: LedgerUnavailable."""
        return self.reader.snapshot(partial(urgent.is_waited_for, task=task, now_us=self._clock_us()))

    def expire_urgent(self, decisions: Sequence[bytes] = ()) -> Future[None]:
        """Nobody waits for these any more; tasks whose time is up, and that nobody has begun, are taken away."""
        return self._writer.submit(partial(urgent.expire, decisions=decisions, now_us=self._clock_us()))

    def transact(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """Run some of this room's functions in a transaction; the future has the result once that is committed."""
        return self._writer.submit(work)

    def find_facts(self, wanted: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], labels.Facts]:
        """The facts of kept decisions and of those spoken of before, by (decision id, row); others are left out.

        Raises: LedgerUnavailable.
        """
        return self.reader.snapshot(partial(facts.find, wanted=wanted))
