"""OIP tensors <-> numpy: values typed in `contents`, or raw little-endian bytes beside the tensors.

tritonclient has this for its own side only (requests out, answers in); a server needs the other way round.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

__all__ = ["TensorError", "add_bytes", "add_floats", "read_floats"]

_FLOATS = {"FP32": ("<f4", "fp32_contents"), "FP64": ("<f8", "fp64_contents")}


class TensorError(ValueError):
    """The caller's tensor cannot be read; the text says what was found and what was wanted."""


def read_floats(request: pb.ModelInferRequest, name: str, features: int) -> NDArray[np.float32]:
    """The input `name` as [rows, features].

    Raises: TensorError, for a missing input, another datatype or shape, or values that do not fill the shape.
    """
    index = next((at for at, tensor in enumerate(request.inputs) if tensor.name == name), None)
    if index is None:
        found = ", ".join(tensor.name for tensor in request.inputs) or "none"
        raise TensorError(f"input {name!r} is missing (found: {found})")
    tensor = request.inputs[index]
    if tensor.datatype not in _FLOATS:
        raise TensorError(f"input {name!r} has datatype {tensor.datatype!r}, wanted FP32 or FP64")
    shape = tuple(tensor.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != features:
        raise TensorError(f"input {name!r} has shape {list(shape)}, wanted [rows, {features}]")

    dtype, field = _FLOATS[tensor.datatype]
    if request.raw_input_contents:
        if len(request.raw_input_contents) != len(request.inputs):
            raise TensorError(
                f"{len(request.raw_input_contents)} raw contents for {len(request.inputs)} inputs, wanted one each"
            )
        raw = request.raw_input_contents[index]
        if len(raw) % np.dtype(dtype).itemsize:
            raise TensorError(f"input {name!r} has {len(raw)} raw bytes, not whole {tensor.datatype} values")
        values = np.frombuffer(raw, dtype=dtype)
    else:
        values = np.asarray(getattr(tensor.contents, field), dtype=dtype)
    if values.size != shape[0] * shape[1]:
        raise TensorError(
            f"input {name!r} has {values.size} values, its shape {list(shape)} wants {shape[0] * shape[1]}"
        )
    return values.reshape(shape).astype(np.float32, copy=False)


def add_floats(answer: pb.ModelInferResponse, name: str, values: NDArray[np.float32], *, raw: bool) -> None:
    """Append an FP32 output."""
    tensor = answer.outputs.add(name=name, datatype="FP32", shape=values.shape)
    if raw:
        answer.raw_output_contents.append(values.astype("<f4", copy=False).tobytes())
    else:
        tensor.contents.fp32_contents.extend(values.ravel().tolist())


def add_bytes(answer: pb.ModelInferResponse, name: str, values: Iterable[str], *, raw: bool) -> None:
    """Append a BYTES output of texts, one per row."""
    texts = [value.encode() for value in values]
    tensor = answer.outputs.add(name=name, datatype="BYTES", shape=[len(texts)])
    if raw:  # each text behind its length, as Triton lays BYTES out
        answer.raw_output_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in texts))
    else:
        tensor.contents.bytes_contents.extend(texts)
