"""Unmodified clients, and what they can see of the gateway: trailers (grpcio) or response parameters (tritonclient)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

__all__ = [
    "FEATURES",
    "INFER",
    "Reply",
    "infer_by_grpcio",
    "infer_by_tritonclient",
    "request",
    "rows",
    "said",
    "triton_input",
]

INFER = "/inference.GRPCInferenceService/ModelInfer"
FEATURES = 4


@dataclass(frozen=True)
class Reply:
    """What one call came back with. `said` is what the gateway says of it, without `gateway-`."""

    status: str
    message: str
    said: Mapping[str, str]
    probabilities: NDArray[Any] | None = None


def said(pairs: Iterable[Any] | Mapping[str, str]) -> dict[str, str]:
    """The gateway's own pairs, whether trailers (`-`) or response parameters (`_`)."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    texts = {str(pair[0]).replace("_", "-"): pair[1] for pair in items if isinstance(pair[1], str)}
    return {
        name.removeprefix("gateway-"): value for name, value in texts.items() if name.startswith("gateway-")
    }


def rows(count: int = 1, features: int = FEATURES) -> NDArray[np.float32]:
    return np.arange(count * features, dtype=np.float32).reshape(count, features)


def request(model: str, values: NDArray[np.float32], parameters: Mapping[str, str] | None = None) -> Any:
    """A `ModelInferRequest` with typed contents."""
    message = pb.ModelInferRequest(model_name=model)
    tensor = message.inputs.add(name="features", datatype="FP32", shape=values.shape)
    tensor.contents.fp32_contents.extend(values.ravel().tolist())
    for name, value in (parameters or {}).items():
        message.parameters[name].string_param = value
    return message


def infer_by_grpcio(
    channel: grpc.Channel,
    model: str,
    count: int = 1,
    metadata: Sequence[tuple[str, str]] = (),
    timeout_s: float = 10.0,
) -> Reply:
    call = channel.unary_unary(
        INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    try:
        answer, rpc = call.with_call(request(model, rows(count)), timeout=timeout_s, metadata=tuple(metadata))
    except grpc.RpcError as error:
        return Reply(error.code().name, error.details() or "", said(error.trailing_metadata() or ()))
    values = None
    for tensor in answer.outputs:
        if tensor.name == "probabilities":
            values = np.asarray(tensor.contents.fp32_contents, np.float32).reshape(tensor.shape)
    return Reply("OK", "", said(rpc.trailing_metadata() or ()), values)


def triton_input(values: NDArray[np.float32], kind: Any = triton.InferInput) -> Any:
    tensor = kind("features", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def infer_by_tritonclient(
    client: triton.InferenceServerClient,
    model: str,
    count: int = 1,
    metadata: Sequence[tuple[str, str]] = (),
    timeout_s: float = 10.0,
) -> Reply:
    try:
        result = client.infer(
            model, [triton_input(rows(count))], headers=dict(metadata), client_timeout=timeout_s
        )
    except InferenceServerException as error:
        status = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
        return Reply(status, error.message(), {})
    parameters = result.get_response().parameters
    texts = {name: value.string_param for name, value in parameters.items()}
    return Reply("OK", "", said(texts), result.as_numpy("probabilities"))
