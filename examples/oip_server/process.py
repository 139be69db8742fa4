"""The server as a process of its own, so that it can be killed as a real one would be, and come back.

Forked from a server process that has imported scikit-learn once (multiprocessing's forkserver): importing it takes
seconds on a busy machine, and a demo that kills its model should not wait for that twice. gRPC is imported there too
but never used, so there are no threads of it to lose in a fork.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType

import grpc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .faults import Faults, set_faults
from .models import ServedModel
from .service import Service, run

__all__ = ["ServerProcess", "warm_up"]

_CONTEXT = multiprocessing.get_context("forkserver")
_HEAVY = ["sklearn.linear_model", "sklearn.neural_network", "grpc.aio", "tritonclient.grpc.service_pb2"]


def warm_up() -> None:
    """Begin to import what servers need, and go on; `ServerProcess.start` is quick from then on."""
    _CONTEXT.set_forkserver_preload(_HEAVY)
    forkserver.ensure_running()


class ServerProcess:
    """Starts on `port`, or on a free one, and always comes back to that port.

    As with all of multiprocessing, a script that uses it stands under `if __name__ == "__main__":`.
    """

    def __init__(self, models: Mapping[str, Path], log: Path, port: int = 0) -> None:
        self._models = dict(models)
        self._log = log
        self._process: ForkServerProcess | None = None
        self._port = port

    @property
    def address(self) -> str:
        if not self._port:
            raise RuntimeError("not started yet: it has no address")
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is None or self._process.pid is None:
            raise RuntimeError("not running: it has no process id")
        return self._process.pid

    def start(self, timeout_s: float = 90.0) -> None:
        """Return when it listens.

        Raises: RuntimeError, when it ends or says nothing within `timeout_s`; with what it wrote.
        """
        warm_up()
        self._log.touch()
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        with ours:
            self._process = _CONTEXT.Process(
                target=_serve,
                args=(self._models, self._port, self._log, theirs),
                name="oip_server",
                daemon=True,
            )
            self._process.start()
            theirs.close()  # so that its end is the end of the pipe
            try:
                said = ours.recv() if ours.poll(timeout_s) else None
            except EOFError:
                said = None
        if said is None:
            self.kill()
            raise RuntimeError(f"the model server did not start:\n{self._log.read_text()[-2000:]}")
        self._port = int(said.rpartition(":")[2])

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
            process.join(grace_s)
        process.kill()
        process.join()
        process.close()

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _serve(models: Mapping[str, Path], port: int, log: Path, parent: Connection) -> None:
    """The child: serve, and tell the parent where."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    # Small matrices: threads that wait for each other took twenty times as long as one alone on a busy machine.
    with threadpool_limits(1):
        loaded = {name: ServedModel.load(path) for name, path in models.items()}
        asyncio.run(run(Service(loaded, faulty=True), f"127.0.0.1:{port}", parent.send))
