"""The loop: once a cycle, at one process of all, every part looks at the ledger and does what follows.

A part that fails is logged, counted, and looks again in the next cycle; it never keeps the others from theirs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.autopilot.acting import Standing
from gateway.errors import LedgerUnavailable

__all__ = ["Autopilot", "Part"]

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.05
"""Between two cycles at least: others need the ledger too."""


class Part(Protocol):
    """Something that is looked at in each cycle."""

    name: str

    def look(self, standing: Standing, now_us: int) -> None:
        """Blocks; on a thread of its own. May raise anything."""

    def idle(self) -> None:
        """In place of a look, while another process acts."""


@dataclass(slots=True)
class Autopilot:
    """Runs parts in their order, on one thread.

    Args:
        standing: what is in force now; None while nothing is.
        leads: whether this process is the one that acts; may block.
    """

    parts: Sequence[Part]
    standing: Callable[[], Standing | None]
    leads: Callable[[], bool] = lambda: True
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    failures: dict[str, int] = field(default_factory=dict)
    """Cycles that failed, by part, since the start."""
    seconds: float = 0.0
    """What the last cycle took."""

    def cycle(self) -> None:
        """One look at everything; blocks, and raises nothing."""
        if not self.leads():
            for part in self.parts:
                part.idle()
            return
        begun = time.monotonic()
        for part in self.parts:
            try:
                standing = self.standing()
                if standing is None:
                    return
                part.look(standing, self.clock_us())
            except LedgerUnavailable as error:
                self.failures[part.name] = self.failures.get(part.name, 0) + 1
                log.warning("%s: nothing is known now: %s", part.name, error)
            except Exception:
                self.failures[part.name] = self.failures.get(part.name, 0) + 1
                log.exception("%s failed; it looks again in the next cycle", part.name)
        self.seconds = time.monotonic() - begun

    async def run(self, every_s: Callable[[], float]) -> None:
        """Cycle until cancelled; a cycle that takes longer than `every_s` is followed almost at once."""
        while True:
            begun = time.monotonic()
            await asyncio.to_thread(self.cycle)
            await asyncio.sleep(max(every_s() - (time.monotonic() - begun), PAUSE_S))
