"""Controls and sidecars as real processes, killed by their ids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from ruamel.yaml import YAML
from tritonclient.grpc import service_pb2 as pb

from tests.wire.gateway_process import free_ports, until

__all__ = ["ROUTES", "ControlProc", "Proc", "SidecarProc", "call"]

ROOT = Path(__file__).resolve().parents[2]
ROUTES: Mapping[str, Any] = {
    "backends": {"ham": {"answer": {"label": "ham", "score": 0.0}}},
    "routes": {
        "spam": {
            "chain": ["ham"],
            "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
        }
    },
}
"""Settings whose calls need no model server."""

SECRET = {"SALT": "a salt for the whole fleet", "RECEIPT_KEY": "a receipt key for the fleet"}


class Proc:
    """One process of the CLI with an admin port."""

    def __init__(self, folder: Path, name: str, arguments: Sequence[str], admin: str) -> None:
        self.name, self.admin = name, admin
        self.log = folder / f"{name}.log"
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True, timeout_s: float = 60.0) -> Self:
        """Start, and return when `/readyz` says so."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **SECRET},
            )
        if ready:
            self.wait_ready(timeout_s)
        return self

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        def look() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended:\n{self.logged()[-4000:]}"
            return self.get("/readyz")[0] == 200

        try:
            until(look, f"{self.name} is ready", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logged()[-4000:]}") from None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As kill -9 does it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> int | None:
        """SIGTERM; SIGKILL when it does not end."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the admin port; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float | None:
        """The first sample whose line begins so."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(name) and not line.startswith("#"):
                return float(line.rpartition(" ")[2])
        return None

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class ControlProc(Proc):
    """`gateway control` on free ports."""

    def __init__(self, folder: Path, name: str, ledger: str, settings: Mapping[str, Any] = ROUTES) -> None:
        port, admin = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self.file = folder / f"{name}.yaml"
        self._own = {
            "ledger": ledger,
            "state_dir": str(folder / f"state-{name}"),
            "secrets": {"salt": "${SALT}", "receipt_keys": ["${RECEIPT_KEY}"]},
        }
        super().__init__(
            folder,
            name,
            [
                "control",
                str(self.file),
                "--set",
                f"listen.control={self.address}",
                "--set",
                f"listen.admin=127.0.0.1:{admin}",
            ],
            f"127.0.0.1:{admin}",
        )
        self.write(settings)

    def write(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings file at once."""
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as file:
            YAML(typ="safe").dump({**self._own, **settings}, file)
        fresh.replace(self.file)


class SidecarProc(Proc):
    """`gateway sidecar` on free ports."""

    def __init__(self, folder: Path, name: str, controls: Sequence[str], *more: str) -> None:
        port, admin = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self.state = folder / f"state-{name}"
        arguments = ["sidecar", "--state-dir", str(self.state), "--name", name, "--workers", "1"]
        for control in controls:
            arguments += ["--control", control]
        arguments += ["--inference", self.address, "--admin", f"127.0.0.1:{admin}", *more]
        super().__init__(folder, name, arguments, f"127.0.0.1:{admin}")

    def waiting(self) -> float:
        """Records that control has not acknowledged."""
        found = self.metric("gateway_fleet_waiting")
        return -1.0 if found is None else found


@contextlib.contextmanager
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as opened:
        yield opened


def call(address: str, times: int = 1, model: str = "spam") -> list[dict[str, str]]:
    """Calls through a sidecar, one after the other; each one's trailers."""
    found = []
    with channel(address) as opened:
        infer = opened.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name=model)
        request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
        for _ in range(times):
            _, done = infer.with_call(request, timeout=10, wait_for_ready=True)
            found.append({key: str(value) for key, value in done.trailing_metadata()})
    return found
