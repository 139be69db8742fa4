"""Takes the batches of all sidecars: decoded and added up on a thread, committed together, answered after the commit.

Groups follow one another, and a batch whose conversation has failed is left out: a batch must never be counted before
one that came earlier in its run, which would then be taken for counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import LedgerUnavailable
from gateway.fleet import Malformed, decode
from gateway.ledger import Ledger
from gateway.ledger.fleet import Intake
from gateway.ledger.storing import Group
from gateway.runtime.batch import Batch
from gateway.v1 import fleet_pb2

__all__ = ["Batches", "Conversation"]

log = logging.getLogger(__name__)

GROUP_BYTES: Final = 16 * 1024 * 1024
"""Batches added up and committed together."""

WAITING_BYTES: Final = 128 * 1024 * 1024
"""Of all batches that wait; beyond, no further one is read from any sidecar until some are committed."""


@dataclass(eq=False, slots=True)
class Conversation:
    """One PushRecords call. Once one of its batches was not kept, none that came after it may be."""

    failed: bool = False


@dataclass(slots=True)
class _Waiting:
    conversation: Conversation
    message: fleet_pb2.RecordBatch
    size: int
    answer: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    """From `start` to `stop`, on one event loop.

    Args: seen: shown every batch that was counted, such as to learn rates from; on the event loop, so it must be quick.
    """

    def __init__(self, ledger: Ledger, seen: Callable[[Batch], None] = lambda batch: None) -> None:
        self._keeper, self._seen = Intake(ledger), seen
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._task: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Whatever has no answer gets none: it will be sent again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()
        self._thread.shutdown(wait=True)

    def counters(self) -> dict[str, int]:
        """`batches.<counted|again|refused|unavailable>` since the start; `waiting.bytes` now."""
        return {**self._counts, "waiting.bytes": self._bytes}

    async def put(self, conversation: Conversation, message: fleet_pb2.RecordBatch) -> asyncio.Future[str]:
        """Queue a batch once there is room.

        The future has "" when it is on disk, else why it never will be; it ends with LedgerUnavailable when it was not
        kept and may be sent again.
        """
        waiting = _Waiting(conversation, message, message.ByteSize())
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._bytes or self._bytes + waiting.size <= WAITING_BYTES
            )
            self._waiting.append(waiting)
            self._bytes += waiting.size
            self._changed.notify_all()
        return waiting.answer

    async def _run(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                group, size = [self._waiting.popleft()], 0
                size = group[0].size
                while self._waiting and size + self._waiting[0].size <= GROUP_BYTES:
                    size += self._waiting[0].size
                    group.append(self._waiting.popleft())
            try:
                await self._take(group)
            finally:
                async with self._changed:
                    self._bytes -= size
                    self._changed.notify_all()

    async def _take(self, group: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        left: list[tuple[_Waiting, Group, Batch]] = []
        for waiting in group:
            if waiting.conversation.failed:
                self._fail(
                    waiting, LedgerUnavailable("an earlier batch of this call was not kept; send it again")
                )
                continue
            try:
                left.append(
                    (waiting, *await loop.run_in_executor(self._thread, self._added_up, waiting.message))
                )
            except Malformed as error:
                self._refuse(waiting, str(error))
            except Exception:
                log.exception("a batch of a sidecar could not be added up")
                self._refuse(waiting, "it could not be added up; control's log says why")
        if not left:
            return
        try:
            await self._keep(left)
        except LedgerUnavailable as error:
            for waiting, _, _ in left:
                self._fail(waiting, error)
        except Exception:
            log.exception("batches of sidecars could not be kept together; each is tried by itself")
            await self._keep_each(left)

    async def _keep(self, left: list[tuple[_Waiting, Group, Batch]]) -> None:
        fresh = await asyncio.wrap_future(
            self._keeper.keep([group for _, group, _ in left], time.time_ns() // 1000)
        )
        for (waiting, _, batch), counted in zip(left, fresh, strict=True):
            self._counts["batches.counted" if counted else "batches.again"] += 1
            if counted:
                self._show(batch)
            if not waiting.answer.done():
                waiting.answer.set_result("")

    def _show(self, batch: Batch) -> None:
        try:
            self._seen(batch)
        except Exception:  # the batch is stored: it must not be taken for one that was not
            log.exception("a batch that was counted could not be shown to who learns from it")

    async def _keep_each(self, left: list[tuple[_Waiting, Group, Batch]]) -> None:
        """One of them is at fault: it is refused, and the others are kept."""
        for one in left:
            waiting = one[0]
            if waiting.conversation.failed:
                self._fail(
                    waiting, LedgerUnavailable("an earlier batch of this call was not kept; send it again")
                )
                continue
            try:
                await self._keep([one])
            except LedgerUnavailable as error:
                self._fail(waiting, error)
            except Exception:
                log.exception("a batch of a sidecar could not be kept")
                self._refuse(waiting, "the ledger does not take it; control's log says why")

    def _added_up(self, message: fleet_pb2.RecordBatch) -> tuple[Group, Batch]:
        batch = decode(message)
        return self._keeper.reduce(batch, message.run, message.sequence), batch

    def _refuse(self, waiting: _Waiting, why: str) -> None:
        self._counts["batches.refused"] += 1
        log.error("a batch of a sidecar was refused: %s", why, extra={"sidecar": waiting.message.sidecar})
        if not waiting.answer.done():
            waiting.answer.set_result(why)

    def _fail(self, waiting: _Waiting, error: LedgerUnavailable) -> None:
        waiting.conversation.failed = True
        self._counts["batches.unavailable"] += 1
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
            waiting.answer.exception()  # it is seen: who asked may be gone
