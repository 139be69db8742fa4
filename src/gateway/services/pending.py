"""Sees to what waits for its decision's record: judged when that has come, given up when it does not come in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Final

from gateway.errors import GatewayError
from gateway.ledger import Ledger
from gateway.services.intake import Classes

__all__ = ["Waiting"]

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the ledger is looked at while something waits; records take less than that on their usual way."""

IDLE_LOOK_S: Final = 60.0
"""And else: what another gateway left, which is there no more, is found too."""


class Waiting:
    """`kept`, `dropped`: what became of statements that waited, since the start.

    Args:
        classes: a route -> its classes, None for one that is not served.
        look_s, idle_s: as LOOK_S and IDLE_LOOK_S.
    """

    def __init__(
        self, ledger: Ledger, classes: Classes, look_s: float = LOOK_S, idle_s: float = IDLE_LOOK_S
    ) -> None:
        self._ledger = ledger
        self._classes = classes
        self._look_s, self._idle_s = look_s, idle_s
        self._expected = asyncio.Event()
        self.left = 0
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def expect(self) -> None:
        """Something waits from now on; from the event loop's thread."""
        self._expected.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            left = await self.look()
            if left:
                await asyncio.sleep(self._look_s)
                continue
            self._expected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._expected.wait(), self._idle_s)
                await asyncio.sleep(self._look_s)

    async def look(self) -> int:
        """Judge what can be judged now. Returns: how many wait on, as far as is known."""
        try:
            done = await asyncio.wrap_future(self._ledger.resolve_pending(self._classes))
        except GatewayError as error:
            log.warning("feedback that waits for its decisions was not looked at: %s", error)
            return max(1, self.left)
        self.kept.update({kept.value: count for kept, count in done.kept.items()})
        self.dropped.update(done.dropped)
        self.left = done.left
        return done.left
