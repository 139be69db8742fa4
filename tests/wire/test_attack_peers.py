"""Peers that vanish, stop in the middle, or never read: what they hold is bounded, and let go of in time."""

from __future__ import annotations

import queue
import struct
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.wire import raw
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import RunningPlane, document, model, running
from tests.wire.raw import CALM, Raw, call, frame, initial_window, message, request_block, window

SOON_S = 10.0
QUICK = {"keepalive_ms": 300, "keepalive_timeout_ms": 700, "handshake_ms": 500}


def soon(look: Callable[[], bool], wanted: str) -> None:
    until = time.monotonic() + SOON_S
    while not look():
        assert time.monotonic() < until, wanted
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer(workers=64) as server:
        yield server


@pytest.fixture
def started(server: EchoServer) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    """A plane that loses patience soon."""
    policy = document([model("echo", server.address, max_in_flight=2000)], default_backend="echo")
    with running(policy, listening=QUICK) as (plane, channel):
        assert ask(channel) == b"x"
        yield plane, channel
        assert ask(channel) == b"x"
        plane.quiet()


@pytest.fixture
def patient(server: EchoServer) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    """A plane as it is by default."""
    policy = document([model("echo", server.address, max_in_flight=2000)], default_backend="echo")
    with running(policy) as (plane, channel):
        yield plane, channel
        assert ask(channel) == b"x"


def ask(channel: grpc.Channel, body: bytes = b"x") -> bytes:
    return bytes(channel.unary_unary(f"{SERVICE}/Unary")(body, timeout=20))


@pytest.mark.parametrize("sent", [b"", raw.PREFACE[:10], raw.PREFACE, raw.PREFACE + frame(raw.SETTINGS)[:5]])
def test_a_peer_that_stops_in_its_preface_is_let_go(
    started: tuple[RunningPlane, grpc.Channel], sent: bytes
) -> None:
    plane, _ = started
    with Raw(plane.address, greet=False) as peer:
        peer.send(sent)
        assert list(peer.frames()) is not None
        assert peer.closed
    soon(lambda: plane.dataplane.counters()["connections"] <= 1, "the connection is given back")


def test_an_http_1_client_is_told_and_not_reset(started: tuple[RunningPlane, grpc.Channel]) -> None:
    plane, _ = started
    with Raw(plane.address, greet=False) as peer:
        peer.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b"x" * 10_000)
        goaway = peer.goaway()
        assert (goaway.code, goaway.words) == (1, b"HTTP/2 with prior knowledge is wanted")
        assert list(peer.frames()) == []
        assert peer.closed
    assert plane.counted("dropped.connection.handshake") >= 1


def test_a_caller_that_has_vanished_is_found_by_a_ping_and_its_call_given_up(
    started: tuple[RunningPlane, grpc.Channel], server: EchoServer
) -> None:
    """It answers nothing: a machine without power looks like this."""
    plane, _ = started
    server.cancelled.clear()
    with Raw(plane.address) as peer:
        peer.send(call(1, f"{SERVICE}/Hang", b""))
        ping = peer.until(raw.PING)
        assert ping is not None
        assert not ping.flags & raw.ACK
        assert list(peer.frames()) == []
        assert peer.closed
    assert server.cancelled.wait(SOON_S)
    assert plane.counted("dropped.connection.silent") == 1


def test_a_quiet_caller_that_answers_pings_keeps_its_call(
    started: tuple[RunningPlane, grpc.Channel],
) -> None:
    plane, channel = started
    outbox: queue.Queue[bytes | None] = queue.Queue()
    answers = channel.stream_stream(f"{SERVICE}/PingPong")(iter(outbox.get, None), timeout=30)
    outbox.put(b"one")
    assert next(answers) == b"one"
    with Raw(plane.address) as peer:
        for _ in range(4):
            ping = peer.until(raw.PING)
            assert ping is not None
            peer.send(frame(raw.PING, raw.ACK, 0, ping.payload))
    outbox.put(b"two")
    assert next(answers) == b"two"
    outbox.put(None)
    assert list(answers) == []


def test_headers_that_never_end_are_not_waited_for(started: tuple[RunningPlane, grpc.Channel]) -> None:
    """A byte now and then is a sign of life, but no reason to wait for a header block for ever."""
    plane, _ = started
    with Raw(plane.address) as peer:
        peer.send(frame(raw.HEADERS, 0, 1, request_block()))
        peer.send(frame(raw.CONTINUATION, raw.END_HEADERS, 1, bytes(10_000))[:9])
        until = time.monotonic() + SOON_S
        while peer.send(b"\0") and time.monotonic() < until:
            if (
                any(came.kind == raw.GOAWAY and came.code == CALM for came in peer.frames(0.05))
                or peer.closed
            ):
                break
        assert time.monotonic() < until
    assert plane.counted("dropped.connection.stalled") == 1


def test_what_a_cancelled_upload_held_of_the_window_comes_back(
    patient: tuple[RunningPlane, grpc.Channel],
) -> None:
    """Calls whose write upstream is blocked are given up, until together they have used the connection's window up."""
    plane, _ = patient
    piece = frame(raw.DATA, 0, 1, bytes(16_000))

    def credit(wait_s: float) -> int:
        given = 0
        for came in peer.frames(wait_s):
            assert came.kind != raw.GOAWAY
            if came.kind == raw.WINDOW_UPDATE and came.stream == 0:
                given += int(struct.unpack(">I", came.payload)[0])
                break
        return given

    with Raw(plane.address) as peer:
        window_bytes = left = 65535 + credit(SOON_S)
        stream = 1
        while stream * 8 * 16_000 < window_bytes * 1.2:
            pieces = piece[:5] + struct.pack(">I", stream) + piece[9:]
            assert peer.send(call(stream, f"{SERVICE}/Deaf") + pieces * 16)
            assert peer.send(frame(raw.RST_STREAM, 0, stream, struct.pack(">I", 8))), peer.goaway()
            stream += 2
            left -= 16 * 16_000
            while left < 16 * 16_000:
                given = credit(SOON_S)
                assert given, "the window does not come back"
                left += given


def test_many_short_tokens_are_no_attack(patient: tuple[RunningPlane, grpc.Channel]) -> None:
    """A slow reader of a token stream, and beside it a call on the same connection to the backend."""
    plane, channel = patient
    drip = channel.unary_stream(f"{SERVICE}/Drip")(b"10000", timeout=60)
    assert next(drip) == b"\0"
    with Raw(plane.address, initial_window(0)) as peer:
        peer.send(b"".join(call(stream, f"{SERVICE}/Drip", b"10000") for stream in range(1, 9, 2)))
        assert peer.until(raw.HEADERS) is not None
        assert sum(1 for _ in drip) == 9_999
        assert ask(channel) == b"x"
        # The tokens are still to be had, all of them.
        for stream in range(1, 9, 2):
            peer.send(window(stream, 1_000_000))
        peer.send(window(0, 1_000_000))
        got = dict.fromkeys(range(1, 9, 2), 0)
        for came in peer.frames():
            if came.kind == raw.DATA:
                got[came.stream] += len(came.payload)
            if sum(got.values()) == 4 * 10_000 * 6:
                break
        assert set(got.values()) == {10_000 * 6}


def test_short_messages_of_a_caller_wait_for_a_backend_that_never_reads(
    patient: tuple[RunningPlane, grpc.Channel],
) -> None:
    plane, channel = patient
    tiny = frame(raw.DATA, 0, 1, message(b"x"))
    with Raw(plane.address) as peer:
        peer.send(call(1, f"{SERVICE}/Deaf") + tiny * 10_000)
        peer.send(call(3, f"{SERVICE}/Unary", b"x"))
        came = peer.until(raw.DATA, 3)
        assert came is not None
        assert came.payload == message(b"x")
        assert ask(channel) == b"x"
