"""A disk of a few megabytes that can be filled and emptied; it takes the right to mount one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["filled", "small_disk"]


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """An empty folder on it. The test is skipped where nothing may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-disk-"))
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small disk takes the right to mount one, and here: {made.stderr.strip()}")
    try:
        folder.chmod(0o755)
        within = folder / "data"
        within.mkdir()
        yield within
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def filled(disk: Path, but: int = 0) -> Iterator[None]:
    """Within it there is not a page left; or there are so many bytes, for the beginning."""
    filler = disk.parent / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (65_536, 4_096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
            file.truncate(file.tell() - but)
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize <= but
        yield
    finally:
        filler.unlink()
