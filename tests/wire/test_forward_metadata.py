"""Metadata, trailers and statuses keep what they say, both ways."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import document, model, running

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: EchoServer) -> Iterator[grpc.Channel]:
    with running(document([model("echo", server.address)], default_backend="echo")) as (_, channel):
        yield channel


def sent(
    server: EchoServer, channel: grpc.Channel, *pairs: tuple[str, str | bytes]
) -> list[tuple[str, str | bytes]]:
    """What the server saw of this metadata."""
    channel.unary_unary(f"{SERVICE}/Unary")(b"", metadata=pairs, timeout=10)
    return server.metadata[-1]


def test_duplicates_keep_their_order_and_binary_values_their_bytes(
    server: EchoServer, channel: grpc.Channel
) -> None:
    pairs = [("x-a", "1"), ("x-b-bin", b"\x00\x01\xff"), ("x-a", "2"), ("x-b-bin", b""), ("x-c", "1,2")]
    seen = sent(server, channel, *pairs)
    for name in ("x-a", "x-b-bin", "x-c"):
        assert [value for key, value in seen if key == name] == [value for key, value in pairs if key == name]


def test_headers_and_trailers_of_the_answer_come_back(channel: grpc.Channel) -> None:
    _, call = channel.unary_unary(f"{SERVICE}/Unary").with_call(b"", timeout=10)
    early = [tuple(pair) for pair in call.initial_metadata()]
    late = [tuple(pair) for pair in call.trailing_metadata()]
    assert [value for key, value in early if key == "x-early"] == ["1", "2"]
    assert ("x-early-bin", b"\x00\xff") in early
    assert [value for key, value in late if key == "x-late"] == ["a", "b"]
    assert ("x-late-bin", b"\x01\xfe") in late


def test_a_refusal_without_messages_keeps_code_words_and_trailers(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/Fail")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "nö, 100 % not\n"
    assert ("x-why-bin", b"\x00\x01") in [tuple(pair) for pair in caught.value.trailing_metadata()]


def test_a_failure_after_the_first_message_keeps_both(channel: grpc.Channel) -> None:
    answers = channel.unary_stream(f"{SERVICE}/FailLate")(b"", timeout=10)
    assert next(answers) == b"first"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "lost the rest")


def test_an_unknown_method_is_the_backends_to_refuse(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Echo/Nobody")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_others_say_in_the_gateways_name_is_dropped(server: EchoServer, channel: grpc.Channel) -> None:
    """A caller must not be able to tell a backend what the gateway decided."""
    pairs = [
        ("gateway-outcome", "model"),
        ("gateway-shadow", "1"),
        ("gateway-unit", "u"),
        ("gateway-no-review", "1"),
    ]
    seen = dict(sent(server, channel, *pairs))
    assert "gateway-outcome" not in seen
    assert "gateway-shadow" not in seen
    assert (seen["gateway-unit"], seen["gateway-no-review"]) == ("u", "1")


def test_the_callers_trace_is_carried_on_under_a_span_of_our_own(
    server: EchoServer, channel: grpc.Channel
) -> None:
    seen = dict(sent(server, channel, ("traceparent", PARENT), ("tracestate", "a=b")))
    version, trace, span, flags = str(seen["traceparent"]).split("-")
    assert (version, trace, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span != "b7ad6b7169203331"
    assert seen["tracestate"] == "a=b"


def test_ids_of_the_trace_stand_in_the_records(server: EchoServer) -> None:
    with running(document([model("echo", server.address)], default_backend="echo")) as (plane, channel):
        channel.unary_unary(f"{SERVICE}/Unary")(b"", metadata=[("traceparent", PARENT)], timeout=10)
        [record] = plane.records(1)
        [attempt] = plane.drained.each("attempts")
        span = dict(server.metadata[-1])["traceparent"].split("-")[2]
    assert (record["trace_hi"] << 64) | record["trace_lo"] == 0x0AF7651916CD43DD8448EB211C80319C
    assert (record["parent"], record["traced"]) == (0xB7AD6B7169203331, 1)
    assert attempt["span"] == int(span, 16)
    assert record["span"] not in (0, attempt["span"])


def test_without_a_default_backend_a_method_of_no_route_is_unimplemented(server: EchoServer) -> None:
    with running(document([model("echo", server.address)])) as (plane, channel):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"{SERVICE}/Unary")(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "/test.Echo/Unary" in caught.value.details()
        [record] = plane.records(1)
    assert (record["outcome"], record["status"]) == ("error", 12)


def test_services_of_the_control_plane_go_to_its_socket(server: EchoServer, tmp_path: object) -> None:
    """Without a control plane they are unimplemented, whatever the default backend is."""
    with running(document([model("echo", server.address)], default_backend="echo")) as (_, channel):
        for method in ("/gateway.v1.FeedbackService/Submit", "/grpc.health.v1.Health/Check"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "control plane" in caught.value.details()
