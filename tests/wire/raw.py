"""A peer that keeps to no rule: frames written one by one, and what came back read frame by frame."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import hpack
import psutil

__all__ = [
    "CALM",
    "GOAWAY",
    "Frame",
    "Raw",
    "RawServer",
    "call",
    "frame",
    "grown_bytes",
    "header_block",
    "initial_window",
    "message",
    "request_block",
    "rss_bytes",
    "window",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CALM = 11
WAIT_S = 10.0


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def window(stream: int, size: int) -> bytes:
    """So many bytes more may be sent."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def initial_window(size: int) -> bytes:
    """As the payload of SETTINGS."""
    return struct.pack(">HI", 4, size)


def message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def call(stream: int, path: str, body: bytes | None = None) -> bytes:
    """A call's frames; without a body its stream stays open."""
    opened = frame(HEADERS, END_HEADERS, stream, request_block(path))
    return opened if body is None else opened + frame(DATA, END_STREAM, stream, message(body))


def header_block(fields: list[tuple[str, str]]) -> bytes:
    """Without the dynamic table, so that any stream may use it."""
    encoder = hpack.Encoder()
    return bytes(encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False))


def request_block(path: str = "/test.Echo/Unary", *extra: tuple[str, str]) -> bytes:
    """Headers of a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *extra,
    ]
    return header_block(fields)


@dataclass(frozen=True)
class Frame:
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int(struct.unpack_from(">I", self.payload, at)[0])

    @property
    def words(self) -> bytes:
        """Of GOAWAY."""
        return self.payload[8:]


class Raw:
    """A socket with the preface and SETTINGS sent, and the other side's acknowledged, unless `greet` is false."""

    def __init__(self, address: str, settings: bytes = b"", *, greet: bool = True) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), WAIT_S)
        self.closed = False
        self._buffer = b""
        if greet:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def send(self, data: bytes) -> bool:
        """False once the other side takes no more."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def flood(self, piece: bytes, times: int, batch: int = 500) -> int:
        """Send the piece over and over until it was sent so often or the other side has enough."""
        for sent in range(0, times, batch):
            if not self.send(piece * batch):
                return sent
        return times

    def frames(self, wait_s: float = WAIT_S) -> Iterator[Frame]:
        """What comes, until the connection ends or nothing comes for so long."""
        self.socket.settimeout(wait_s)
        while True:
            while len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) < 9 + length:
                    break
                head, payload = self._buffer[:9], self._buffer[9 : 9 + length]
                self._buffer = self._buffer[9 + length :]
                yield Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, payload)
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            if not data:
                self.closed = True
                return
            self._buffer += data

    def until(self, kind: int, stream: int | None = None, wait_s: float = WAIT_S) -> Frame | None:
        """The next frame of this kind; None when the connection ends without."""
        for came in self.frames(wait_s):
            if came.kind == kind and (stream is None or came.stream == stream):
                return came
        return None

    def goaway(self) -> Frame:
        came = self.until(GOAWAY)
        assert came is not None, "the connection ended without a GOAWAY"
        return came

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RawServer:
    """Greets, and once a request has begun does to the socket what `behave` does with it and the stream's number."""

    def __init__(self, behave: Callable[[socket.socket, int], None]) -> None:
        self._behave = behave
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            accepted.sendall(frame(SETTINGS) + frame(SETTINGS, ACK))
            buffer = b""
            while data := accepted.recv(65536):
                buffer += data
                buffer = buffer.removeprefix(PREFACE)
                while len(buffer) >= 9 and len(buffer) >= (end := 9 + int.from_bytes(buffer[:3], "big")):
                    kind, stream = buffer[3], int.from_bytes(buffer[5:9], "big")
                    buffer = buffer[end:]
                    if kind == HEADERS:
                        self._behave(accepted, stream)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()


def rss_bytes(pid: int | None = None) -> int:
    """Memory of a process, by default this one: a data plane that the test runs is part of it."""
    return int(psutil.Process(pid).memory_info().rss)


def grown_bytes(before: int, pid: int | None = None, at_most: int = 0, wait_s: float = 5.0) -> int:
    """By how much memory has grown, once it is within the bound or the time is up."""
    until = time.monotonic() + wait_s
    while (grown := rss_bytes(pid) - before) > at_most and time.monotonic() < until:
        time.sleep(0.05)
    return grown
