"""`gateway serve` as a real process: started on free ports, waited for, signalled and killed by its id."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ruamel.yaml import YAML

__all__ = ["GatewayProcess", "free_ports", "run_gateway", "until"]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "gateway.cli")
Found = TypeVar("Found")
START_S = 60.0
STOP_S = 15.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. Held together until all are known, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [taken.getsockname()[1] for taken in sockets]


def until(
    look: Callable[[], Found | None], wanted: str, timeout_s: float = 15.0, every_s: float = 0.05
) -> Found:
    """Look until there is something.

    Raises: AssertionError, with `wanted`, when the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {wanted}"
        time.sleep(every_s)


def run_gateway(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """One command of the CLI, as a user types it."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


class GatewayProcess:
    """One gateway with its settings file and state under `directory`.

    Args:
        settings: as in the file, without `listen` and `state_dir`, which stand here.
        under: a command that the gateway is started by, such as `prlimit`; it must become the gateway (exec).
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        *,
        state_dir: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        inference, admin = free_ports(2)
        self.address = f"127.0.0.1:{inference}"
        self.admin = f"127.0.0.1:{admin}"
        self.file = directory / "gateway.yaml"
        self.log = directory / "gateway.log"
        self.state_dir = state_dir or directory / "state"
        self._under = tuple(under)
        self._process: subprocess.Popen[bytes] | None = None
        self.write(settings)

    def write(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings file at once, as an editor or a ConfigMap would."""
        listen = {"inference": self.address, "admin": self.admin}
        whole = {"listen": listen, "state_dir": str(self.state_dir), "workers": 1, **settings}
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as file:
            YAML(typ="safe").dump(whole, file)
        fresh.replace(self.file)

    # --- its life -----------------------------------------------------------------------------------------------

    def start(self, timeout_s: float = START_S) -> None:
        """Return when `/readyz` says so.

        Raises: AssertionError, with the log, when it ends first or is not ready in time.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._under, *COMMAND, "serve", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=_environment(),
            )
        deadline = time.monotonic() + timeout_s
        while self.get("/readyz")[0] != 200:
            code = self._process.poll()
            late = time.monotonic() > deadline
            if code is not None or late:
                self.kill()
                what = f"not ready after {timeout_s:g} s" if late else f"ended with {code}"
                raise AssertionError(f"{what}:\n{self.logged()[-4000:]}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminated(self, timeout_s: float = STOP_S) -> int:
        """Wait for its end, which something else brings about; returns the exit code."""
        assert self._process is not None, "not running"
        code = self._process.wait(timeout_s)
        self._process = None
        return code

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int | None:
        """SIGTERM, as Kubernetes does it; SIGKILL when it does not end. Returns the exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def kill(self) -> None:
        """As kill -9 does it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it says -------------------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str]:
        """HTTP status and text of a page of the admin port; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """The structured lines of the log."""
        for line in self.logged().splitlines():
            with contextlib.suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict):
                    yield fields

    def report(self) -> dict[str, Any]:
        """`gateway report FILE --json`, by route."""
        result = run_gateway("report", str(self.file), "--json")
        assert result.returncode == 0, result.stderr
        routes: dict[str, Any] = json.loads(result.stdout)["routes"]
        return routes
