"""Certificates while a gateway runs: checked before they are used, watched, taken anew, counted down.

The data plane reads the files, judges them and swaps them in; here is only known when it should look again. Folders are
watched, not files: Kubernetes swaps a link (`..data`) beside them, others rename a new file into place. Where nothing
can be watched, and besides, the files are looked at every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final, Protocol

from gateway.config import Fault, Settings
from gateway.config.faults import Path, show_path
from gateway.config.source import Source
from gateway.config.tls import BACKEND_FILES, LISTEN_FILES

__all__ = ["CertificateWatch", "certificate_faults", "certificate_files", "expires_soon", "listen_tls"]

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often the files are looked at, however quiet their folders are."""

SETTLE_S: Final = 1.0
"""Files that do not fit each other are looked at again after this: key and certificate may be written one by one."""

MOST_WARNING_S: Final = 14 * 86_400.0
"""How long before its end a certificate is warned of, at most; a short-lived one in the last fifth of its life."""

Certificate = Mapping[str, Any]
Stamp = tuple[tuple[int, int, int] | None, ...]


class Certified(Protocol):
    """What of the data plane is needed here."""

    def reload_certificates(self) -> Mapping[str, list[Any]]:
        """Reads the files again."""

    def certificates(self) -> Sequence[Certificate]:
        """What is in use."""


def listen_tls(settings: Settings) -> dict[str, str | None] | None:
    """The listener's files, as the data plane wants them."""
    tls = settings.listen.tls
    return None if tls is None else {name: getattr(tls, name) for name in LISTEN_FILES}


def certificate_files(settings: Settings) -> list[FilePath]:
    """Every file that certificates, keys and trust are read from."""
    blocks: list[tuple[Any, Sequence[str]]] = [(settings.listen.tls, LISTEN_FILES)]
    blocks += [(backend.tls, BACKEND_FILES) for backend in settings.backends.values()]
    named = (getattr(block, name) for block, names in blocks if block is not None for name in names)
    return sorted({FilePath(file) for file in named if file is not None})


def certificate_faults(settings: Settings, source: Source) -> tuple[list[Fault], list[Fault]]:
    """Faults and warnings of all files, each at the setting that names it."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    for place, side, files in _sides(settings):
        found = _checked(side, json.dumps(files))
        faults += (_fault(source, place, one) for one in found["faults"])
        warnings += (_fault(source, place, one) for one in found["warnings"])
        for one in found["certificates"]:
            if not found["faults"] and expires_soon(one, time.time()):
                words = f"{one['file']}: it expires in {_left(one['not_after'] - time.time())}"
                warnings.append(source.fault((*place, one["setting"]), words, mend="renew it"))
    return faults, warnings


def _checked(side: str, files: str) -> dict[str, list[dict[str, Any]]]:
    from gateway._dataplane import check_certificates

    return check_certificates(side, files)


def _sides(settings: Settings) -> Iterator[tuple[Path, str, dict[str, str | None]]]:
    listening = listen_tls(settings)
    if listening is not None:
        yield ("listen", "tls"), "listen", listening
    for name, backend in settings.backends.items():
        if backend.tls is not None:
            yield ("backends", name, "tls"), "backend", backend.tls.model_dump()


def _fault(source: Source, place: Path, one: Mapping[str, str]) -> Fault:
    path = source.existing((*place, one["setting"])) or (*place, one["setting"])
    return source.fault(path, _words(one), mend=one["mend"])


def _words(one: Mapping[str, str]) -> str:
    return f"{one['file']}: {one['found']}" if one["file"] else one["found"]


def expires_soon(one: Certificate, now_s: float) -> bool:
    """Whether a certificate is near its end, by its own measure."""
    life_s = float(one["not_after"] - one["not_before"])
    return bool(one["not_after"] - now_s < min(MOST_WARNING_S, life_s / 5))


def _left(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 0):.0f} seconds"


class CertificateWatch:
    """Has the data plane look again whenever a file has changed.

    Args:
        plane: whose certificates they are.
        clock: unix seconds.
    """

    def __init__(self, plane: Certified, clock: Callable[[], float] = time.time) -> None:
        self._plane = plane
        self._clock = clock
        self._files: tuple[FilePath, ...] = ()
        self._moved = asyncio.Event()
        self._warned: set[tuple[str, int, bool]] = set()

    def follow(self, files: Iterable[FilePath]) -> None:
        """From now on these are the files."""
        fresh = tuple(files)
        if fresh != self._files:
            self._files = fresh
            self._moved.set()

    async def run(self) -> None:
        """Watches until cancelled; whatever goes wrong, it goes on."""
        while True:
            self._moved.clear()
            if not self._files:
                await self._moved.wait()
                continue
            # What is watched for the first time may have changed since it was read.
            before: Stamp | None = None
            async for _ in self._looks():
                try:
                    before = await self._look(before)
                except Exception:
                    log.exception("certificates could not be looked at; tried again in %g s", LOOK_S)

    async def _look(self, before: Stamp | None) -> Stamp:
        now = await asyncio.to_thread(_stamp, self._files)
        if now != before:
            faults = await self._take()
            if faults and before is not None:
                await asyncio.sleep(SETTLE_S)
                now = await asyncio.to_thread(_stamp, self._files)
                faults = await self._take()
            for one in faults:
                place = show_path((*one["place"], one["setting"]))
                mend = f" ({one['mend']})" if one["mend"] else ""
                log.error(
                    "certificate not taken, the old one stays in use: %s: %s%s", place, _words(one), mend
                )
        self._warn()
        return now

    async def _take(self) -> list[Any]:
        result = await asyncio.to_thread(self._plane.reload_certificates)
        for place in result["taken"]:
            log.info("certificates taken for new connections", extra={"place": show_path(place)})
        return result["faults"]

    def _warn(self) -> None:
        now = self._clock()
        for one in self._plane.certificates():
            gone = one["not_after"] <= now
            key = (str(one["file"]), int(one["not_after"]), gone)
            if key in self._warned or not expires_soon(one, now):
                continue
            self._warned.add(key)
            left = "has expired" if gone else f"expires in {_left(one['not_after'] - now)}"
            place = show_path((*one["place"], one["setting"]))
            log.warning("the certificate of %s %s (%s)", place, left, one["file"])

    async def _looks(self) -> AsyncIterator[None]:
        """Comes back when something may have changed, and every few seconds; ends when the files are others."""
        from watchfiles import awatch

        folders = sorted({str(file.parent) for file in self._files if file.parent.is_dir()})
        yield
        while not self._moved.is_set():
            with contextlib.suppress(OSError):
                if folders:
                    changes = awatch(
                        *folders,
                        recursive=False,
                        stop_event=self._moved,
                        rust_timeout=int(LOOK_S * 1000),
                        yield_on_timeout=True,
                        debounce=200,
                    )
                    async for _ in changes:
                        yield
                        if self._moved.is_set():
                            return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), LOOK_S)
            yield


def _stamp(files: Iterable[FilePath]) -> Stamp:
    def of(file: FilePath) -> tuple[int, int, int] | None:
        try:
            found = file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    return tuple(map(of, files))
