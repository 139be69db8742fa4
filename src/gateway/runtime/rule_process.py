"""One process that judges rules in Python, as the gateway holds it: started, asked, ended."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Ended", "Hung", "NotLoaded", "RuleProcess", "Verdict"]

WORKER: Final = Path(__file__).with_name("rule_worker.py")

LOAD_S: Final = 30.0
"""How long the modules of rules may take to be imported."""

HANG_S: Final = 1.0
"""How long past its time a function may hold its process; then the process is ended."""

END_S: Final = 2.0

Verdict = bool | list[bool] | None
"""Whether a rule holds, for all or by row; None where there is no answer."""


class Ended(Exception):
    """The process is no more, by what a function did or from outside."""


class Hung(Exception):
    """A function does not come back."""


@dataclass(frozen=True, slots=True)
class NotLoaded(Exception):
    """What could not be loaded: by function, kind, words, and the names that there are instead."""

    faults: Mapping[str, tuple[str, str, list[str]]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a function said, or how it failed and where."""

    verdict: Verdict
    failed: str = ""
    where: str = ""


class RuleProcess:
    """Started by its making; to be closed.

    Args:
        folder: where modules are looked for first. functions: number of arguments by `module:function`.
    Raises: NotLoaded; Ended or Hung, when it did not come so far.
    """

    def __init__(self, folder: Path, functions: Mapping[str, int]) -> None:
        self._stream, theirs = socket.socketpair()
        try:
            with theirs:
                # -P: the folder of the worker's own file holds the gateway's modules, whose names hide others
                self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a call
                    [sys.executable, "-P", str(WORKER), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what a function prints goes where the log goes
                    close_fds=True,
                )
        except OSError as error:
            self._stream.close()
            raise Ended(f"cannot start: {error.strerror}") from error
        try:
            self._send(json.dumps({"folder": str(folder), "functions": dict(functions)}).encode())
            faults = json.loads(self._receive(time.monotonic() + LOAD_S))
        except BaseException:
            self.kill()
            raise
        if faults:
            self.kill()
            raise NotLoaded({name: tuple(fault) for name, fault in faults.items()})

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def ask(self, function: str, values: bytes, timeout_s: float) -> Said:
        """Raises: Ended, Hung; the process is of no further use then."""
        self._send(b"%s\n%.6f\n%s" % (function.encode(), timeout_s, values))
        said: dict[str, Any] = json.loads(self._receive(time.monotonic() + timeout_s + HANG_S))
        if "holds" in said:
            return Said(said["holds"])
        return Said(None, str(said["failed"]), str(said["where"]))

    def close(self) -> None:
        """Let it end by itself, else end it."""
        self._stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
            return
        self.kill()

    def kill(self) -> None:
        """End it now."""
        self._stream.close()
        self._process.kill()
        self._process.wait()

    def _send(self, body: bytes) -> None:
        try:
            self._stream.settimeout(HANG_S)
            self._stream.sendall(struct.pack(">I", len(body)) + body)
        except TimeoutError:
            raise Hung from None
        except OSError:
            raise Ended from None

    def _receive(self, until: float) -> bytes:
        (length,) = struct.unpack(">I", self._exactly(4, until))
        return self._exactly(length, until)

    def _exactly(self, count: int, until: float) -> bytes:
        parts = []
        while count:
            try:
                self._stream.settimeout(max(0.001, until - time.monotonic()))
                part = self._stream.recv(min(count, 1 << 20))
            except TimeoutError:
                raise Hung from None
            except OSError:
                raise Ended from None
            if not part:
                raise Ended
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
