"""Connections as odd servers and odd callers have them: what goes away, what is handed back, what ends too early."""

from __future__ import annotations

import socket
import threading
import time

import grpc
import h2.errors
import pytest
from hyperframe.frame import RstStreamFrame

from tests.wire.clients import INFER, request, rows
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.http2 import GRPC, Http2Caller, Http2Server, Stream, answer_fully
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, pb, scores

UNARY = f"{SERVICE}/Unary"


def before(server: Http2Server | EchoServer) -> dict[str, object]:
    return document([model("odd", server.address)], default_backend="odd")


def error_of(channel: grpc.Channel) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNARY)(b"x", timeout=10)
    return caught.value


def test_a_stream_without_a_status_is_an_internal_error_and_never_ok() -> None:
    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, GRPC)
        stream.connection.send_data(stream.id, stream.body, end_stream=True)

    with Http2Server(behave) as server, running(before(server)) as (_, channel):
        error = error_of(channel)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "without a grpc-status" in error.details()


def test_trailers_without_a_status_are_an_internal_error() -> None:
    def behave(stream: Stream) -> None:
        answer_fully(stream, trailers={"x-other": "1"})

    with Http2Server(behave) as server, running(before(server)) as (_, channel):
        assert error_of(channel).code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("http", "code"),
    [
        ("503", grpc.StatusCode.UNAVAILABLE),
        ("404", grpc.StatusCode.UNIMPLEMENTED),
        ("401", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_an_answer_that_is_not_grpc_becomes_a_status(http: str, code: grpc.StatusCode) -> None:
    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, [(":status", http), ("content-type", "text/html")])
        stream.connection.send_data(stream.id, b"<html>", end_stream=True)

    with Http2Server(behave) as server, running(before(server)) as (_, channel):
        assert error_of(channel).code() is code


def test_a_full_answer_followed_by_a_reset_counts() -> None:
    """A server may end the stream before it has read the request, and say so by RST_STREAM(NO_ERROR)."""

    def behave(stream: Stream) -> None:
        answer_fully(stream, b"\0\0\0\0\1x")
        stream.raw += RstStreamFrame(stream.id, error_code=0).serialize()

    with Http2Server(behave, early=True) as server, running(before(server)) as (_, channel):
        for _ in range(20):
            assert channel.unary_unary(UNARY)(b"request", timeout=10) == b"x"


def test_a_refused_stream_is_sent_again() -> None:
    def behave(stream: Stream) -> None:
        if stream.number == 1:
            stream.connection.reset_stream(stream.id, h2.errors.ErrorCodes.REFUSED_STREAM)
        else:
            answer_fully(stream)

    with Http2Server(behave) as server, running(before(server)) as (plane, channel):
        assert channel.unary_unary(UNARY)(b"again", timeout=10) == b"again"
        assert plane.dataplane.counters()["retried.unprocessed"] == 1
        [record] = plane.records(1)
    assert server.streams == 2
    assert record["status"] == 0


def test_a_stream_beyond_a_goaway_is_sent_again_on_another_connection() -> None:
    def behave(stream: Stream) -> None:
        if stream.number == 1:
            stream.connection.close_connection(last_stream_id=0)
        else:
            answer_fully(stream)

    with Http2Server(behave) as server, running(before(server)) as (_, channel):
        assert channel.unary_unary(UNARY)(b"again", timeout=10) == b"again"
    assert server.connections == 2


def test_a_reset_by_the_backend_is_not_repeated() -> None:
    """It may have done its work: only what was certainly not taken up is sent again."""

    def behave(stream: Stream) -> None:
        stream.connection.reset_stream(stream.id, h2.errors.ErrorCodes.INTERNAL_ERROR)

    with Http2Server(behave) as server, running(before(server)) as (_, channel):
        assert error_of(channel).code() is grpc.StatusCode.INTERNAL
        assert server.streams == 1


def test_a_decided_call_goes_on_along_its_chain_when_the_stream_breaks() -> None:
    def behave(stream: Stream) -> None:
        stream.connection.reset_stream(stream.id, h2.errors.ErrorCodes.INTERNAL_ERROR)

    with Http2Server(behave) as odd, ScriptedServer(scores(0.9)) as good:
        backends = [model("odd", odd.address), model("good", good.address)]
        with running(document(backends, [route(["odd", "good"])])) as (_, channel):
            _, call = channel.unary_unary(INFER).with_call(
                request("spam", rows()).SerializeToString(), timeout=10
            )
            trailers = {str(key): value for key, value in call.trailing_metadata()}
    assert trailers["gateway-attempts"] == "odd:backend_error,good:ok"


def test_an_unreachable_default_backend_is_unavailable_and_says_where() -> None:
    with running(document([model("gone", "127.0.0.1:1")], default_backend="gone")) as (_, channel):
        error = error_of(channel)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1" in error.details()


def test_calls_are_spread_over_endpoints_and_a_dead_one_is_left_out() -> None:
    with EchoServer() as one, EchoServer() as two:
        backend = model("pair", [one.address, two.address, "127.0.0.1:1"])
        with running(document([backend], default_backend="pair")) as (_, channel):
            for _ in range(60):
                assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
        assert len(one.metadata) > 5
        assert len(two.metadata) > 5


def test_a_backend_may_listen_on_a_unix_socket_and_so_may_the_gateway(tmp_path: object) -> None:
    path = f"{tmp_path}/in.sock"
    with EchoServer() as server, running(before(server), inference=f"unix:{path}") as (plane, channel):
        assert plane.address == f"unix:{path}"
        assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
        with running(document([model("unix", plane.address)], default_backend="unix")) as (_, outer):
            assert outer.unary_unary(UNARY)(b"y", timeout=10) == b"y"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"\0\0\0\0\x02\xff\xff", "3", id="no protobuf"),
        pytest.param(b"", "3", id="no message"),
        pytest.param(b"\x07\0\0\0\0", "3", id="unknown flag"),
        pytest.param(b"\0\0\0\0\x09abc", "3", id="cut short"),
        pytest.param(b"\0\0\0\0\0\0\0\0\0\0", "3", id="two messages"),
        pytest.param(b"\x01\0\0\0\x03abc", "13", id="compressed by nothing known"),
    ],
)
def test_a_malformed_message_is_refused_and_the_connection_lives(body: bytes, status: str) -> None:
    with ScriptedServer(scores(0.9)) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (plane, _):
            caller = Http2Caller(plane.address)
            answer = caller.call(INFER, body)
            assert answer.trailers["grpc-status"] == status
            assert len(answer.trailers["grpc-message"]) > 10
            good = request("spam", rows()).SerializeToString()
            framed = b"\0" + len(good).to_bytes(4, "big") + good
            assert caller.call(INFER, framed).trailers["gateway-outcome"] == "model"
            assert not caller.terminated
            caller.close()
        assert len(server.calls()) == 1


def test_what_is_not_grpc_is_refused_by_http() -> None:
    with EchoServer() as server, running(before(server)) as (plane, _):
        caller = Http2Caller(plane.address)
        assert caller.call(UNARY, b"", method="GET").headers[":status"] == "405"
        assert caller.call(UNARY, b"{}", {"content-type": "application/json"}).headers[":status"] == "415"
        caller.close()


def test_an_unknown_model_is_not_found_or_the_default_backends() -> None:
    message = pb.ModelInferRequest(model_name="other").SerializeToString()
    with ScriptedServer(scores(0.9)) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (plane, channel):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(INFER)(message, timeout=10)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert '"other"' in caught.value.details()
            plane.publish(policy | {"default_backend": "a"})
            _, call = channel.unary_unary(INFER).with_call(message, timeout=10)
        assert server.calls()[-1].request.model_name == "other"
        assert call.trailing_metadata() == ()


def until_refused(address: str) -> None:
    """Wait until nobody accepts connections there any more."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return
        assert time.monotonic() < until, f"{address} still takes connections"


def test_shutdown_lets_calls_under_way_finish_and_takes_no_new_ones() -> None:
    silent = Silent(scores(0.9))
    with ScriptedServer(silent) as server:
        policy = document([model("a", server.address)], [route(["a"])])
        with running(policy) as (plane, channel):
            held = channel.unary_unary(INFER).future(request("spam", rows()).SerializeToString(), timeout=20)
            silent.wait_for(1)
            stopping = threading.Thread(target=plane.dataplane.shutdown, args=(10_000,))
            stopping.start()
            until_refused(plane.address)
            with pytest.raises(grpc.RpcError), grpc.insecure_channel(plane.address) as late:
                late.unary_unary(INFER)(b"", timeout=1)
            silent.release()
            assert pb.ModelInferResponse.FromString(held.result()).model_name == "spam"
            stopping.join(10)
            assert not stopping.is_alive()
            # A late call may have come in by a connection that was there before the port was closed, to be refused.
            outcomes = [record["outcome"] for record in plane.records(1)]
    assert outcomes.count("model") == 1


def test_shutdown_gives_up_calls_that_outlast_its_grace() -> None:
    silent = Silent(scores(0.9))
    with ScriptedServer(silent) as server:
        with running(document([model("a", server.address)], [route(["a"])])) as (plane, channel):
            held = channel.unary_unary(INFER).future(request("spam", rows()).SerializeToString(), timeout=20)
            silent.wait_for(1)
            plane.dataplane.shutdown(100)
            with pytest.raises(grpc.RpcError) as caught:
                held.result()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            plane.dataplane.shutdown(100)
        silent.release()


def test_an_address_in_use_is_named() -> None:
    with (
        EchoServer() as server,
        running(before(server)) as (plane, _),
        pytest.raises(OSError, match=plane.address),
        running(before(server), inference=plane.address),
    ):
        pass
