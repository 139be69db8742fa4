"""The call that every peer carries: one `ModelInfer` of about 300 bytes, and the answer of a static backend."""

from __future__ import annotations

import struct
from pathlib import Path

from tritonclient.grpc import service_pb2 as pb

__all__ = ["PATH", "framed", "write_answer", "write_request"]

PATH = "/inference.GRPCInferenceService/ModelInfer"
FEATURES = 60


def framed(message: bytes) -> bytes:
    """The message behind its five-byte gRPC head."""
    return struct.pack(">BI", 0, len(message)) + message


def write_request(path: Path, extra_bytes: int = 0) -> int:
    """One row of features, 288 bytes with its frame; larger by `extra_bytes` of further features."""
    request = pb.ModelInferRequest(model_name="spam", id="0123456789")
    features = FEATURES + extra_bytes // 4
    request.inputs.add(name="features", datatype="FP32", shape=[1, features])
    request.raw_input_contents.append(struct.pack(f"<{features}f", *([0.25] * features)))
    body = framed(request.SerializeToString())
    path.write_bytes(body)
    return len(body)


def write_answer(docroot: Path) -> int:
    """What the backend answers to every call: two probabilities, of which the policy is sure enough."""
    answer = pb.ModelInferResponse(model_name="spam", model_version="1", id="0123456789")
    answer.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
    answer.raw_output_contents.append(struct.pack("<2f", 0.04, 0.96))
    file = docroot / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    body = framed(answer.SerializeToString())
    file.write_bytes(body)
    return len(body)
