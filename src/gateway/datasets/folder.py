"""A folder that appears whole or not at all.

It is written beside its place under a hidden name and moved there when all of it is on disk. Whatever ends the work
before that (a full disk, Ctrl-C, a fault) takes it away again; a process that is killed leaves the hidden folder, which
the next one to the same place removes. Where a data set is replaced, a kill between two renames
leaves the old one under a hidden name, whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.errors import DataSetError

__all__ = ["CARD", "place"]

CARD: Final = "card.json"
"""What makes a folder a data set: `--force` takes nothing else away."""

_LOCK: Final = ".lock"


@contextlib.contextmanager
def place(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder to write into; when the block ends well, it is `out`.

    Raises: DataSetError, when something stands there that may not be replaced, or when the disk does not take it.
    """
    out = Path(os.path.abspath(out))
    _check(out, force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        draft = out.with_name(f".{out.name}.{os.getpid()}.part")
        draft.mkdir(mode=0o700)  # labels and inputs are in it
    except OSError as error:
        raise _failed(out, error) from error
    try:
        with _locked(draft):
            yield draft
            _to_disk(draft)
        (draft / _LOCK).unlink()
        _check(out, force)  # it may have come meanwhile
        _move(draft, out)
    except OSError as error:
        raise _failed(out, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise DataSetError(f"{out} is no folder, wanted one that does not exist yet; give --out another name")
    held = {entry.name for entry in out.iterdir()}
    if not held:
        return
    if CARD not in held:
        raise DataSetError(
            f"{out} holds something else than a data set; give --out another name, or empty it"
        )
    if not force:
        raise DataSetError(
            f"{out} holds a data set already; give --out another name, or replace it with --force"
        )


def _move(draft: Path, out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        draft.rename(out)  # onto an empty folder too
    else:
        before = out.with_name(f".{out.name}.{os.getpid()}.before")
        out.rename(before)
        try:
            draft.rename(out)
        except OSError:
            before.rename(out)
            raise
        shutil.rmtree(before, ignore_errors=True)
    _sync(out.parent)


def _to_disk(folder: Path) -> None:
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """For as long as this process lives, so that another one can tell a draft in use from one left behind."""
    with (draft / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(out: Path) -> None:
    """Remove drafts that killed processes left."""
    for draft in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
        with contextlib.suppress(OSError), (draft / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(draft, ignore_errors=True)


def _failed(out: Path, error: OSError) -> DataSetError:
    # pyarrow's have the system's words at their end
    why = re.sub(r".*Detail: \[errno \d+\] ", "", error.strerror or str(error), flags=re.DOTALL)
    return DataSetError(f"{out} could not be written: {why}; nothing of it is left behind")
