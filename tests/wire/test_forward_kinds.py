"""Every kind of RPC goes through as bytes, message by message, whatever its size."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc
import pytest

from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import RunningPlane, document, model, running


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture(scope="module")
def through(server: EchoServer) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    with running(
        document([model("echo", server.address, max_in_flight=1000)], default_backend="echo")
    ) as started:
        yield started


@pytest.fixture
def channel(through: tuple[RunningPlane, grpc.Channel]) -> grpc.Channel:
    return through[1]


@pytest.mark.parametrize("size", [0, 1, 16379, 16384, 65529, 65530, 65531, 65534, 65535, 65536, 131071])
def test_unary_messages_at_the_edges_of_frames_and_windows_keep_their_trailers(
    channel: grpc.Channel, size: int
) -> None:
    """Others lost the trailers of messages that end exactly on a window of 65,535 bytes."""
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    answer, call = channel.unary_unary(f"{SERVICE}/Unary").with_call(message, timeout=10)
    assert answer == message
    assert call.code() is grpc.StatusCode.OK
    assert ("x-late", "a") in [tuple(pair) for pair in call.trailing_metadata()]


@pytest.mark.parametrize("megabytes", [1, 16])
def test_there_is_no_limit_of_four_megabytes(channel: grpc.Channel, megabytes: int) -> None:
    """Pass-through holds windows, not messages."""
    message = bytes(megabytes << 20)
    assert channel.unary_unary(f"{SERVICE}/Unary")(message, timeout=30) == message


def test_an_answer_may_be_many_messages(channel: grpc.Channel) -> None:
    answers = list(channel.unary_stream(f"{SERVICE}/Many")(b"1000", timeout=10))
    assert answers == [str(at).encode() for at in range(1000)]


def test_an_answer_may_be_no_message_at_all(channel: grpc.Channel) -> None:
    call = channel.unary_stream(f"{SERVICE}/Many")(b"0", timeout=10)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_a_request_may_be_many_messages(channel: grpc.Channel) -> None:
    messages = [bytes([at % 256]) * 1000 for at in range(500)]
    assert channel.stream_unary(f"{SERVICE}/Join")(iter(messages), timeout=10) == b"".join(messages)


def test_a_request_without_messages_is_half_closed_all_the_same(channel: grpc.Channel) -> None:
    assert channel.stream_unary(f"{SERVICE}/Join")(iter(()), timeout=10) == b""


def test_each_message_is_forwarded_when_it_comes(channel: grpc.Channel) -> None:
    """The next message is sent only once the last was answered: a proxy that gathers would stop here for good."""
    outbox: queue.Queue[bytes | None] = queue.Queue()
    answers = channel.stream_stream(f"{SERVICE}/PingPong")(iter(outbox.get, None), timeout=10)
    for at in range(50):
        outbox.put(str(at).encode())
        assert next(answers) == str(at).encode()
    outbox.put(None)
    assert list(answers) == []


def test_a_slow_reader_of_one_stream_does_not_stop_the_others(channel: grpc.Channel) -> None:
    """The first stream's answer fills its windows and waits; calls beside it are answered."""
    outbox: queue.Queue[bytes | None] = queue.Queue()
    slow = channel.stream_stream(f"{SERVICE}/PingPong")(iter(outbox.get, None), timeout=30)
    for _ in range(64):
        outbox.put(bytes(128 * 1024))
    assert channel.unary_unary(f"{SERVICE}/Unary")(b"beside", timeout=10) == b"beside"
    outbox.put(None)
    assert sum(len(answer) for answer in slow) == 64 * 128 * 1024


def test_many_calls_at_once_come_back_to_whom_they_belong(channel: grpc.Channel) -> None:
    ask = channel.unary_unary(f"{SERVICE}/Unary")
    calls = [ask.future(str(at).encode(), timeout=20) for at in range(500)]
    assert [call.result() for call in calls] == [str(at).encode() for at in range(500)]


def test_a_compressed_message_keeps_its_encoding(channel: grpc.Channel) -> None:
    message = b"again " * 1000
    ask = channel.unary_unary(f"{SERVICE}/Unary")
    assert ask(message, timeout=10, compression=grpc.Compression.Gzip) == message


def test_an_untouched_call_is_recorded(server: EchoServer) -> None:
    with running(document([model("echo", server.address)], default_backend="echo")) as (plane, channel):
        channel.unary_unary(f"{SERVICE}/Unary")(b"12345", timeout=10)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"{SERVICE}/Fail")(b"", timeout=10)
        good, bad = plane.records(2)
    assert (good["route"], good["outcome"], good["reason"], good["status"]) == (65535, "model", "ok", 0)
    assert (good["request_bytes"], good["answer_bytes"], good["method"]) == (10, 10, f"{SERVICE}/Unary")
    assert (bad["outcome"], bad["reason"], bad["status"]) == ("error", "backend_error", 7)
