"""Memory that a sidecar gives back once it serves: a sidecar stands beside every model server and is small.

Of 30 MB of libraries that the start reads (numpy, grpc, Python itself), calls need a third. The rest stays mapped, and
counts as resident, until the kernel is short of memory; here it is told that nobody needs it. What is needed after all
comes back from the page cache, 64 KB at a time, without the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["few_arenas", "let_go_of_libraries"]

log = logging.getLogger(__name__)

ARENAS: Final = 2
"""Heaps of the C library; else there is one for each thread, and each keeps what its thread freed."""

_M_ARENA_MAX: Final = -8
_MADV_DONTNEED: Final = 4
_SMAPS: Final = Path("/proc/self/smaps")


@dataclass(slots=True)
class _Mapping:
    start: int
    end: int
    may: str
    file: str
    own_kb: int = 0


def few_arenas() -> None:
    """Before there are threads; where the C library is not glibc, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def let_go_of_libraries() -> int:
    """Unmap the pages of code and constants, which are the same in the file; returns how many KB they were mapped over.

    Only what was never written to: relocated tables are the process's own, and would be lost.
    """
    freed_kb = 0
    try:
        found = list(_mappings(_SMAPS.read_text()))
        advise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError) as error:
        log.debug("libraries stay mapped: %s", error)
        return 0
    for one in found:
        if one.file.startswith("/") and one.may in ("r-xp", "r--p") and not one.own_kb:
            length = one.end - one.start
            if advise(ctypes.c_void_p(one.start), ctypes.c_size_t(length), _MADV_DONTNEED) == 0:
                freed_kb += length // 1024
    return freed_kb


def _mappings(smaps: str) -> Iterator[_Mapping]:
    """See proc(5). `own_kb`: of the process alone, in memory or swapped out."""
    found: _Mapping | None = None
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            if found is not None:
                yield found
            start, _, end = words[0].partition("-")
            found = _Mapping(int(start, 16), int(end, 16), words[1], words[5] if len(words) > 5 else "")
        elif found is not None and words[0] in ("Anonymous:", "Swap:"):
            found.own_kb += int(words[1])
    if found is not None:
        yield found
