"""Labels of calls that come at the same time go to the ledger together.

A call's way to the ledger's thread and back wakes two threads that want one interpreter, and costs more than keeping
its label. So what comes while others are on their way to the disk waits for company, for as long as it would have
waited for the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, LabelRow, Ledger

__all__ = ["GROUP_ROWS", "UNDER_WAY", "WAITING_ROWS", "Gathering"]

GROUP_ROWS: Final = 5_000
"""Labels that are handed over together, where one call alone has not more."""

WAITING_ROWS: Final = 100_000
"""Labels that wait; beyond, calls are refused."""

UNDER_WAY: Final = 2
"""Groups at the ledger: it writes one while the event loop hears of the other."""


@dataclass(slots=True)
class _Call:
    rows: Sequence[LabelRow]
    answer: asyncio.Future[list[Kept]]


class Gathering:
    """For one event loop; `ledger` keeps what it is given."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[_Call] = deque()
        self._rows = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, rows: Sequence[LabelRow]) -> list[Kept]:
        """Keep a call's labels; what became of each, in order, once they are on disk. All of them are kept, or none.

        Raises: LedgerUnavailable; then they may be sent again.
        """
        if self._rows + len(rows) > WAITING_ROWS and self._waiting:
            raise LedgerUnavailable(
                f"the ledger takes nothing now: {self._rows:,} labels wait for it; try again"
            )
        call = _Call(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._rows += len(rows)
        if len(self._tasks) < UNDER_WAY:
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await call.answer

    async def _run(self) -> None:
        """Hand groups over until nobody waits."""
        while group := self._taken():
            await self._commit(group)

    def _taken(self) -> list[_Call]:
        group: list[_Call] = []
        rows = 0
        while self._waiting and (not group or rows + len(self._waiting[0].rows) <= GROUP_ROWS):
            call = self._waiting.popleft()
            self._rows -= len(call.rows)
            if not call.answer.done():  # whoever sent it has gone
                group.append(call)
                rows += len(call.rows)
        return group

    async def _commit(self, group: Sequence[_Call]) -> None:
        """Keep a group, and tell each call; where one of several cannot be kept, each by itself."""
        try:
            kept = await asyncio.wrap_future(
                self._ledger.submit_labels([row for call in group for row in call.rows])
            )
        except asyncio.CancelledError:
            for call in group:
                call.answer.cancel()
            raise
        except Exception as error:
            if len(group) > 1 and not isinstance(error, LedgerUnavailable):
                await asyncio.gather(*(self._commit([call]) for call in group))
                return
            for call in group:
                if not call.answer.done():
                    call.answer.set_exception(error)
            return
        following = iter(kept)
        for call in group:
            its = [next(following) for _ in call.rows]
            if not call.answer.done():
                call.answer.set_result(its)
