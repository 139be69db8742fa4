"""The admin port: health, readiness and metrics over HTTP/1.1, and gRPC health and reflection beside them.

One port serves both, because probes and scrapers are pointed at one address: a connection that opens with the HTTP/2
preface is spliced to a unix socket that has nothing but these two (a splice hides where calls come from, so no role
could be asked for behind it), any other to a small HTTP server. uvicorn speaks the HTTP, so that no parser of our own
faces the network; it listens on a unix socket in a directory that only this user can enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

__all__ = ["AdminServer"]

log = logging.getLogger(__name__)

PREFACE: Final = b"PRI "
"""What an HTTP/2 client with prior knowledge sends first (RFC 9113, 3.4)."""

MAX_CONNECTIONS: Final = 256
"""Connections at once; probes and scrapers need a handful."""

FIRST_BYTES_S: Final = 5.0
"""How long a connection may stay silent before it is closed."""

CHUNK_BYTES: Final = 65_536

MOST_BODY_BYTES: Final = 4 * 1024 * 1024
"""Of what is posted; more is refused unread."""

BODY_S: Final = 10.0
"""How long a body may take to arrive."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Readiness = Callable[[], str | None]
Answer = tuple[int, str]
"""HTTP status and a word."""


@dataclass(frozen=True, slots=True)
class Post:
    """What takes something; both parts return at once.

    `refusal`: headers in small letters -> why nothing is taken from whoever sent them, else None; asked before any of
    the body is read. `take`: the body -> what became of it.
    """

    refusal: Callable[[Mapping[str, str]], Answer | None]
    take: Callable[[bytes], Answer]


class _Quiet(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """Serves `/healthz`, `/readyz`, `/metrics`, and over gRPC what is at `open_socket`.

    Args:
        address: `host:port`; port 0 takes a free one.
        http_socket, open_socket: paths of unix sockets; the first is made here, the second exists and wants no role.
        not_ready: why the gateway does not want calls, or None when it does.
        metrics: the Prometheus text; called in a thread, as it may read the ledger.
        posts: what else takes something, by path.
    """

    def __init__(
        self,
        address: str,
        *,
        http_socket: str,
        open_socket: str,
        not_ready: Readiness,
        metrics: Callable[[], bytes],
        posts: Mapping[str, Post] | None = None,
    ) -> None:
        self._address = address
        self._http_socket = http_socket
        self._open_socket = open_socket
        self._not_ready = not_ready
        self._metrics = metrics
        self._posts = dict(posts or {})
        self._http = _Quiet(
            uvicorn.Config(
                self._app,
                interface="asgi3",  # not guessed: for a bound method uvicorn guesses wrong
                uds=http_socket,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self._mux: asyncio.Server | None = None
        self._open = 0

    async def start(self) -> str:
        """Listens.

        Returns: the address really bound.
        Raises: OSError, with the address, when it cannot be bound.
        """
        host, _, port = self._address.rpartition(":")
        try:
            self._mux = await asyncio.start_server(self._connected, host.strip("[]"), int(port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {self._address}: {error.strerror}") from error
        self._serving = asyncio.create_task(self._http.serve())
        while not self._http.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.01)
        bound = self._mux.sockets[0].getsockname()
        name = f"[{bound[0]}]" if self._mux.sockets[0].family == socket.AF_INET6 else bound[0]
        return f"{name}:{bound[1]}"

    async def stop(self) -> None:
        """Stops listening; connections under way get a second."""
        if self._mux is not None:
            self._mux.close()
        self._http.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST" and scope["path"] in self._posts:
            post = self._posts[scope["path"]]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if (answer := post.refusal(headers)) is None:
                body = await _body(receive)
                answer = (413, "too long, or too slow") if body is None else post.take(body)
            await _answer(send, answer[0], f"{answer[1]}\n".encode())
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, b"only GET\n")
        elif scope["path"] == "/healthz":
            await _answer(send, 200, b"ok\n")
        elif scope["path"] == "/readyz":
            why = self._not_ready()
            await _answer(send, 503 if why else 200, f"{why or 'ready'}\n".encode())
        elif scope["path"] == "/metrics":
            text = await asyncio.to_thread(self._metrics)
            await _answer(send, 200, text, b"text/plain; version=0.0.4; charset=utf-8")
        else:
            await _answer(send, 404, b"here are /healthz, /readyz and /metrics\n")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            first = await asyncio.wait_for(reader.readexactly(len(PREFACE)), FIRST_BYTES_S)
            path = self._open_socket if first == PREFACE else self._http_socket
            up_reader, up_writer = await asyncio.open_unix_connection(path)
            up_writer.write(first)
            pumps = [
                asyncio.create_task(_pump(reader, up_writer)),
                asyncio.create_task(_pump(up_reader, writer)),
            ]
            # The server's side ends the connection: a client that has only half closed still gets its answer.
            await pumps[1]
            pumps[0].cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            up_writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            log.debug("an admin connection ended early: %s", error)
        finally:
            self._open -= 1
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _body(receive: Receive) -> bytes | None:
    held = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                part = await receive()
                if part["type"] != "http.request":
                    return None
                held += part.get("body", b"")
                if len(held) > MOST_BODY_BYTES:
                    return None
                if not part.get("more_body"):
                    return bytes(held)
    except TimeoutError:
        return None


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8") -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
