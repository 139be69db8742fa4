"""A peer that keeps to no rule: frames written one by one, and what came back read frame by frame."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import hpack
import psutil

__all__ = ["CALM", "GOAWAY", "Frame", "Raw", "frame", "grown_bytes", "request_block", "rss_bytes"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CALM = 11
WAIT_S = 10.0


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def request_block(path: str = "/test.Echo/Unary", *extra: tuple[str, str]) -> bytes:
    """Headers of a gRPC call, without the dynamic table, so that any stream may use them."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *extra,
    ]
    return bytes(
        hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)
    )


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


def rss_bytes(pid: int | None = None) -> int:
    """Memory of a process, by default this one: a data plane that the test runs is part of it."""
    return int(psutil.Process(pid).memory_info().rss)


def grown_bytes(before: int, pid: int | None = None, at_most: int = 0, wait_s: float = 5.0) -> int:
    """By how much memory has grown, once it is within the bound or the time is up."""
    until = time.monotonic() + wait_s
    while (grown := rss_bytes(pid) - before) > at_most and time.monotonic() < until:
        time.sleep(0.05)
    return grown
