"""What the settings say of an answer's outputs, on the wire: also of those that no prediction is read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import document, model, route, running
from tests.wire.servers import Behaviour, Context, ScriptedServer, pb

WANTED = [
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2], "range": [0, 1], "labels": None, "optional": False},
    {"name": "label", "datatype": "BYTES", "shape": None, "range": None, "labels": ["ham", "spam"], "optional": False},
    {"name": "extra", "datatype": None, "shape": None, "range": [0, 10], "labels": None, "optional": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def says(
    label: bytes = b"spam",
    extra: float | None = None,
    name: str = "extra",
    kind: str = "FP32",
    count: int = 3,
) -> Behaviour:
    """Sure scores, with other outputs beside them; typed."""

    def behave(asked: pb.ModelInferRequest, _: Context) -> bytes:
        message = pb.ModelInferResponse(model_name=asked.model_name)
        scores = message.outputs.add(name="probabilities", datatype="FP32", shape=[count, 2])
        scores.contents.fp32_contents.extend([0.1, 0.9] * count)
        message.outputs.add(name="label", datatype="BYTES", shape=[count]).contents.bytes_contents.extend(
            [label] * count
        )
        if extra is not None:
            tensor = message.outputs.add(name=name, datatype=kind, shape=[count])
            contents = tensor.contents.fp32_contents if kind == "FP32" else tensor.contents.fp64_contents
            contents.extend([0.0] * (count - 1) + [extra])
        return message.SerializeToString()

    return behave


def checked(server: ScriptedServer, **check: Any) -> dict[str, Any]:
    whole = {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None, "outputs": WANTED} | check
    return document([model("only", server.address)], [route(["only"], check=whole)])


def outcome(channel: grpc.Channel, explain: bool = True) -> str:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    metadata = [("gateway-explain", "1")] if explain else []
    try:
        _, call = ask.with_call(request("spam", rows(3)), metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        call = error
    said = {str(key): str(value) for key, value in call.trailing_metadata()}
    (reason,) = set(said["gateway-reason"].split(","))
    return reason


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (says(), "ok"),
        (says(extra=9.5), "ok"),
        (says(extra=10.5), "invalid_output"),
        (says(extra=float("nan")), "invalid_output"),
        (says(extra=float("inf"), kind="FP64"), "invalid_output"),
        (says(label=b"eggs"), "invalid_output"),
        (says(extra=1.0, name="debug"), "ok"),
    ],
    ids=["good", "within", "beyond", "nan", "inf", "label", "unknown"],
)
def test_outputs_must_be_what_was_said(server: ScriptedServer, behaviour: Behaviour, reason: str) -> None:
    """The model is sure, and its prediction good, in each."""
    server.reset(behaviour)
    with running(checked(server)) as (_, channel):
        assert outcome(channel) == reason


def test_unknown_outputs_and_rows_are_demanded_only_where_wanted(server: ScriptedServer) -> None:
    """Stricter by setting."""
    for behaviour, check in (
        (says(extra=1.0, name="debug"), {"unknown_outputs": "miss"}),
        (says(count=1), {"rows": "same"}),
    ):
        server.reset(behaviour)
        with running(checked(server)) as (_, channel):
            assert outcome(channel) == "ok"
        with running(checked(server, **check)) as (_, channel):
            assert outcome(channel) == "invalid_output"


def test_a_long_output_is_checked_where_it_stands(server: ScriptedServer) -> None:
    """Eight megabytes beside the prediction, the fault in the last element."""
    long = np.zeros(2_000_000, dtype="<f4")

    def behave(asked: pb.ModelInferRequest, _: Context) -> bytes:
        message = pb.ModelInferResponse(model_name=asked.model_name)
        message.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
        message.outputs.add(name="label", datatype="BYTES", shape=[1])
        message.outputs.add(name="extra", datatype="FP32", shape=[len(long)])
        message.raw_output_contents.append(np.asarray([0.1, 0.9], dtype="<f4").tobytes())
        message.raw_output_contents.append(b"\x04\x00\x00\x00spam")
        message.raw_output_contents.append(long.tobytes())
        return message.SerializeToString()

    server.reset(behave)
    with running(checked(server)) as (_, channel):
        assert outcome(channel) == "ok"
        long[-1] = 11.0
        assert outcome(channel) == "invalid_output"
