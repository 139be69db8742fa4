"""What a transparent gRPC proxy must get right on the wire, frame by frame: what no library shows."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import grpc
import h2.errors
import hpack
import pytest
from hyperframe.frame import RstStreamFrame

from tests.wire import raw
from tests.wire.clients import INFER, request, rows
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.http2 import GRPC, Http2Caller, Http2Server, Stream, answer_fully
from tests.wire.plane import document, model, route, running
from tests.wire.raw import Raw, frame, header_block, request_block
from tests.wire.servers import answer

UNARY = f"{SERVICE}/Unary"
EMPTY = b"\0\0\0\0\0"


def before(server: Http2Server | EchoServer, **changes: object) -> dict[str, object]:
    return document([model("odd", server.address)], default_backend="odd", **changes)


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


# --- te ---------------------------------------------------------------------------------------------------------


def test_a_request_without_te_trailers_is_refused_and_the_connection_lives() -> None:
    """Whoever drops `te` on the way would drop the answer's trailers, and with them its status."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", UNARY),
        ("content-type", "application/grpc"),
    ]
    with Http2Server(answer_fully) as server, running(before(server)) as (plane, channel):
        with Raw(plane.address) as peer:
            peer.send(frame(raw.HEADERS, raw.END_HEADERS, 1, header_block(fields)))
            peer.send(frame(raw.DATA, raw.END_STREAM, 1, EMPTY))
            came = peer.until(raw.HEADERS, 1)
            assert came is not None
            assert came.flags & raw.END_STREAM
            answer = dict(hpack.Decoder().decode(came.payload))
            assert (answer[":status"], answer["grpc-status"]) == ("200", "13")
            assert "te: trailers" in answer["grpc-message"]
            assert server.streams == 0
            peer.send(frame(raw.HEADERS, raw.END_HEADERS, 3, request_block()))
            peer.send(frame(raw.DATA, raw.END_STREAM, 3, EMPTY))
            assert peer.until(raw.HEADERS, 3) is not None
        assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"


@pytest.mark.parametrize("routed", [False, True])
def test_backends_are_told_te_trailers(routed: bool) -> None:
    seen: list[str | None] = []

    def behave(stream: Stream) -> None:
        seen.append(stream.headers.get("te"))
        answer_fully(stream)

    with Http2Server(behave) as server:
        policy = before(server)
        if routed:
            match = {"model": None, "method": UNARY, "metadata": {}}
            policy["routes"] = [
                route(["odd"], name="echo", match=match, prediction=None, check=None, confidence=None)
            ]
        with running(policy) as (_, channel):
            assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
    assert seen == ["trailers"]


# --- trailers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_trailers_only_answer_stays_one_frame_also_when_a_reset_follows(reset: bool) -> None:
    def behave(stream: Stream) -> None:
        refusal = [*GRPC, ("grpc-status", "7"), ("grpc-message", "no"), ("x-why", "because")]
        stream.connection.send_headers(stream.id, refusal, end_stream=True)
        if reset:
            stream.raw += RstStreamFrame(stream.id, error_code=0).serialize()

    with Http2Server(behave, early=True) as server, running(before(server)) as (plane, _):
        for _ in range(10):
            with Raw(plane.address) as peer:
                peer.send(frame(raw.HEADERS, raw.END_HEADERS, 1, request_block()))
                peer.send(frame(raw.DATA, raw.END_STREAM, 1, EMPTY))
                came = peer.until(raw.HEADERS, 1)
                assert came is not None
                assert came.flags & raw.END_STREAM
                answer = dict(hpack.Decoder().decode(came.payload))
                assert (answer["grpc-status"], answer["grpc-message"], answer["x-why"]) == (
                    "7",
                    "no",
                    "because",
                )


@pytest.mark.parametrize("size", [65_534, 65_535, 65_536])
def test_trailers_follow_a_body_that_ends_on_the_callers_window(size: int) -> None:
    """They need no window; one byte too many needs one byte of it."""

    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, GRPC)
        for at in range(0, 65_535, 16_384):
            stream.connection.send_data(stream.id, bytes(min(16_384, min(size, 65_535) - at)))
        rest = size - 65_535
        if rest > 0:
            stream.raw += frame(raw.DATA, 0, stream.id, bytes(rest))
        trailers = header_block([("grpc-status", "0"), ("x-last", "1")])
        stream.raw += frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, stream.id, trailers)

    with Http2Server(behave) as server, running(before(server)) as (plane, _), Raw(plane.address) as peer:
        peer.send(frame(raw.HEADERS, raw.END_HEADERS, 1, request_block()))
        peer.send(frame(raw.DATA, raw.END_STREAM, 1, EMPTY))
        got, decoder = 0, hpack.Decoder()
        for came in peer.frames():
            if came.kind == raw.DATA:
                got += len(came.payload)
                if got == 65_535 and size > got:
                    peer.send(frame(raw.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))
                    peer.send(frame(raw.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)))
            if came.kind == raw.HEADERS:
                fields = dict(decoder.decode(came.payload))
                if came.flags & raw.END_STREAM:
                    break
        assert got == size
        assert (fields["grpc-status"], fields["x-last"]) == ("0", "1")


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("size", [10_000, 16_000_000])
def test_an_answer_before_the_request_has_ended_counts_and_stops_the_upload(decided: bool, size: int) -> None:
    """The server says all it has to say and resets with NO_ERROR, while megabytes are still to come."""
    asked = request("spam", rows(4, size // 16)) if decided else None
    body = asked.SerializeToString() if asked else bytes(size)
    told = answer(asked, [(0.1, 0.9)] * 4) if asked else b"early"
    said = raw.message(told)

    def behave(stream: Stream) -> None:
        answer_fully(stream, said, {"grpc-status": "0", "x-last": "1"})
        stream.raw += RstStreamFrame(stream.id, error_code=0).serialize()

    with Http2Server(behave, early=True) as server:
        made = document([model("odd", server.address)], [route(["odd"])]) if decided else before(server)
        with running(made) as (plane, channel):
            path = INFER if decided else f"{SERVICE}/Join"
            for _ in range(3):
                got, call = channel.stream_unary(path).with_call(iter([body]), timeout=20)
                assert got.startswith(told)  # a decided answer has the gateway's parameters appended
                assert ("x-last", "1") in [tuple(pair) for pair in call.trailing_metadata()]
            plane.quiet()


# --- streams handed back ----------------------------------------------------------------------------------------


def test_streams_above_the_last_one_of_a_goaway_go_elsewhere_and_those_below_finish() -> None:
    """Two are under way when the connection goes away: the first is answered on it, the second by another."""
    waiting: list[Stream] = []

    def behave(stream: Stream) -> None:
        if stream.number > 2:
            answer_fully(stream)
            return
        waiting.append(stream)
        if len(waiting) == 2:
            first, _ = sorted(waiting, key=lambda each: each.id)
            # The library ends a connection with its GOAWAY, so these are written by hand.
            last = struct.pack(">II", first.id, int(h2.errors.ErrorCodes.NO_ERROR))
            block = header_block([(":status", "200"), ("content-type", "application/grpc")])
            end = header_block([("grpc-status", "0")])
            stream.raw += frame(raw.GOAWAY, 0, 0, last)
            stream.raw += frame(raw.HEADERS, raw.END_HEADERS, first.id, block)
            stream.raw += frame(raw.DATA, 0, first.id, first.body)
            stream.raw += frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, first.id, end)

    with Http2Server(behave) as server, running(before(server)) as (plane, channel):
        ask = channel.unary_unary(UNARY)
        calls = [ask.future(body, timeout=20) for body in (b"one", b"two")]
        assert [call.result() for call in calls] == [b"one", b"two"]
        records = plane.records(2)
        assert plane.drained.rows("attempts") == 2
    assert {record["status"] for record in records} == {0}
    assert (server.connections, server.streams) == (2, 3)


# --- metadata and messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["AAE", "AAE=", "AAE,AAI=", ""])
def test_binary_metadata_goes_on_as_it_came(value: str) -> None:
    """Padded or not, joined or not: whoever reads it decides."""
    seen: list[str | None] = []

    def behave(stream: Stream) -> None:
        seen.append(stream.headers.get("x-b-bin"))
        answer_fully(stream, trailers={"grpc-status": "0", "x-c-bin": value})

    with Http2Server(behave) as server, running(before(server)) as (plane, _):
        caller = Http2Caller(plane.address)
        answer = caller.call(UNARY, EMPTY, {"x-b-bin": value})
        caller.close()
    assert (seen, answer.trailers["x-c-bin"]) == ([value], value)


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_go_both_ways_as_they_are(echo: EchoServer, encoding: grpc.Compression) -> None:
    message = b"again " * 10_000
    with running(before(echo)) as (plane, channel):
        answer, call = channel.unary_unary(f"{SERVICE}/Squeeze").with_call(
            message, timeout=10, compression=encoding
        )
        assert answer == message
        assert call.code() is grpc.StatusCode.OK
        [record] = plane.records(1)
    # Compressed on either side of the gateway, else these would be 60,005.
    assert record["request_bytes"] < 1000
    assert record["answer_bytes"] < 1000


def test_both_sides_send_without_waiting_for_company(echo: EchoServer) -> None:
    """Nagle's algorithm costs a call 41 ms. The plane's sockets are this process's, so they can be asked."""
    with running(before(echo)) as (plane, channel):
        assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
        ours = {int(plane.address.rsplit(":", 1)[1]): "caller", echo.port: "backend"}
        found: dict[str, int] = {}
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(fd))) as held:
                if held.family != socket.AF_INET or held.type != socket.SOCK_STREAM:
                    continue
                # A caller's connection has the gateway's port on this side, a backend's has the backend's on the other.
                side = ours.get(held.getsockname()[1]) if held.getsockname()[1] != echo.port else None
                with contextlib.suppress(OSError):
                    side = (
                        side
                        if side == "caller"
                        else ("backend" if held.getpeername()[1] == echo.port else None)
                    )
                    if side:
                        found[side] = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert set(found) == {"caller", "backend"}
    assert all(found.values())
