"""Calls that are made again at the same backend: which, when, how often, and never at the cost of an outage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.wire.clients import INFER, infer_by_grpcio, request, rows
from tests.wire.http2 import Http2Server, Stream, answer_fully
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import Behaviour, Context, ScriptedServer, fail, pb, scores

RETRY = {"attempts": 2, "methods": [], "budget_share": 0.2, "budget_per_s": 10.0, "jitter": 0.2}
UNARY = "/test.Echo/Unary"


def first_fails(times: int, failing: Behaviour) -> Behaviour:
    """The first calls go to `failing`, those after them are answered."""
    lock, left, good = threading.Lock(), [times], scores(0.9)

    def behave(message: pb.ModelInferRequest, context: Context) -> bytes:
        with lock:
            left[0] -= 1
            fails = left[0] >= 0
        return failing(message, context) if fails else good(message, context)

    return behave


def pushed_back(status: grpc.StatusCode, millis: str) -> Behaviour:
    def behave(message: pb.ModelInferRequest, context: Context) -> bytes:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", millis),))
        context.abort(status, "not now")
        raise AssertionError("abort raises")

    return behave


@contextmanager
def gateway(
    server: ScriptedServer, chain: list[str] | None = None, **changes: Any
) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    backends = [model("m", server.address, **({"retry": RETRY} | changes)), static()]
    with running(document(backends, [route(chain or ["m"])])) as (plane, channel):
        yield plane, channel


UNAVAILABLE = fail(grpc.StatusCode.UNAVAILABLE)


def test_an_unavailable_backend_is_asked_again_and_told_so() -> None:
    """The caller sees one answer, the record every attempt."""
    with ScriptedServer(first_fails(2, UNAVAILABLE)) as server, gateway(server) as (plane, channel):
        reply = infer_by_grpcio(channel, "spam")
        assert (reply.status, reply.said["attempts"]) == ("OK", "m:ok")
        plane.records(1)
        attempts = plane.drained.each("attempts")
        previous = [call.metadata.get("grpc-previous-rpc-attempts") for call in server.calls()]
        spans = {str(call.metadata["traceparent"]) for call in server.calls()}
        assert plane.counted("retried.failed") == 2
    assert [(attempt["reason"], attempt["status"]) for attempt in attempts] == [
        ("backend_error", 14),
        ("backend_error", 14),
        ("ok", 0),
    ]
    assert previous == [None, "1", "2"]
    assert len(spans) == 3


def test_it_is_asked_again_twice_at_most() -> None:
    with ScriptedServer(UNAVAILABLE) as server, gateway(server, ["m", "ham"]) as (_, channel):
        reply = infer_by_grpcio(channel, "spam")
        assert reply.said["attempts"] == "m:backend_error,ham:ok"
        assert len(server.calls()) == 3


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED]
)
def test_other_failures_are_not_repeated(status: grpc.StatusCode) -> None:
    with ScriptedServer(fail(status)) as server, gateway(server) as (_, channel):
        assert infer_by_grpcio(channel, "spam").status != "OK"
        assert len(server.calls()) == 1


def test_one_of_a_sequence_is_not_repeated() -> None:
    """A stateful model may have taken the first one in."""
    message = request("spam", rows(), {"sequence_id": "7"})
    with ScriptedServer(UNAVAILABLE) as server, gateway(server) as (_, channel):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(INFER)(message.SerializeToString(), timeout=10)
        assert len(server.calls()) == 1


def test_without_retry_nothing_is_repeated() -> None:
    with ScriptedServer(UNAVAILABLE) as server, gateway(server, retry=None) as (_, channel):
        assert infer_by_grpcio(channel, "spam").status == "UNAVAILABLE"
        assert len(server.calls()) == 1


@pytest.mark.parametrize(("methods", "asked"), [([], 1), (["/test.Echo/*"], 2)])
def test_a_method_is_repeated_only_if_it_is_listed(methods: list[str], asked: int) -> None:
    """Whether routed or untouched: nobody else knows whether it may be."""

    def behave(stream: Stream) -> None:
        if stream.number % 2:
            trailers = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")]
            stream.connection.send_headers(stream.id, trailers, end_stream=True)
        else:
            answer_fully(stream)

    nothing = {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None}
    match = {"model": None, "method": UNARY, "metadata": {}}
    by_method = route(["m"], match=match, prediction=None, check=nothing, confidence=None)
    for routes, default in [([], "m"), ([by_method], None)]:
        with Http2Server(behave) as server:
            backends = [model("m", server.address, retry=RETRY | {"methods": methods})]
            with running(document(backends, routes, default_backend=default)) as (_, channel):
                call = channel.unary_unary(UNARY)
                if asked == 1:
                    with pytest.raises(grpc.RpcError):
                        call(b"x", timeout=10)
                else:
                    assert call(b"x", timeout=10) == b"x"
            assert server.streams == asked


def test_a_connection_that_is_lost_before_an_answer_is_a_failure_to_repeat() -> None:
    def behave(stream: Stream) -> None:
        if stream.number == 1:
            raise ConnectionResetError  # the server closes it
        answer_fully(stream)

    with Http2Server(behave) as server:
        backends = [model("m", server.address, retry=RETRY | {"methods": [UNARY]})]
        with running(document(backends, default_backend="m")) as (_, channel):
            assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
    assert server.streams == 2


def test_a_pushback_says_when() -> None:
    behaviour = first_fails(1, pushed_back(grpc.StatusCode.RESOURCE_EXHAUSTED, "150"))
    with ScriptedServer(behaviour) as server, gateway(server) as (_, channel):
        began = time.monotonic()
        assert infer_by_grpcio(channel, "spam").status == "OK"
        assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize("millis", ["-1", "never"])
def test_a_pushback_forbids(millis: str) -> None:
    behaviour = pushed_back(grpc.StatusCode.UNAVAILABLE, millis)
    with ScriptedServer(behaviour) as server, gateway(server) as (_, channel):
        assert infer_by_grpcio(channel, "spam").status == "UNAVAILABLE"
        assert len(server.calls()) == 1


def test_a_retry_takes_no_time_from_the_next_of_the_chain() -> None:
    """What would not come back in the backend's share of the deadline is not waited for."""
    behaviour = pushed_back(grpc.StatusCode.UNAVAILABLE, "5000")
    with ScriptedServer(behaviour) as server, gateway(server, ["m", "ham"]) as (_, channel):
        began = time.monotonic()
        reply = infer_by_grpcio(channel, "spam", timeout_s=4.0)
        assert reply.said["attempts"] == "m:backend_error,ham:ok"
        assert time.monotonic() - began < 2.0
        assert len(server.calls()) == 1


def test_each_attempt_gets_what_is_left() -> None:
    behaviour = first_fails(2, pushed_back(grpc.StatusCode.UNAVAILABLE, "100"))
    with ScriptedServer(behaviour) as server, gateway(server) as (_, channel):
        assert infer_by_grpcio(channel, "spam", timeout_s=5.0).status == "OK"
        left = [call.time_left_s for call in server.calls()]
    given = [one for one in left if one is not None]
    assert len(given) == 3
    assert min(given[0] - given[1], given[1] - given[2]) >= 0.09


def test_another_endpoint_is_preferred() -> None:
    """Twenty calls, of which some meet the bad endpoint first: the second attempt is never there."""
    with ScriptedServer(UNAVAILABLE) as bad, ScriptedServer() as good:
        backends = [model("m", [bad.address, good.address], retry=RETRY)]
        with running(document(backends, [route(["m"])])) as (_, channel):
            for _ in range(20):
                assert infer_by_grpcio(channel, "spam").status == "OK"
        assert all("grpc-previous-rpc-attempts" not in call.metadata for call in bad.calls())


def test_an_outage_is_not_made_worse() -> None:
    """Everything fails: a fifth more calls and ten a second besides, however many want to try again."""
    calls, threads = 600, 8
    with ScriptedServer(UNAVAILABLE, threads=32) as server, gateway(server, ["m", "ham"]) as (plane, channel):
        began = time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            replies = list(pool.map(lambda _: infer_by_grpcio(channel, "spam"), range(calls)))
        took_s = time.monotonic() - began
        sent = len(server.calls())
        assert plane.counted("dropped.retry.budget") > 0
    assert {reply.said["outcome"] for reply in replies} == {"static"}
    assert sent <= 1.2 * (calls + threads) + 10 * (took_s + 1), f"{sent} of {calls} in {took_s:.2f} s"
    assert sent > calls
