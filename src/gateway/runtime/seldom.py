"""Says the same thing seldom: at once, and then with how often it happened meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Seldom"]

SELDOM_S: Final = 10.0
"""At most one line in the log in so many seconds, for each thing and what is wrong with it."""


class Seldom:
    """Says a thing at once, and then at most once in `SELDOM_S` with how often it happened meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def due(self, *key: str) -> int | None:
        """How often it happened since it was said last, this time included; None while it is not to be said."""
        now, of = self._clock(), (key[0], key[1])
        with self._lock:
            at, count = self._said.get(of, (-SELDOM_S, 0))
            if now - at < SELDOM_S:
                self._said[of] = (at, count + 1)
                return None
            self._said[of] = (now, 0)
            return count + 1
