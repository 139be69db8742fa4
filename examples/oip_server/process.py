"""The server as a process of its own, so that it can be killed as a real one would be, and come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import grpc

from .faults import Faults, set_faults

__all__ = ["ServerProcess"]

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Small matrices on a busy machine: threads that wait for each other took twenty times as long as one alone."""


class ServerProcess:
    """Starts on `port`, or on a free one, and always comes back to that port."""

    def __init__(self, models: Mapping[str, Path], log: Path, port: int = 0) -> None:
        self._models = dict(models)
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._port = port

    @property
    def address(self) -> str:
        if not self._port:
            raise RuntimeError("not started yet: it has no address")
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("not running: it has no process id")
        return self._process.pid

    def start(self, timeout_s: float = 90.0) -> None:
        """Return when it listens.

        Raises: RuntimeError, when it ends or says nothing within `timeout_s`; with what it wrote.
        """
        command = [sys.executable, "-m", "examples.oip_server", "--faults", "--port", str(self._port)]
        command += [f"{name}={path}" for name, path in self._models.items()]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, **ONE_THREAD},
            )
        # A read of a pipe has no timeout: end the process when its time is up, and the read ends with it.
        alarm = threading.Timer(timeout_s, self._process.kill)
        alarm.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        alarm.cancel()
        if not line:
            self.kill()
            raise RuntimeError(f"the model server did not start:\n{self._log.read_text()[-2000:]}")
        self._port = int(json.loads(line)["listening"].rpartition(":")[2])

    def set_faults(self, faults: Faults) -> None:
        with grpc.insecure_channel(self.address) as channel:
            set_faults(channel, faults)

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL, by its id)."""
        self._end(grace_s=0.0)

    def stop(self) -> None:
        """Let it finish what it does (SIGTERM), then end it."""
        self._end(grace_s=5.0)

    def _end(self, grace_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if grace_s:
            process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
        else:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
