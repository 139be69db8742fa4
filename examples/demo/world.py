"""Everything that runs: two model servers and the gateway, each a process of its own, on free ports of loopback."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from examples.oip_server import ServerProcess, warm_up

__all__ = ["World"]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "gateway.cli")
TEMPLATE = Path(__file__).with_name("gateway.yaml")
READY_S = 90.0


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [taken.getsockname()[1] for taken in sockets]


class World:
    """The demo's processes, and what they keep, under `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings = directory / "gateway.yaml"
        self._log = directory / "gateway.log"
        inference, admin, primary, others = _free_ports(4)
        self.address = f"127.0.0.1:{inference}"
        self.admin = f"127.0.0.1:{admin}"
        models = {name: directory / f"{name}.joblib" for name in ("eight", "eight_small", "eight_next")}
        self.primary = ServerProcess({"eight": models.pop("eight")}, directory / "primary.log", primary)
        self._others = ServerProcess(models, directory / "others.log", others)
        self._gateway: subprocess.Popen[bytes] | None = None

    def start_gateway(self) -> None:
        """Start the gateway and go on: it does not mind that there is no model yet."""
        warm_up()
        text = string.Template(TEMPLATE.read_text()).substitute(
            inference=self.address,
            admin=self.admin,
            primary=self.primary.address,
            others=self._others.address,
        )
        self.settings.write_text(text)
        with self._log.open("ab") as log:
            self._gateway = subprocess.Popen(
                [*COMMAND, "serve", str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=_environment(),
            )

    def start_models(self) -> None:
        """Start the model servers, whose files are in the folder by now; return when everything is ready.

        Raises: RuntimeError, with the log of what did not start.
        """
        with ThreadPoolExecutor(2) as pool:
            for started in [pool.submit(server.start) for server in (self.primary, self._others)]:
                started.result()
        assert self._gateway is not None
        deadline = time.monotonic() + READY_S
        while not self._ready():
            if self._gateway.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def report(self) -> dict[str, Any]:
        """What `gateway report FILE --json` says of the demo's route.

        Raises: RuntimeError, with what the command said.
        """
        result = subprocess.run(
            [*COMMAND, "report", str(self.settings), "--json"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=_environment(),
            timeout=60,
        )
        if result.returncode != 0:
            raise RuntimeError(f"gateway report ended with {result.returncode}:\n{result.stderr}")
        route: dict[str, Any] = json.loads(result.stdout)["routes"]["eight"]
        return route

    def stop(self) -> None:
        process, self._gateway = self._gateway, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.primary.stop()
        self._others.stop()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
