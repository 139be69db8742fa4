"""What every long-running process does alike: signals, a watched file, memory given back."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
from collections.abc import Callable
from pathlib import Path

__all__ = ["give_back_memory", "listen_to_signals", "watch_file"]


def give_back_memory() -> None:
    """Return to the system what only the start needed: 4 MB of 112, where the C library can."""
    gc.collect()
    gc.freeze()  # what has lived until here lives on: no later collection need look at it
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def listen_to_signals(stop: Callable[[], None], again: Callable[[str], None]) -> None:
    """SIGTERM and SIGINT stop, SIGHUP reads again; on the running loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, again, "SIGHUP")


async def watch_file(file: Path, changed: Callable[[str], None], stop: asyncio.Event) -> None:
    """Tell of every change of a file's content."""
    from watchfiles import awatch

    # The folder is watched, not the file: editors and ConfigMaps put a new file in its place.
    before = file.read_bytes()
    async for _ in awatch(file.parent, recursive=False, stop_event=stop):
        with contextlib.suppress(OSError):
            now = file.read_bytes()
            if now != before:
                before = now
                changed("the file changed")
