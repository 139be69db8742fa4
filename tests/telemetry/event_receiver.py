"""A real HTTP server on loopback that takes events as a test wants: at once, late, never, or with something else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

Answer = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers a request; is told which one it is, from 0."""


@dataclass(frozen=True)
class Posted:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


def say(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(status)
        for name, value in {**(headers or {}), "content-length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def first(count: int, answer: Answer, then: Answer) -> Answer:
    return lambda handler, number: (answer if number < count else then)(handler, number)


def garbage(handler: BaseHTTPRequestHandler, _: int) -> None:
    handler.wfile.write(b"\x00\xff this is no HTTP\r\n\r\n" * 20)
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, _: int) -> None:
    """A good status, and a body that goes on for as long as anybody reads."""
    handler.send_response(200)
    handler.send_header("content-length", str(10**12))
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65_536)
    handler.close_connection = True


class EventReceiver:
    """Keeps every request, also those that it answers badly or not at all."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.posted: list[Posted] = []
        self.release = threading.Event()
        """Ends every `hang` and `drip`."""
        self._answer = answer or say(202)
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._lock:
                    number = len(receiver.posted)
                    receiver.posted.append(Posted(self.path, headers, body, self.client_address[1]))
                with contextlib.suppress(OSError):
                    receiver._answer(self, number)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  its own name
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A connection that the other side gave up is no fault here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events?from=gateway"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def hang(self, handler: BaseHTTPRequestHandler, _: int) -> None:
        """Never an answer, until the test is over."""
        self.release.wait(60)
        handler.close_connection = True

    def drip(self, handler: BaseHTTPRequestHandler, _: int) -> None:
        """An answer whose every byte comes in time and whose end does not."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-long: ")
        while not self.release.wait(0.02):
            handler.wfile.write(b"y")
        handler.close_connection = True

    def answer(self, answer: Answer) -> None:
        self._answer = answer

    def __enter__(self) -> EventReceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def nobody() -> str:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"
