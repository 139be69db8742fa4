"""The sidecar's admin port: health, readiness and metrics over HTTP/1.1, by Python's own server.

uvicorn, which serves a gateway's, would be 6 MB more in every sidecar, for a probe every few seconds.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

__all__ = ["SmallAdmin"]

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 16
"""At once; beyond, a connection is closed unanswered."""

SILENT_S: Final = 5.0
"""How long a connection may say nothing."""


class SmallAdmin:
    """Serves `/healthz`, `/readyz` and `/metrics` from `start` to `stop`, on threads of its own.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        not_ready: why calls are not wanted, or None when they are.
        metrics: the Prometheus text.
    """

    def __init__(
        self, address: str, *, not_ready: Callable[[], str | None], metrics: Callable[[], bytes]
    ) -> None:
        self._address, self._not_ready, self._metrics = address, not_ready, metrics
        self._server: _Server | None = None

    def start(self) -> str:
        """Listen. Returns: the address really bound. Raises: OSError, with the address."""
        host, _, port = self._address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = _Server((host.strip("[]"), int(port)), family, self._answer)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {self._address}: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()
        return f"{host}:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, path: str) -> tuple[int, bytes, str]:
        text = "text/plain; charset=utf-8"
        if path == "/healthz":
            return 200, b"ok\n", text
        if path == "/readyz":
            why = self._not_ready()
            return (503 if why else 200), f"{why or 'ready'}\n".encode(), text
        if path == "/metrics":
            return 200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8"
        return 404, b"here are /healthz, /readyz and /metrics\n", text


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, at: tuple[str, int], family: int, answer: Callable[[str], tuple[int, bytes, str]]
    ) -> None:
        self.address_family = family
        self.answer = answer
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(at, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more thread, while there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Gives the room back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is no news."""
        log.debug("an admin connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT_S
    server: _Server
    server_version = "gateway"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, and close."""
        status, body, kind = self.server.answer(self.path.partition("?")[0])
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("cache-control", "no-store")
            self.send_header("x-content-type-options", "nosniff")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Probes are not worth a line."""
