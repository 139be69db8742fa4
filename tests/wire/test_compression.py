"""Compressed messages with grpcio on both sides: read where a route must, unpacked for callers that cannot."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request
from tests.wire.echo import SERVICE
from tests.wire.http2 import GRPC, Http2Caller, Http2Server, Stream
from tests.wire.plane import LIMITS, document, model, route, running, static
from tests.wire.servers import Context, ScriptedServer, scores

UNREAD = {
    "prediction": None,
    "check": {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None},
    "confidence": None,
}
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
BY_NAME = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
BOTH = sorted(PACK)


def framed(message: bytes, packed: bool) -> bytes:
    return bytes([packed]) + len(message).to_bytes(4, "big") + message


def packing(encoding: str, message: bytes, count: int = 1) -> Callable[[Stream], None]:
    """A server that compresses whatever its caller accepts."""

    def behave(stream: Stream) -> None:
        body = framed(PACK[encoding](message), packed=True) * count
        stream.connection.send_headers(stream.id, [*GRPC, ("grpc-encoding", encoding)])
        stream.connection.send_data(stream.id, body)
        stream.connection.send_headers(stream.id, [("grpc-status", "0")], end_stream=True)

    return behave


def answer(score: float = 0.9) -> bytes:
    made = pb.ModelInferResponse(model_name="a", model_version="1")
    tensor = made.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1 - score, score])
    encoded: bytes = made.SerializeToString()
    return encoded


def asked() -> bytes:
    encoded: bytes = request("spam", np.zeros((1, 4), np.float32)).SerializeToString()
    return encoded


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    def compressing(request: pb.ModelInferRequest, context: Context) -> bytes:
        accepted = dict(context.invocation_metadata())
        context.set_compression(BY_NAME.get(str(accepted.get("x-answer")), grpc.Compression.NoCompression))
        return scores(0.9)(request, context)

    with ScriptedServer(compressing) as server:
        yield server


@pytest.mark.parametrize("down", [*BOTH, "identity"])
@pytest.mark.parametrize("up", [*BOTH, "identity"])
@pytest.mark.parametrize("name", ["spam", "other"])
def test_grpcio_compresses_both_ways(server: ScriptedServer, up: str, down: str, name: str) -> None:
    """Decided, under its own name and under another."""
    backends = [model("a", server.address, model=None if name == "spam" else name), static()]
    with running(document(backends, [route(["a", "ham"])])) as (_, channel):
        ask = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        made, rpc = ask.with_call(
            request("spam", np.zeros((64, 4), np.float32)),
            timeout=10,
            compression=BY_NAME.get(up),
            metadata=(("x-answer", down),),
        )
        told = dict(rpc.trailing_metadata())
    assert told["gateway-attempts"] == "a:ok"
    assert list(made.outputs[0].shape) == [64, 2]
    assert server.calls()[-1].request.model_name == name


@pytest.mark.parametrize("encoding", BOTH)
def test_streams_of_compressed_messages_are_renamed(server: ScriptedServer, encoding: str) -> None:
    """Each is unpacked, appended to, and goes on uncompressed."""
    with running(document([model("a", server.address, model="other")], [route(["a"])])) as (_, channel):
        ask = channel.stream_stream(
            STREAM, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
        )
        messages = [request("spam", np.zeros((32, 4), np.float32)) for _ in range(5)]
        made = ask(
            iter(messages), timeout=10, compression=BY_NAME[encoding], metadata=(("x-answer", encoding),)
        )
        names = [one.infer_response.model_name for one in made]
    assert names == ["spam"] * 5
    assert {seen.request.model_name for seen in server.calls("ModelStreamInfer")} == {"other"}


@pytest.mark.parametrize("accepts", [None, "identity", "identity,deflate", "gzip"])
def test_a_caller_gets_no_encoding_that_it_does_not_accept(accepts: str | None) -> None:
    """A decided answer: unpacked and marked, or as it came."""
    with (
        Http2Server(packing("gzip", answer())) as server,
        running(document([model("a", server.address)], [route(["a"])])) as (plane, _),
    ):
        caller = Http2Caller(plane.address)
        extra = {} if accepts is None else {"grpc-accept-encoding": accepts}
        made = caller.call(INFER, framed(asked(), packed=False), extra)
        caller.close()
    assert made.trailers["grpc-status"] == "0"
    if accepts == "gzip":
        assert made.headers["grpc-encoding"] == "gzip"
        assert made.body == framed(gzip.compress(answer()), packed=True) or made.body[0] == 1
        return
    assert "grpc-encoding" not in made.headers
    assert made.body[0] == 0
    said = pb.ModelInferResponse.FromString(made.body[5:])
    assert said.parameters["gateway_attempts"].string_param == "a:ok"


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize("routed", [False, True])
def test_what_is_passed_through_is_unpacked_as_well(encoding: str, routed: bool) -> None:
    """Untouched and by method, message by message."""
    match = {"model": None, "method": f"{SERVICE}/*", "metadata": {}}
    routes = [route(["a"], match=match, **UNREAD)] if routed else []
    message = b"again " * 1000
    with Http2Server(packing(encoding, message, count=3)) as server:
        policy = document([model("a", server.address)], routes, default_backend="a")
        with running(policy) as (plane, _):
            caller = Http2Caller(plane.address)
            plain = caller.call(f"{SERVICE}/Many", framed(b"", packed=False))
            kept = caller.call(
                f"{SERVICE}/Many", framed(b"", packed=False), {"grpc-accept-encoding": encoding}
            )
            caller.close()
    assert plain.body == framed(message, packed=False) * 3
    assert "grpc-encoding" not in plain.headers
    assert kept.body == framed(PACK[encoding](message), packed=True) * 3 or kept.body[0] == 1
    assert kept.headers["grpc-encoding"] == encoding


def refusal(address: str, path: str, encoding: str | None, body: bytes) -> str:
    caller = Http2Caller(address)
    answer = caller.call(path, body, {} if encoding is None else {"grpc-encoding": encoding})
    caller.close()
    return answer.trailers["grpc-status"]


@pytest.mark.parametrize("path", [INFER, STREAM])
@pytest.mark.parametrize(
    ("encoding", "status"),
    [("snappy", "12"), (None, "13"), ("gzip", "3")],
    ids=["unknown", "none named", "broken"],
)
def test_what_cannot_be_unpacked_is_refused(path: str, encoding: str | None, status: str) -> None:
    """UNIMPLEMENTED, INTERNAL and INVALID_ARGUMENT: what gRPC's page on compression wants."""
    with ScriptedServer(scores(0.9)) as server:
        backends = [model("a", server.address, model="other")]
        with running(document(backends, [route(["a"])])) as (plane, _):
            assert refusal(plane.address, path, encoding, framed(b"not packed", packed=True)) == status
            second = framed(asked(), packed=False) + framed(b"not packed", packed=True)
            if path == STREAM:
                assert refusal(plane.address, path, encoding, second) == (
                    "12" if encoding is None else status
                )
        assert not [seen for seen in server.seen if seen.request.model_name != "other"]


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(megabytes)), packer.flush()])


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_callers_bomb_is_refused(path: str) -> None:
    """8 MB in 8 KB: refused at the limit of what is kept."""
    with ScriptedServer(scores(0.9)) as server:
        with running(document([model("a", server.address)], [route(["a"])])) as (plane, _):
            assert refusal(plane.address, path, "gzip", framed(bomb(8), packed=True)) == "8"
        assert server.seen == []


@pytest.mark.parametrize("read", [True, False])
def test_a_backends_bomb_is_not_unpacked(read: bool) -> None:
    """It misses where the route reads it; where it must be unpacked for the caller, the call ends."""

    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, [*GRPC, ("grpc-encoding", "gzip")])
        packed = framed(bomb(8), packed=True)
        stream.connection.send_data(stream.id, packed)
        stream.connection.send_headers(stream.id, [("grpc-status", "0")], end_stream=True)

    limits = LIMITS | {"answer_bytes": 1 << 20}
    changes: dict[str, Any] = {} if read else UNREAD
    with Http2Server(behave) as server:
        chain = ["a", "ham"] if read else ["a"]
        backends = [model("a", server.address), static()]
        with running(document(backends, [route(chain, **changes)], limits=limits)) as (plane, _):
            caller = Http2Caller(plane.address)
            made = caller.call(INFER, framed(asked(), packed=False))
            caller.close()
    if read:
        assert made.trailers["gateway-attempts"] == "a:invalid_output,ham:ok"
    else:
        assert made.trailers["grpc-status"] != "0"
        assert len(made.body) < 1 << 20
