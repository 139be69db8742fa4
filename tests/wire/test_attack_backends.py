"""Backends that flood us or answer nonsense: their connection ends, their calls fail, nobody else's do."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import hpack
import pytest

from tests.wire import raw
from tests.wire.clients import INFER, request, rows
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.raw import RawServer, frame, grown_bytes, header_block, rss_bytes

MEGABYTE = 1 << 20
BOUND = 48 * MEGABYTE
MANY = 100_000
HEAD = header_block([(":status", "200"), ("content-type", "application/grpc")])
OPEN = frame(raw.HEADERS, raw.END_HEADERS, 1, HEAD)
BOMB = bytes(hpack.Encoder().encode([("x-bomb", "b" * 4000)])) + b"\xbe" * 12_000

FLOODS = {
    "settings": (b"", frame(raw.SETTINGS)),
    "pings": (b"", frame(raw.PING, 0, 0, bytes(8))),
    "windows": (b"", frame(raw.WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "unknown frames": (b"", frame(0xFA, 0, 0, b"x")),
    "empty data": (OPEN, frame(raw.DATA, 0, 1)),
    "continuations": (frame(raw.HEADERS, 0, 1, HEAD), frame(raw.CONTINUATION, 0, 1, b"\0\1x\1y" * 100)),
    "an hpack bomb": (frame(raw.HEADERS, raw.END_HEADERS, 1, HEAD + BOMB), b""),
    "promises": (b"", frame(raw.PUSH, raw.END_HEADERS, 1, b"\0\0\0\2" + HEAD)),
    "no http/2 at all": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100, b""),
}


@pytest.fixture(scope="module")
def good() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_from_a_backend_ends_its_connection_and_no_other(name: str, good: EchoServer) -> None:
    before, piece = FLOODS[name]

    def behave(accepted: socket.socket, stream: int) -> None:
        def numbered(frames: bytes) -> bytes:
            return frames.replace(b"\0\0\0\1" + HEAD, stream.to_bytes(4, "big") + HEAD)

        accepted.sendall(numbered(before))
        for _ in range(MANY // 500 if piece else 0):
            accepted.sendall(piece * 500)

    with RawServer(behave) as bad:
        policy = document(
            [model("bad", bad.address), model("good", good.address), static()],
            [
                route(["bad", "ham"]),
                route(
                    ["good"],
                    name="echo",
                    match={"model": None, "method": f"{SERVICE}/*", "metadata": {}},
                    prediction=None,
                    check=None,
                    confidence=None,
                ),
            ],
            default_backend="bad",
        )
        with running(policy) as (plane, channel):
            ask = channel.unary_unary(f"{SERVICE}/Unary")
            assert ask(b"x", timeout=20) == b"x"
            memory = rss_bytes()
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/other.Service/Call")(b"x", timeout=20)
            assert caught.value.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
            _, call = channel.unary_unary(INFER).with_call(
                request("spam", rows()).SerializeToString(), timeout=20
            )
            assert dict(call.trailing_metadata())["gateway-outcome"] == "static"
            assert ask(b"y", timeout=20) == b"y"
            plane.quiet()
            assert grown_bytes(memory, at_most=BOUND) < BOUND


def full(plane: RunningPlane, channel: grpc.Channel, calls: int) -> list[grpc.Future]:
    hang = channel.unary_unary(f"{SERVICE}/Hang")
    held = [hang.future(b"", timeout=30) for _ in range(calls)]
    assert plane.counted("in_flight", calls) == calls
    return held


def test_calls_past_the_workers_limit_are_refused_at_once_but_not_who_asks_for_health(
    good: EchoServer,
) -> None:
    policy = document([model("echo", good.address)], default_backend="echo")
    with running(policy, listening={"calls": 5}) as (plane, channel):
        held = full(plane, channel, 5)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"{SERVICE}/Unary")(b"x")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "listen.limits.calls" in caught.value.details()
        assert plane.dataplane.counters()["overload.calls"] == 1
        # Exempt: it is asked, and no control plane is there to answer it.
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        for call in held:
            call.cancel()
        plane.quiet()
        assert channel.unary_unary(f"{SERVICE}/Unary")(b"x", timeout=10) == b"x"


def test_connections_past_the_workers_limit_are_closed(good: EchoServer) -> None:
    policy = document([model("echo", good.address)], default_backend="echo")
    with running(policy, listening={"connections": 3}) as (plane, channel):
        assert channel.unary_unary(f"{SERVICE}/Unary")(b"x", timeout=10) == b"x"
        peers = [raw.Raw(plane.address) for _ in range(4)]
        assert plane.counted("overload.connections", 2) == 2
        for peer in peers:
            peer.close()
        assert channel.unary_unary(f"{SERVICE}/Unary")(b"x", timeout=10) == b"x"
