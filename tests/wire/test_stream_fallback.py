"""Streams fall back until the first message of an answer has gone out, and never after."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import h2.errors
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import request, rows
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.gateway_process import until
from tests.wire.http2 import GRPC, Http2Caller, Http2Server, Stream, answer_fully
from tests.wire.plane import LIMITS, document, model, route, running, static
from tests.wire.servers import ScriptedServer, scores

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
UNREAD = {
    "prediction": None,
    "check": {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None},
    "confidence": None,
}
METHODS = {"model": None, "method": f"{SERVICE}/*", "metadata": {}}
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
NAMES = dict(zip(KINDS, ["Unary", "Many", "Join", "PingPong"], strict=True))


def by_method(chain: list[str], **changes: Any) -> dict[str, Any]:
    return route(chain, match=METHODS, **UNREAD) | changes


def head_then_reset(stream: Stream) -> None:
    stream.connection.send_headers(stream.id, GRPC)
    stream.connection.reset_stream(stream.id, h2.errors.ErrorCodes.INTERNAL_ERROR)


def head_then_failure(stream: Stream) -> None:
    stream.connection.send_headers(stream.id, GRPC)
    stream.connection.send_headers(stream.id, [("grpc-status", "14")], end_stream=True)


def only_failure(stream: Stream) -> None:
    stream.connection.send_headers(stream.id, [*GRPC, ("grpc-status", "14")], end_stream=True)


def head_then_nothing_said(stream: Stream) -> None:
    stream.connection.send_headers(stream.id, GRPC)
    stream.connection.send_data(stream.id, b"", end_stream=True)


FAILURES = [only_failure, head_then_failure, head_then_reset, head_then_nothing_said]


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def call(channel: grpc.Channel, kind: str) -> tuple[list[bytes], dict[str, str]]:
    sent: Any = b"3" if kind.startswith("unary") else iter([b"3"])
    made = getattr(channel, kind)(f"{SERVICE}/{NAMES[kind]}")
    if kind.endswith("unary"):
        answer, rpc = made.with_call(sent, timeout=10)
        answers = [answer]
    else:
        rpc = made(sent, timeout=10)
        answers = list(rpc)
    return answers, {str(key): str(value) for key, value in rpc.trailing_metadata()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: str(failure.__name__))
def test_every_kind_falls_back_whatever_fails_before_a_message(
    echo: EchoServer, kind: str, failure: Callable[[Stream], None]
) -> None:
    """Also after headers: they are held back until a message begins."""
    with Http2Server(failure) as odd:
        backends = [model("odd", odd.address), model("good", echo.address)]
        with running(document(backends, [by_method(["odd", "good"])])) as (plane, channel):
            answers, told = call(channel, kind)
            [record] = plane.records(1)
            attempts = plane.drained.each("attempts")
    assert answers == ([b"0", b"1", b"2"] if kind == "unary_stream" else [b"3"])
    assert told["gateway-attempts"] == "odd:backend_error,good:ok"
    assert (told["gateway-outcome"], told["gateway-reason"]) == ("fallback", "backend_error")
    assert (record["outcome"], record["status"]) == ("fallback", 0)
    assert [attempt["reason"] for attempt in attempts] == ["backend_error", "ok"]


def test_what_fails_after_a_message_is_the_callers_failure(echo: EchoServer) -> None:
    """The message has gone out: nobody else could take it back."""

    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, GRPC)
        stream.connection.send_data(stream.id, b"\0\0\0\0\1x")
        stream.connection.send_headers(
            stream.id, [("grpc-status", "14"), ("grpc-message", "half")], end_stream=True
        )

    with Http2Server(behave) as odd:
        backends = [model("odd", odd.address), model("good", echo.address)]
        with running(document(backends, [by_method(["odd", "good"])])) as (_, channel):
            stream = channel.unary_stream(f"{SERVICE}/Many")(b"3", timeout=10)
            assert next(stream) == b"x"
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "half")
    assert ("gateway-attempts", "odd:backend_error") in [tuple(pair) for pair in stream.trailing_metadata()]


def test_a_status_of_the_callers_own_is_passed_on(echo: EchoServer) -> None:
    """With its details, and in its form."""
    backends = [model("echo", echo.address), model("gone", "127.0.0.1:1")]
    policy = document(backends, [by_method(["echo", "gone"])])
    with running(policy) as (_, channel), pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/Fail")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "nö, 100 % not\n"
    trailers = [tuple(pair) for pair in caught.value.trailing_metadata()]
    assert ("x-why-bin", b"\0\1") in trailers
    assert ("gateway-attempts", "echo:backend_error") in trailers


def test_a_hanging_backend_leaves_time_for_the_next(echo: EchoServer) -> None:
    """It said headers and then nothing: the attempt's share of the time bounds it."""

    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, GRPC)

    with Http2Server(behave) as odd:
        backends = [model("odd", odd.address, timeout_ms=100), model("good", echo.address)]
        with running(document(backends, [by_method(["odd", "good"])])) as (_, channel):
            answers, told = call(channel, "stream_stream")
    assert answers == [b"3"]
    assert told["gateway-attempts"] == "odd:deadline,good:ok"


def test_a_caller_that_says_nothing_yet_is_no_backends_failure(echo: EchoServer) -> None:
    """The attempt's share of the time bounds the backend, not the caller."""
    outbox: queue.Queue[bytes | None] = queue.Queue()
    backends = [model("first", echo.address, timeout_ms=200), model("other", "127.0.0.1:1")]
    with running(document(backends, [by_method(["first", "other"])])) as (plane, channel):
        stream = channel.stream_stream(f"{SERVICE}/PingPong")(iter(outbox.get, None), timeout=20)
        until(lambda: plane.dataplane.counters()["in_flight.first"] or None, "the call at its backend")
        waited = threading.Event()
        assert not waited.wait(0.5)
        for at in range(20):
            outbox.put(str(at).encode())
            assert next(stream) == str(at).encode()
        # It stays quiet for longer than any attempt may take, and goes on message by message.
        assert not waited.wait(0.4)
        outbox.put(b"more")
        assert next(stream) == b"more"
        outbox.put(None)
        assert list(stream) == []
    assert ("gateway-attempts", "first:ok") in [tuple(pair) for pair in stream.trailing_metadata()]


def test_a_backend_whose_clock_is_first_is_asked_again_as_well(echo: EchoServer) -> None:
    """It was told the same time as our alarm and says DEADLINE_EXCEEDED first; said early, it is its own failure."""
    asked: list[float] = []
    waits = [0.197, 0.0]

    def behave(stream: Stream) -> None:
        asked.append(time.monotonic())
        if len(asked) > 1:
            stream.connection.send_headers(stream.id, GRPC)
            stream.connection.send_data(stream.id, b"\0\0\0\0\1x")
            stream.connection.send_headers(stream.id, [("grpc-status", "0")], end_stream=True)
            return
        time.sleep(waits[0])
        stream.connection.send_headers(stream.id, [*GRPC, ("grpc-status", "4")], end_stream=True)

    for answered, told in ((b"x", "odd:ok"), (b"y", "odd:deadline,good:ok")):
        outbox: queue.Queue[bytes | None] = queue.Queue()
        with Http2Server(behave, early=True) as odd:
            backends = [model("odd", odd.address, timeout_ms=200), model("good", echo.address)]
            with running(document(backends, [by_method(["odd", "good"])])) as (_, channel):
                stream = channel.stream_stream(f"{SERVICE}/PingPong")(iter(outbox.get, None), timeout=20)
                if answered == b"y":
                    outbox.put(b"y")
                assert next(stream) == answered
                outbox.put(None)
                assert list(stream) == []
        assert ("gateway-attempts", told) in [tuple(pair) for pair in stream.trailing_metadata()]
        asked.clear()
        waits.pop(0)


def test_what_is_too_long_to_keep_is_sent_to_one_backend_only(echo: EchoServer) -> None:
    """The real failure is told, and the fallback that was not taken is counted."""
    backends = [model("odd", "HERE"), model("good", echo.address)]
    limits = LIMITS | {"replay_bytes": 64 * 1024}
    with Http2Server(only_failure) as odd:
        backends[0]["endpoints"] = [odd.address]
        with running(document(backends, [by_method(["odd", "good"])], limits=limits)) as (plane, channel):
            short = channel.stream_unary(f"{SERVICE}/Join")
            assert short(iter([bytes(1000)] * 20), timeout=10) == bytes(20_000)
            with pytest.raises(grpc.RpcError) as caught:
                short(iter([bytes(1000)] * 200), timeout=10)
            assert plane.dataplane.counters()["dropped.fallback.replay"] == 1
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def infer_stream(
    channel: grpc.Channel, count: int, **options: Any
) -> tuple[list[pb.ModelStreamInferResponse], dict[str, str]]:
    messages = [request("spam", rows()) for _ in range(count)]
    for at, message in enumerate(messages):
        message.id = str(at)
    ask = channel.stream_stream(
        STREAM, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
    )
    stream = ask(iter(messages), timeout=10, **options)
    return list(stream), {str(key): str(value) for key, value in stream.trailing_metadata()}


def test_a_stream_of_inferences_goes_along_its_chain_under_each_models_name() -> None:
    """The second model has another name than the first, and the caller sees the one it asked for."""
    with Http2Server(head_then_reset) as odd, ScriptedServer(scores(0.9)) as good:
        backends = [model("odd", odd.address, model="v3"), model("good", good.address, model="lite")]
        with running(document(backends, [route(["odd", "good"])])) as (plane, channel):
            answers, told = infer_stream(channel, 3)
            [record] = plane.records(1)
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert {answer.infer_response.model_name for answer in answers} == {"spam"}
    assert {seen.request.model_name for seen in good.calls("ModelStreamInfer")} == {"lite"}
    assert told["gateway-attempts"] == "odd:backend_error,good:ok"
    assert (record["outcome"], record["method"]) == ("fallback", STREAM)


def test_a_stream_that_is_cut_short_arrives_cut_short() -> None:
    """Where bytes are appended to each message: what ends within a head is not made whole by leaving the rest out."""
    came: list[bytes] = []

    def behave(stream: Stream) -> None:
        came.append(stream.body)
        answer_fully(stream, b"\0\0\0", {"grpc-status": "0"})

    message = request("spam", rows()).SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message + b"\0\0\0"
    with Http2Server(behave) as odd:
        policy = document([model("odd", odd.address, model="v3")], [route(["odd"], **UNREAD)])
        with running(policy) as (plane, _), closing(Http2Caller(plane.address)) as caller:
            answer = caller.call(STREAM, body)
    assert pb.ModelInferRequest.FromString(came[0][5:-3]).model_name == "v3"
    assert came[0].endswith(b"\0\0\0")
    assert answer.body == b"\0\0\0"


def test_a_held_out_unit_streams_to_no_model() -> None:
    """A stream of inferences is no way around the holdout, nor around a rule or the kill switch."""
    rule = {
        "name": "no",
        "on": "request",
        "when": "request.model == 'spam'",
        "then": {"kind": "reject", "status": "PERMISSION_DENIED", "message": "not you"},
    }
    changes: list[dict[str, Any]] = [
        {"holdout": {"share": 1.0, "answer": "ham"}},
        {"kill_switch": True},
        {"rules": [rule]},
    ]
    with ScriptedServer(scores(0.9)) as server:
        for change in changes:
            backends = [model("a", server.address), static()]
            with running(document(backends, [route(["a"], **change)])) as (_, channel):
                with pytest.raises(grpc.RpcError) as caught:
                    infer_stream(channel, 2)
                assert caught.value.code() is not grpc.StatusCode.UNKNOWN
        assert server.seen == []
