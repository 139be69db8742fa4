"""Open Inference Protocol messages, as tritonclient's generated code writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tritonclient.grpc import service_pb2 as pb


def request(rows: int = 1, *, model: str = "spam", tensor_bytes: int = 64, **params: str) -> bytes:
    """A `ModelInferRequest` with one raw input of about `tensor_bytes`."""
    message = pb.ModelInferRequest(model_name=model, id="req-1")
    for name, value in params.items():
        message.parameters[name].string_param = value
    columns = max(1, tensor_bytes // (4 * rows))
    message.inputs.add(name="features", datatype="FP32", shape=[rows, columns])
    message.raw_input_contents.append(b"\0" * (4 * rows * columns))
    encoded: bytes = message.SerializeToString()
    return encoded


def answer(of_spam: Sequence[float], *, raw: bool = True, model: str = "spam") -> bytes:
    """A `ModelInferResponse` with the scores of ham and spam by row."""
    message = pb.ModelInferResponse(model_name=model, id="req-1")
    output = message.outputs.add(name="probabilities", datatype="FP32", shape=[len(of_spam), 2])
    scores = [score for spam in of_spam for score in (1 - spam, spam)]
    if raw:
        message.raw_output_contents.append(struct.pack(f"<{len(scores)}f", *scores))
    else:
        output.contents.fp32_contents.extend(scores)
    encoded: bytes = message.SerializeToString()
    return encoded
