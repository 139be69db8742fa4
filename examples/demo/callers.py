"""Callers as users write them: nothing in here knows that there is a gateway, but for reading what it says of itself.

Each kind of client can be pointed at the gateway or at the model server. The answer is read the same way from both.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from .data import CLASSES, FEATURES, Call

__all__ = ["AioCaller", "Answer", "Caller", "GrpcCaller", "TritonCaller"]

INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL = "eight"
TIMEOUT_S = 0.5
RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
"""A client that waits long before it looks for a dead server again would make the model alone look worse than it is."""


@dataclass(frozen=True)
class Answer:
    """What one call came back with.

    eights: per row, whether the caller takes it for an eight; None where there is no usable number.
    error: the status, if the call failed.
    said: what the gateway says of the call (`outcome`, `reason`, `receipt`, ...); empty without a gateway.
    """

    eights: tuple[bool | None, ...]
    duration_s: float
    error: str | None
    said: Mapping[str, str]

    def by_row(self, word: str) -> list[str]:
        """`outcome` or `reason` of each row; one word stands for all rows of a call."""
        words = self.said.get(word, "").split(",")
        return words if len(words) == len(self.eights) else words[:1] * len(self.eights)


class Caller(Protocol):
    """One client on one connection."""

    def call(self, call: Call) -> Answer: ...

    def close(self) -> None: ...


def decide(probabilities: NDArray[Any] | None, rows: int) -> tuple[bool | None, ...]:
    """An eight where its probability is at least one half; a NaN is no answer."""
    if probabilities is None or probabilities.shape != (rows, len(CLASSES)):
        return (None,) * rows
    return tuple(bool(value >= 0.5) if np.isfinite(value) else None for value in probabilities[:, 1])


def _said(pairs: Mapping[str, str]) -> dict[str, str]:
    """`gateway-outcome` (a trailer) or `gateway_outcome` (a response parameter) as `outcome`."""
    names = {name.replace("_", "-"): value for name, value in pairs.items()}
    return {
        name.removeprefix("gateway-"): value for name, value in names.items() if name.startswith("gateway-")
    }


def _texts(metadata: Iterable[Any] | None) -> dict[str, str]:
    return {str(key): value for key, value in metadata or () if isinstance(value, str)}


class GrpcCaller:
    """Plain grpcio with typed contents; reads trailers."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=RECONNECT)
        self._infer = self._channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def call(self, call: Call) -> Answer:
        rows = len(call.samples)
        request = pb.ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add(name="features", datatype="FP32", shape=[rows, FEATURES])
        tensor.contents.fp32_contents.extend(call.features.ravel().tolist())
        started = time.perf_counter()
        try:
            answer, rpc = self._infer.with_call(request, timeout=TIMEOUT_S, metadata=call.metadata)
        except grpc.RpcError as error:
            return Answer(
                (None,) * rows,
                time.perf_counter() - started,
                error.code().name,
                _said(_texts(error.trailing_metadata())),
            )
        duration_s = time.perf_counter() - started
        output = next(tensor for tensor in answer.outputs if tensor.name == "probabilities")
        values = np.asarray(output.contents.fp32_contents, dtype=np.float32).reshape(output.shape)
        return Answer(decide(values, rows), duration_s, None, _said(_texts(rpc.trailing_metadata())))

    def close(self) -> None:
        self._channel.close()


def _input(kind: Any, call: Call) -> Any:
    tensor = kind("features", [len(call.samples), FEATURES], "FP32")
    tensor.set_data_from_numpy(call.features)
    return tensor


def _triton_answer(
    result: Any, error: InferenceServerException | None, rows: int, duration_s: float
) -> Answer:
    if error is not None:
        status = (error.status() or "").removeprefix("StatusCode.")
        return Answer((None,) * rows, duration_s, status or "UNKNOWN", {})
    parameters = result.get_response().parameters
    said = _said({name: value.string_param for name, value in parameters.items()})
    return Answer(decide(result.as_numpy("probabilities"), rows), duration_s, None, said)


class TritonCaller:
    """tritonclient as it comes, raw contents; reads response parameters, as it cannot see trailers."""

    def __init__(self, address: str) -> None:
        self._client = triton.InferenceServerClient(address, channel_args=RECONNECT)

    def call(self, call: Call) -> Answer:
        inputs = [_input(triton.InferInput, call)]
        result, failure = None, None
        started = time.perf_counter()
        try:
            result = self._client.infer(MODEL, inputs, client_timeout=TIMEOUT_S, headers=dict(call.metadata))
        except InferenceServerException as error:
            failure = error
        return _triton_answer(result, failure, len(call.samples), time.perf_counter() - started)

    def close(self) -> None:
        self._client.close()


class AioCaller:
    """tritonclient's asyncio twin."""

    def __init__(self, address: str) -> None:
        self._client = triton_aio.InferenceServerClient(address, channel_args=RECONNECT)

    async def call(self, call: Call) -> Answer:
        inputs = [_input(triton_aio.InferInput, call)]
        result, failure = None, None
        started = time.perf_counter()
        try:
            result = await self._client.infer(
                MODEL, inputs, client_timeout=TIMEOUT_S, headers=dict(call.metadata)
            )
        except InferenceServerException as error:
            failure = error
        return _triton_answer(result, failure, len(call.samples), time.perf_counter() - started)

    async def close(self) -> None:
        await self._client.close()
