"""HTTP/2 spoken frame by frame, for what grpcio never does: odd servers and odd callers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.exceptions

__all__ = ["Http2Answer", "Http2Caller", "Http2Server", "Stream", "answer_fully"]

TIMEOUT_S = 10.0
GRPC = [(":status", "200"), ("content-type", "application/grpc")]


@dataclass
class Stream:
    """One stream as an odd server sees it."""

    connection: h2.connection.H2Connection
    id: int
    number: int
    headers: dict[str, str]
    body: bytes = b""
    raw: bytearray = field(default_factory=bytearray)
    """Frames to send after what the connection has to send, which it would not write itself."""
    on: int = 1
    """Which of the server's connections it came on, from 1."""


Behaviour = Callable[[Stream], None]
"""What a server does once a request has ended; an `early` one, once its headers are here."""


def answer_fully(stream: Stream, body: bytes | None = None, trailers: dict[str, str] | None = None) -> None:
    """Headers, a message, trailers. The message is the request's own unless another is given."""
    stream.connection.send_headers(stream.id, GRPC)
    stream.connection.send_data(stream.id, stream.body if body is None else body)
    pairs = {"grpc-status": "0"} if trailers is None else trailers
    stream.connection.send_headers(stream.id, list(pairs.items()), end_stream=True)


class Http2Server:
    """Accepts connections and lets `behaviour` answer each request. `number` counts streams over all connections."""

    def __init__(
        self, behaviour: Behaviour, *, early: bool = False, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.behaviour = behaviour
        self.early = early
        self.connections = 0
        self.closed = 0
        self.streams = 0
        self.pings = 0
        self.resets: list[int] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Http2Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Refuse connections, and end those there are."""
        with contextlib.suppress(OSError):
            # Closing alone leaves it open for the thread that waits on it.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """End all connections."""
        sockets, self._sockets = self._sockets, []
        for accepted in sockets:
            with contextlib.suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(accepted)
            threading.Thread(target=self._serve, args=(accepted, self.connections), daemon=True).start()

    def _serve(self, accepted: socket.socket, number: int) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        open_streams: dict[int, Stream] = {}
        try:
            accepted.sendall(connection.data_to_send())
            while data := accepted.recv(65536):
                raw = bytearray()
                for event in connection.receive_data(data):
                    self._handle(connection, open_streams, event, raw, number)
                accepted.sendall(connection.data_to_send() + bytes(raw))
        except (OSError, h2.exceptions.ProtocolError):
            # Closed, or frames that came after this side said GOAWAY.
            pass
        finally:
            accepted.close()
            self.closed += 1

    def _handle(
        self,
        connection: h2.connection.H2Connection,
        open_streams: dict[int, Stream],
        event: h2.events.Event,
        raw: bytearray,
        number: int,
    ) -> None:
        if isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.RequestReceived):
            self.streams += 1
            headers = {str(name): str(value) for name, value in event.headers}
            stream = Stream(connection, event.stream_id, self.streams, headers, raw=raw, on=number)
            if self.early:
                self.behaviour(stream)
            else:
                open_streams[event.stream_id] = stream
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in open_streams:
                open_streams[event.stream_id].body += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in open_streams:
            stream = open_streams.pop(event.stream_id)
            stream.raw = raw
            self.behaviour(stream)


@dataclass
class Http2Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None


class Http2Caller:
    """Calls one after the other on one connection."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._socket.sendall(self._connection.data_to_send())
        self.terminated = False

    def call(
        self, path: str, body: bytes, extra: dict[str, str] | None = None, method: str = "POST"
    ) -> Http2Answer:
        """Send one request with this body, framed by whoever calls, and wait for the stream's end."""
        headers = {
            ":method": method,
            ":scheme": "http",
            ":authority": "gateway.test",
            ":path": path,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, list((headers | (extra or {})).items()), end_stream=not body)
        if body:
            self._connection.send_data(stream, body, end_stream=True)
        self._socket.sendall(self._connection.data_to_send())
        answer = Http2Answer()
        while True:
            data = self._socket.recv(65536)
            assert data, "the gateway closed the connection"
            for event in self._connection.receive_data(data):
                if self._take(event, stream, answer):
                    self._socket.sendall(self._connection.data_to_send())
                    return answer
            self._socket.sendall(self._connection.data_to_send())

    def _take(self, event: h2.events.Event, stream: int, answer: Http2Answer) -> bool:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.terminated = True
        if getattr(event, "stream_id", None) != stream:
            return False
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = {str(name): str(value) for name, value in event.headers}
            # An answer without messages says all in its first headers.
            answer.trailers = dict(answer.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            self._connection.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
            return True
        return isinstance(event, h2.events.StreamEnded)

    def close(self) -> None:
        self._socket.close()
