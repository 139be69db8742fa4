"""Peers as processes: each plain pass-through to one HTTP/2 backend, on one thread, cleartext."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.calls import PATH, write_answer

__all__ = ["Peer", "backend", "gateway", "peers"]

START_S = 20.0

HAPROXY = """global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:{port} proto h2
  default_backend out
backend out
  server s1 127.0.0.1:{backend} proto h2
"""

ENVOY = """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP2
          stat_prefix: in
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: out, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: out
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: out
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
"""


@dataclass(frozen=True)
class Peer:
    """A running proxy."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def cpu_s(self) -> float:
        """CPU time that the process has used so far, its children's included."""
        if self.process is None:
            return 0.0
        root = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return sum(spent.user + spent.system for spent in times)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not listen on {port} within {START_S:g} s")


@contextlib.contextmanager
def running(command: list[str], folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def backend(folder: Path) -> Iterator[Peer]:
    """nghttpd with one static answer: far faster than any proxy, so that it does not set the pace."""
    if not (nghttpd := shutil.which("nghttpd")):
        raise RuntimeError("nghttpd is not installed: apt-get install nghttp2-server nghttp2-client")
    docroot = folder / "docroot"
    docroot.mkdir()
    write_answer(docroot)
    port = free_port()
    command = [nghttpd, "--no-tls", "-n1", "-d", str(docroot), "-m", "1000", "--trailer", "grpc-status: 0"]
    with running([*command, "--address=127.0.0.1", str(port)], folder, "nghttpd") as process:
        wait_for(port, process)
        yield Peer("no proxy", port, process)


def _haproxy(port: int, backend: int, folder: Path) -> list[str] | None:
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, backend=backend))
    return [found, "-f", str(config)] if (found := shutil.which("haproxy")) else None


def _nghttpx(port: int, backend: int, folder: Path) -> list[str] | None:
    if not (found := shutil.which("nghttpx")):
        return None
    empty = folder / "nghttpx.conf"
    empty.touch()
    front, back = f"--frontend=127.0.0.1,{port};no-tls", f"--backend=127.0.0.1,{backend};;proto=h2"
    return [
        found,
        f"--conf={empty}",
        "--workers=1",
        "--single-process",
        "--accesslog-file=/dev/null",
        front,
        back,
    ]


def _envoy(port: int, backend: int, folder: Path) -> list[str] | None:
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if not found:
        return None
    config = folder / "envoy.yaml"
    config.write_text(ENVOY.format(port=port, backend=backend))
    return [found, "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]


OTHERS: dict[str, Callable[[int, int, Path], list[str] | None]] = {
    "HAProxy": _haproxy,
    "nghttpx": _nghttpx,
    "Envoy": _envoy,
}


@contextlib.contextmanager
def gateway(backend: int, shadow: int | None = None, kind: str = "black-holed") -> Iterator[Peer]:
    """The gateway with its policy on; with the port of a `shadow` of that kind, every call is mirrored there."""
    command = [sys.executable, str(Path(__file__).with_name("gateway_peer.py")), str(backend)]
    command += [] if shadow is None else [str(shadow)]
    # The tree that this file stands in, whatever is installed.
    path = os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    try:
        assert process.stdout is not None
        name = "gateway, policy on" if shadow is None else f"gateway, shadow {kind}"
        yield Peer(name, int(process.stdout.readline()), process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def bad_shadow(kind: str) -> Iterator[int]:
    """A shadow that is `slow` or answers `garbage`; its port."""
    command = [sys.executable, str(Path(__file__).with_name("bad_shadow.py")), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def peers(backend: int, folder: Path, wanted: set[str]) -> Iterator[tuple[list[Peer], list[str]]]:
    """Every wanted peer that is installed, running; and the names of those that are not."""
    with contextlib.ExitStack() as stack:
        started, missing = [stack.enter_context(gateway(backend))], []
        for name, command_of in OTHERS.items():
            if name.lower() not in wanted:
                continue
            port = free_port()
            command = command_of(port, backend, folder)
            if command is None:
                missing.append(name)
                continue
            process = stack.enter_context(running(command, folder, name.lower()))
            wait_for(port, process)
            started.append(Peer(name, port, process))
        yield started, missing
