"""A gRPC server of no particular service: every kind of RPC, with bytes for messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from types import TracebackType

import grpc

from tests.wire.plane import UNLIMITED

__all__ = ["SERVICE", "EchoServer"]

SERVICE = "/test.Echo"


class EchoServer:
    """Echoes, and remembers what it saw."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, *, workers: int = 16) -> None:
        self.metadata: list[list[tuple[str, str | bytes]]] = []
        self.left_s: list[float | None] = []
        self.cancelled = threading.Event()
        self.entered = threading.Semaphore(0)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(workers), options=[("grpc.so_reuseport", 0), *UNLIMITED]
        )
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Flood": grpc.unary_stream_rpc_method_handler(self._flood),
            "Drip": grpc.unary_stream_rpc_method_handler(self._drip),
            "Deaf": grpc.stream_unary_rpc_method_handler(self._deaf),
            "Squeeze": grpc.unary_unary_rpc_method_handler(self._squeeze),
            "Many": grpc.unary_stream_rpc_method_handler(self._many),
            "Join": grpc.stream_unary_rpc_method_handler(self._join),
            "PingPong": grpc.stream_stream_rpc_method_handler(self._ping_pong),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self._fail_late),
            "Hang": grpc.unary_unary_rpc_method_handler(self._hang),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE[1:], kinds),))
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self, grace_s: float | None = None) -> None:
        self._server.stop(grace_s).wait(10)

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _see(self, context: grpc.ServicerContext) -> None:
        self.metadata.append([(str(key), value) for key, value in context.invocation_metadata()])
        left = context.time_remaining()
        self.left_s.append(left if left is not None and left < 1e6 else None)

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._see(context)
        context.send_initial_metadata((("x-early", "1"), ("x-early", "2"), ("x-early-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-late", "a"), ("x-late", "b"), ("x-late-bin", b"\x01\xfe")))
        return request

    def _many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for at in range(int(request)):
            yield str(at).encode()

    def _squeeze(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._see(context)
        context.set_compression(grpc.Compression.Gzip)
        return request

    def _flood(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(int(request)):
            yield bytes(65536)

    def _drip(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """As a language model would, but faster: one byte a message."""
        for at in range(int(request)):
            yield bytes([at % 256])

    def _deaf(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Reads nothing of what comes until the caller has gone."""
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait(30)
        return b""

    def _join(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"".join(requests)

    def _ping_pong(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from requests

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-why-bin", b"\x00\x01"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "nö, 100 % not\n")
        raise AssertionError("abort raises")

    def _fail_late(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost the rest")

    def _hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._see(context)
        gone = threading.Event()
        context.add_callback(gone.set)
        self.entered.release()
        if gone.wait(20):
            self.cancelled.set()
        return b""
