"""Batches on disk while control is away: one file each, whole or not at all.

A file is written beside its place and renamed, so that kill -9 leaves it whole or absent; its sum tells what a power
cut tore. Nothing waits for the disk itself: records of the last seconds before a power cut may be lost, those before
a killed process are not.
"""

from __future__ import annotations

import contextlib
import re
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Spool", "Spooled", "Torn"]

MAGIC: Final = b"GWB1"

HEAD: Final = struct.Struct("<4sIIQ")
"""Magic, sum, records, length."""

_NAME = re.compile(r"(\d{8})-([0-9a-f]{32})-(\d{20})\.batch\Z")


class Torn(Exception):
    """A file that is not what was written."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A batch on disk. `size`: bytes of the file; `age_s`: how old it was when it was found."""

    file: Path
    run: bytes
    sequence: int
    records: int
    size: int
    age_s: float = 0.0


class Spool:
    """One folder, one process.

    Args: most_bytes: what the files may hold together.
    Raises: OSError, if the folder cannot be made or read.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # payloads are in it
        for draft in folder.glob("*.draft"):
            draft.unlink(missing_ok=True)
        self.bytes = 0
        self._found: list[Spooled] = []
        generations = [0]
        for file in sorted(folder.iterdir()):
            match = _NAME.match(file.name)
            if match is not None:
                generations.append(int(match[1]))
                self._found.append(self._look(file, bytes.fromhex(match[2]), int(match[3])))
        self._generation = max(generations) + 1
        self.bytes = sum(one.size for one in self._found)

    def left(self) -> Iterator[Spooled]:
        """What earlier processes left behind, in the order in which it came."""
        yield from self._found
        self._found = []

    def fits(self, size: int) -> bool:
        """Whether a batch of so many bytes has room."""
        return self.bytes + size + HEAD.size <= self._most_bytes

    def write(self, run: bytes, sequence: int, records: int, data: bytes) -> Spooled:
        """Raises: OSError; then nothing is left of it."""
        file = self._folder / f"{self._generation:08d}-{run.hex()}-{sequence:020d}.batch"
        draft = file.with_suffix(".draft")
        try:
            with draft.open("wb") as stream:
                stream.write(HEAD.pack(MAGIC, zlib.crc32(data), records, len(data)))
                stream.write(data)
            draft.rename(file)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        size = HEAD.size + len(data)
        self.bytes += size
        return Spooled(file, run, sequence, records, size)

    def read(self, spooled: Spooled) -> bytes:
        """Raises: Torn, OSError."""
        held = spooled.file.read_bytes()
        if len(held) < HEAD.size:
            raise Torn(f"{spooled.file.name} has {len(held)} bytes")
        magic, total, _, length = HEAD.unpack_from(held)
        data = held[HEAD.size :]
        if magic != MAGIC or length != len(data) or total != zlib.crc32(data):
            raise Torn(f"{spooled.file.name} is not what was written")
        return data

    def unlink(self, spooled: Spooled) -> None:
        """It is at control, or given up. Whoever guards `bytes` then takes its size off."""
        with contextlib.suppress(OSError):
            spooled.file.unlink()

    def _look(self, file: Path, run: bytes, sequence: int) -> Spooled:
        with file.open("rb") as stream:
            head = stream.read(HEAD.size)
        records = HEAD.unpack(head)[2] if len(head) == HEAD.size else 0
        found = file.stat()
        return Spooled(file, run, sequence, records, found.st_size, time.time() - found.st_mtime)
