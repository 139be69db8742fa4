"""The newest of something, for streams that wait for the next: who is slow sees the latest, never a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

__all__ = ["Changes"]

T = TypeVar("T")


class Changes(Generic[T]):
    """On one event loop."""

    def __init__(self) -> None:
        self._now: T | None = None
        self._next = asyncio.Event()

    @property
    def now(self) -> T | None:
        """The newest; None while there is none."""
        return self._now

    def set(self, value: T) -> None:
        """From now on this is the newest; the same once more is none."""
        if value != self._now:
            self._now = value
            self._next.set()
            self._next = asyncio.Event()

    async def follow(self) -> AsyncIterator[T]:
        """The newest, as soon as there is one, then whatever is newer when it is asked for."""
        seen: T | None = None
        while True:
            waiting = self._next
            if self._now is not None and self._now != seen:
                seen = self._now
                yield seen
            else:
                await waiting.wait()
