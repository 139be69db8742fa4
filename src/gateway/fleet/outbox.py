"""Batches that control has not acknowledged, oldest first: in memory, and on disk once they are old or many.

Why not all on disk: a fleet at peace acknowledges within milliseconds, and a disk that writes every record of every
sidecar would be paid for nothing. Why not all in memory: control may be away for an hour, and a sidecar is small. So
kill -9 costs at most what came in the last `spool_after_s` and was not acknowledged, and `memory_bytes` of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.fleet.encoding import MOST_BATCH_BYTES
from gateway.fleet.spool import HEAD, Spool, Spooled, Torn

__all__ = ["Limits", "Outbox", "Waiting"]

log = logging.getLogger(__name__)

MOST_AGE_S: Final = 20 * 86_400.0
"""What a process finds in its spool that is older is dropped (`too_old`): control forgets after 30 days what it has
counted of whom, and would count it again. Nor does it take a message that is larger than a message may be, as an older
gateway wrote them: `too_large`.
"""

TOLD_S: Final = 10.0
"""At most one line in the log in so many seconds about what is dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory_bytes`: batches in memory; beyond, they go to disk. `spool_after_s`: as do those older than this.
    `spool_bytes`: on disk; beyond, batches are dropped whole (`spool_full`; `spool_failed` where the disk refuses).
    `window`: batches on their way to control; `window_bytes` of them, but for a single one that is larger.
    """

    memory_bytes: int = 4 * 1024 * 1024
    spool_after_s: float = 2.0
    spool_bytes: int = 256 * 1024 * 1024
    window: int = 32
    window_bytes: int = 4 * 1024 * 1024


@dataclass(slots=True)
class Waiting:
    """One batch; either `data` or `spooled` is there."""

    run: bytes
    sequence: int
    records: int
    since: float
    data: bytes | None
    spooled: Spooled | None = None


class Outbox:
    """Thread-safe. Batches come from the thread that drains; what may wait for the disk, or for whoever writes to it
    (`put`, `settle`, `begin`, `next`, `acknowledged`), is not for the thread of an event loop.

    Args: wake: called when there is something to send; must return at once. clock: seconds, monotonic.
    """

    def __init__(
        self,
        spool: Spool,
        limits: Limits,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool, self._limits, self._wake, self._clock = spool, limits, wake, clock
        self._lock = threading.RLock()
        self._waiting: deque[Waiting] = deque()
        self._settled = 0
        # So many at the front were settled: on disk, but for those of the first `window` that it would not take while
        # they were on their way. Quarter of a million files can wait, and are not looked at twice a second.
        self._memory = 0
        self._records = 0
        self._sent = 0
        self._conversation = 0
        self._counts: Counter[str] = Counter()
        self._told = -TOLD_S
        for one in spool.left():
            item = Waiting(one.run, one.sequence, one.records, clock(), None, one)
            if one.age_s <= MOST_AGE_S and one.size <= MOST_BATCH_BYTES + HEAD.size:
                self._append(item)
            elif one.age_s <= MOST_AGE_S:
                self._drop(item, "too_large", f"{one.file.name} has {one.size} bytes, and would be refused")
                self._unlink(item)
            else:
                self._drop(item, "too_old", f"{one.file.name} has waited for {one.age_s / 86_400:.0f} days")
                self._unlink(item)
        self._settled = len(self._waiting)

    def put(self, run: bytes, sequence: int, records: int, data: bytes) -> None:
        """Take a batch; sequences of a run rise."""
        with self._lock:
            self._append(Waiting(run, sequence, records, self._clock(), data))
            self._memory += len(data)
            if self._memory > self._limits.memory_bytes:
                self._settle(everything=True)
        self._wake()

    def settle(self, *, everything: bool = False) -> None:
        """Write what has waited too long to disk; or all of it, before the process ends. Waits for the disk."""
        with self._lock:
            self._settle(everything)

    def next(self, conversation: int | None = None) -> Waiting | None:
        """The next batch to send, with its data; None when there is none, enough are on the way, or `conversation` is
        not the one that `begin` told of last: a thread may come late.
        """
        while True:
            with self._lock:
                if conversation not in (None, self._conversation):
                    return None
                if self._sent >= min(len(self._waiting), self._limits.window):
                    return None
                item = self._waiting[self._sent]
                if self._sent and self._way_bytes + _size(item) > self._limits.window_bytes:
                    return None
                self._sent += 1
                data, spooled = item.data, item.spooled
            if data is None:
                data = self._read(item, spooled)
            if data is not None:
                return Waiting(item.run, item.sequence, item.records, item.since, data)

    @property
    def on_way(self) -> int:
        """Batches that were sent in this conversation and have no answer yet."""
        return self._sent

    @property
    def _way_bytes(self) -> int:
        return sum(_size(self._waiting[at]) for at in range(self._sent))

    def begin(self) -> int:
        """A new conversation, for `next`: whatever has no answer is sent again."""
        with self._lock:
            self._sent = 0
            self._conversation += 1
            return self._conversation

    def acknowledged(self, run: bytes, sequence: int, refused: str = "") -> None:
        """Control has it, or never will; anything else than the oldest is an answer to nothing and left alone."""
        with self._lock:
            item = self._waiting[0] if self._waiting else None
            if item is None or (item.run, item.sequence) != (run, sequence):
                return
            if refused:
                self._drop(item, "refused", refused)
            else:
                self._counts["acknowledged.records"] += item.records
            self._forget(0)
            self._sent = max(0, self._sent - 1)
        self._unlink(item)

    def drop(self, records: int, reason: str, words: str) -> None:
        """Count a batch that could not even be taken."""
        with self._lock:
            self._drop(Waiting(b"", 0, records, 0.0, None), reason, words)

    def counters(self) -> dict[str, int]:
        """`acknowledged.records`, `dropped.records.<reason>`, `dropped.batches.<reason>`; what waits, and where."""
        with self._lock:
            return {
                **self._counts,
                "waiting.batches": len(self._waiting),
                "waiting.records": self._records,
                "waiting.memory_bytes": self._memory,
                "waiting.spool_bytes": self._spool.bytes,
            }

    def _settle(self, everything: bool) -> None:
        at = 0
        old = self._clock() - self._limits.spool_after_s
        while at < len(self._waiting):
            if self._limits.window <= at < self._settled:
                at = self._settled
                continue
            item = self._waiting[at]
            if item.data is not None:
                if not everything and item.since > old:
                    return  # and so are all that came after it
                # What is on its way may be counted already: it is no longer ours to drop.
                why = self._write(item)
                if why is not None and at >= self._sent:
                    if (
                        why[0] == "spool_failed"
                        and self._memory <= self._limits.memory_bytes
                        and not everything
                    ):
                        return  # the disk may be well again before memory is full
                    self._drop(item, *why)
                    self._forget(at)
                    continue
            at += 1
            self._settled = max(self._settled, at)

    def _write(self, item: Waiting) -> tuple[str, str] | None:
        data = item.data or b""
        if not self._spool.fits(len(data)):
            return "spool_full", f"the spool holds {self._spool.bytes} bytes"
        try:
            item.spooled = self._spool.write(item.run, item.sequence, item.records, data)
        except OSError as error:
            return "spool_failed", str(error)
        item.data = None
        self._memory -= len(data)
        return None

    def _read(self, item: Waiting, spooled: Spooled | None) -> bytes | None:
        """Without the lock: whoever drains shall not wait for the disk. None: torn, and no longer waited for."""
        assert spooled is not None
        try:
            return self._spool.read(spooled)
        except (Torn, OSError) as error:
            with self._lock:
                # Meanwhile another conversation may have begun, and found the same.
                window = range(min(len(self._waiting), self._limits.window))
                at = next((at for at in window if self._waiting[at] is item), -1)
                if at < 0:
                    return None
                self._drop(item, "spool_torn", str(error))
                self._forget(at)
                self._sent -= at < self._sent
            self._unlink(item)
            return None

    def _append(self, item: Waiting) -> None:
        self._waiting.append(item)
        self._records += item.records

    def _forget(self, at: int) -> None:
        """Its file, if any, is left to `_unlink`."""
        item = self._waiting[at]
        del self._waiting[at]
        self._settled -= at < self._settled
        self._records -= item.records
        if item.data is not None:
            self._memory -= len(item.data)

    def _unlink(self, item: Waiting) -> None:
        """Without the lock, but for what is counted; room is only there once the file is away."""
        if item.spooled is not None:
            self._spool.unlink(item.spooled)
            with self._lock:
                self._spool.bytes -= item.spooled.size

    def _drop(self, item: Waiting, reason: str, words: str) -> None:
        self._counts[f"dropped.records.{reason}"] += item.records
        self._counts[f"dropped.batches.{reason}"] += 1
        now = self._clock()
        if now - self._told >= TOLD_S:
            self._told = now
            log.warning("a batch of records was dropped: %s", words, extra={"reason": reason})


def _size(item: Waiting) -> int:
    """Bytes of a batch, wherever it is."""
    return item.spooled.size if item.spooled is not None else len(item.data or b"")
