"""Deadlines run from the caller's headers, and whoever gives up is heard on the other side."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, pb, scores

FINE_S = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def infer(
    channel: grpc.Channel, timeout_s: float | None = 10.0
) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    answer, call = ask.with_call(request("spam", rows()), timeout=timeout_s)
    return answer, {str(key): str(value) for key, value in call.trailing_metadata()}


def test_a_backend_is_told_what_is_left(server: EchoServer) -> None:
    with running(document([model("echo", server.address)], default_backend="echo")) as (_, channel):
        channel.unary_unary(f"{SERVICE}/Unary")(b"", timeout=60)
        assert server.left_s[-1] is not None
        # grpcio's server reckons from a clock that it reads now and then: on a busy machine 60 s were 60.1.
        assert 50 < server.left_s[-1] < 61
        channel.unary_unary(f"{SERVICE}/Unary")(b"")
        assert server.left_s[-1] is None


def test_a_call_ends_at_its_deadline_and_the_backend_hears_of_it(server: EchoServer) -> None:
    with running(document([model("echo", server.address)], default_backend="echo")) as (plane, channel):
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"{SERVICE}/Hang")(b"", timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.25 < time.monotonic() - began < FINE_S
        assert server.cancelled.wait(FINE_S)
        server.cancelled.clear()
        plane.quiet()


def test_a_caller_that_cancels_cancels_at_the_backend(server: EchoServer) -> None:
    with running(document([model("echo", server.address)], default_backend="echo")) as (plane, channel):
        while server.entered.acquire(blocking=False):
            pass
        call = channel.unary_unary(f"{SERVICE}/Hang").future(b"")
        assert server.entered.acquire(timeout=FINE_S)
        call.cancel()
        assert server.cancelled.wait(FINE_S)
        server.cancelled.clear()
        plane.quiet()
        [record] = plane.records(1)
    assert (record["outcome"], record["status"]) == ("error", 1)


def test_a_decided_call_that_is_cancelled_is_cancelled_at_the_backend_and_recorded() -> None:
    silent = Silent()
    with ScriptedServer(silent) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (plane, channel):
            call = channel.unary_unary(INFER).future(request("spam", rows()).SerializeToString())
            silent.wait_for(1)
            call.cancel()
            [record] = plane.records(1)
            assert (record["outcome"], record["status"]) == ("error", 1)
            assert plane.counted("cancelled") == 1
        silent.release()


def test_the_chain_answers_within_the_routes_deadline() -> None:
    """Half of what is left goes to the first model, the rest is kept for those after it."""
    silent = Silent()
    with ScriptedServer(silent) as slow, ScriptedServer(scores(0.9)) as quick:
        backends = [model("slow", slow.address), model("quick", quick.address), static()]
        policy = document(backends, [route(["slow", "quick", "ham"], deadline_ms=1000)])
        with running(policy) as (plane, channel):
            began = time.monotonic()
            _, trailers = infer(channel, timeout_s=None)
            took = time.monotonic() - began
            [record] = plane.records(1)
            attempts = plane.drained.each("attempts")
        silent.release()
    assert trailers["gateway-outcome"] == "fallback"
    assert trailers["gateway-reason"] == "deadline"
    assert trailers["gateway-attempts"] == "slow:deadline,quick:ok"
    assert 0.4 < took < 1.0
    left = quick.calls()[-1].time_left_s
    assert left is not None
    assert left < 0.6
    assert [attempt["reason"] for attempt in attempts] == ["deadline", "ok"]
    assert record["overhead_us"] < 0.3e6


def test_a_static_answer_comes_in_time_when_the_model_does_not() -> None:
    silent = Silent()
    with ScriptedServer(silent) as slow:
        policy = document([model("slow", slow.address), static()], [route(["slow", "ham"])])
        with running(policy) as (_, channel):
            _, trailers = infer(channel, timeout_s=0.5)
        silent.release()
    assert (trailers["gateway-outcome"], trailers["gateway-reason"]) == ("static", "deadline")


def test_when_nobody_is_left_the_callers_deadline_is_the_answer() -> None:
    silent = Silent()
    with ScriptedServer(silent) as slow:
        policy = document([model("slow", slow.address)], [route(["slow"], deadline_ms=300)])
        with running(policy) as (_, channel):
            with pytest.raises(grpc.RpcError) as caught:
                infer(channel, timeout_s=None)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert ("gateway-reason", "deadline") in [
                tuple(pair) for pair in caught.value.trailing_metadata()
            ]
        silent.release()


def test_a_backends_own_timeout_bounds_its_attempt() -> None:
    silent = Silent()
    with ScriptedServer(silent) as slow:
        policy = document([model("slow", slow.address, timeout_ms=100), static()], [route(["slow", "ham"])])
        with running(policy) as (_, channel):
            began = time.monotonic()
            _, trailers = infer(channel, timeout_s=None)
            assert time.monotonic() - began < FINE_S
        silent.release()
    assert trailers["gateway-attempts"] == "slow:deadline,ham:ok"


@pytest.mark.parametrize("text", ["", "5", "1x", "123456789S", "-1S"])
def test_a_broken_timeout_is_the_callers_fault(server: EchoServer, text: str) -> None:
    """grpcio writes its own, so this one comes over a plain HTTP/2 connection."""
    from tests.wire.http2 import Http2Caller

    with running(document([model("echo", server.address)], default_backend="echo")) as (plane, channel):
        caller = Http2Caller(plane.address)
        answer = caller.call(f"{SERVICE}/Unary", b"\0\0\0\0\0", {"grpc-timeout": text})
        caller.close()
        assert answer.trailers["grpc-status"] == "3"
        assert channel.unary_unary(f"{SERVICE}/Unary")(b"still") == b"still"
