"""`on_miss: rows`: only the rows that missed reach the next backend, and the caller gets one answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc import service_pb2 as pb

from gateway._dataplane import verify_receipt
from tests.wire.clients import INFER
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import Behaviour, ScriptedServer, answer, fail

KEY = bytes.fromhex("11" * 32)


def by_input(shift: float = 0.0) -> Behaviour:
    """Each row's score is what its input says: which rows came shows in what was answered."""

    def behave(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        values = inputs(request) + shift
        return answer(request, [(1.0 - value, value) for value in values.tolist()])

    return behave


def inputs(request: pb.ModelInferRequest) -> np.ndarray[Any, np.dtype[np.float32]]:
    if request.raw_input_contents:
        return np.frombuffer(request.raw_input_contents[1], dtype="<f4")
    return np.asarray(request.inputs[1].contents.fp32_contents, dtype=np.float32)


def batch(values: list[float], *, raw: bool, padding: int = 0) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="spam", id="b-1")
    texts = [f"text {value}".encode() + b"." * padding for value in values]
    first = message.inputs.add(name="text", datatype="BYTES", shape=[len(values), 1])
    second = message.inputs.add(name="value", datatype="FP32", shape=[len(values)])
    if raw:
        lengths = [len(text).to_bytes(4, "little") + text for text in texts]
        message.raw_input_contents.extend([b"".join(lengths), np.asarray(values, dtype="<f4").tobytes()])
    else:
        first.contents.bytes_contents.extend(texts)
        second.contents.fp32_contents.extend(values)
    return message


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def second() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def policy(first: ScriptedServer, second: ScriptedServer, **changes: Any) -> dict[str, Any]:
    backends = [model("first", first.address, model="inner"), model("second", second.address), static()]
    return document(backends, [route(["first", "second", "ham"], on_miss="rows", **changes)])


def infer(
    channel: grpc.Channel, message: pb.ModelInferRequest, compression: grpc.Compression | None = None
) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    got, call = ask.with_call(message, timeout=10, compression=compression)
    return got, {str(key).removeprefix("gateway-"): str(value) for key, value in call.trailing_metadata()}


def positive(message: pb.ModelInferResponse) -> list[float]:
    at = [output.name for output in message.outputs].index("probabilities")
    if message.raw_output_contents:
        values = np.frombuffer(message.raw_output_contents[at], dtype="<f4")
    else:
        values = np.asarray(message.outputs[at].contents.fp32_contents)
    shape = list(message.outputs[at].shape)
    return [round(float(value), 4) for value in values.reshape(shape)[:, 1]]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_rows_go_their_own_ways_and_come_back_as_one_answer(
    first: ScriptedServer, second: ScriptedServer, raw: bool, compression: grpc.Compression | None
) -> None:
    """The second is asked for two rows of five; one of them is left for the static answer."""
    first.reset(by_input())
    second.reset(by_input(0.2))
    with running(policy(first, second)) as (plane, channel):
        got, trailers = infer(channel, batch([0.99, 0.7, 0.01, 0.4, 0.95], raw=raw), compression)
        records = plane.records(5)
    [asked] = second.calls()
    assert asked.request.inputs[0].shape == [2, 1]
    assert asked.request.id == "b-1"
    assert inputs(asked.request).tolist() == pytest.approx([0.7, 0.4])
    if not raw:
        assert list(asked.request.inputs[0].contents.bytes_contents) == [b"text 0.7", b"text 0.4"]
    assert positive(got) == [0.99, 0.9, 0.01, 0.0, 0.95]
    assert bool(got.raw_output_contents) == raw
    assert (got.model_name, got.id) == ("spam", "b-1")
    assert trailers["outcome"] == "model,fallback,model,static,model"
    assert trailers["reason"] == "ok,low_confidence,ok,low_confidence,ok"
    assert trailers["attempts"] == "first:low_confidence,second:low_confidence,ham:ok"
    assert got.parameters["gateway_outcome"].string_param == trailers["outcome"]
    assert [record["backend"] for record in records] == [0, 1, 0, 2, 0]
    assert [round(record["score"], 4) for record in records] == [0.99, 0.9, 0.01, 0.0, 0.95]
    receipt = verify_receipt(trailers["receipt"], [KEY])
    assert [row["outcome"] for row in receipt["rows"]] == trailers["outcome"].split(",")


def test_outputs_that_a_static_answer_has_not_are_left_out(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """Half a column would look like a whole one."""
    first.reset(by_input())
    second.reset(by_input(0.2))
    with running(policy(first, second)) as (_, channel):
        both, _ = infer(channel, batch([0.99, 0.7], raw=True))
        with_static, _ = infer(channel, batch([0.99, 0.4], raw=True))
    assert [output.name for output in both.outputs] == ["probabilities", "label"]
    assert [output.name for output in with_static.outputs] == ["probabilities"]


def test_a_long_batch_is_taken_apart_as_far_as_it_is_kept(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """What streamed to the first backend is still here for the second."""
    first.reset(by_input())
    second.reset(by_input(0.2))
    values = [0.99, 0.7] * 8
    with running(policy(first, second)) as (_, channel):
        got, trailers = infer(channel, batch(values, raw=True, padding=20_000))
        assert len(second.calls()[-1].request.inputs) == 2
        assert second.calls()[-1].request.inputs[1].shape == [8]
        assert positive(got) == [0.99, 0.9] * 8
        assert trailers["outcome"] == ",".join(["model", "fallback"] * 8)


def test_a_fallback_that_fails_leaves_the_good_rows_alone(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """A second backend that is down must not cost what the first one knew."""
    first.reset(by_input())
    second.reset(fail(grpc.StatusCode.UNAVAILABLE))
    with running(policy(first, second)) as (_, channel):
        got, trailers = infer(channel, batch([0.99, 0.7], raw=False))
    assert positive(got) == [0.99, 0.0]
    assert trailers["outcome"] == "model,static"


def test_a_fallback_of_another_form_is_an_invalid_answer(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """Rows of three classes cannot stand among rows of two."""

    def three(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        return answer(request, [(0.9, 0.05, 0.05)] * len(inputs(request)))

    first.reset(by_input())
    second.reset(three)
    with running(policy(first, second)) as (_, channel):
        got, trailers = infer(channel, batch([0.99, 0.7], raw=True))
    assert positive(got) == [0.99, 0.0]
    assert trailers["attempts"] == "first:low_confidence,second:invalid_output,ham:ok"


def test_a_request_that_has_no_rows_falls_back_whole(first: ScriptedServer, second: ScriptedServer) -> None:
    """An input without a row for each cannot be taken apart: then the batch stays one."""
    first.reset(by_input())
    second.reset(by_input(0.2))
    message = batch([0.99, 0.7], raw=False)
    odd = message.inputs.add(name="temperature", datatype="FP32", shape=[1])
    odd.contents.fp32_contents.append(0.5)
    with running(policy(first, second)) as (_, channel):
        got, trailers = infer(channel, message)
    assert second.calls()[-1].request.inputs[1].shape == [2]
    assert trailers["outcome"] == "static,static"
    assert positive(got) == [0.0, 0.0]


def test_tritonclient_reads_an_answer_of_several_backends(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """The client that most callers have."""
    first.reset(by_input())
    second.reset(by_input(0.2))
    text = InferInput("text", [3, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"a"], [b"b"], [b"c"]], dtype=np.object_))
    value = InferInput("value", [3], "FP32")
    value.set_data_from_numpy(np.array([0.99, 0.7, 0.02], dtype=np.float32))
    with running(policy(first, second)) as (plane, _), InferenceServerClient(plane.address) as client:
        result = client.infer("spam", [text, value])
        assert result.as_numpy("probabilities")[:, 1].round(4).tolist() == pytest.approx([0.99, 0.9, 0.02])
        assert result.as_numpy("label").tolist() == [b"spam", b"spam", b"ham"]
        assert result.get_response().parameters["gateway_outcome"].string_param == "model,fallback,model"
