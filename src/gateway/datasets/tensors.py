"""Captured requests of the Open Inference Protocol, read row by row into numpy.

The data plane scans these messages for what a decision needs and never for their contents, so they are read here, by
protobuf's own reader. The few fields that matter are described below instead of by generated code, which tritonclient
has and a gateway need not install. Source: KServe, grpc_predict_v2.proto (Open Inference Protocol).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

__all__ = ["DTYPES", "Tensor", "Unreadable", "heads", "tensors"]

DTYPES: Final[Mapping[str, str]] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
"""Of raw contents, little-endian; a BF16 is the upper half of an FP32."""

_CONTENTS: Final = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Unreadable(Exception):
    """A captured request that is not what its protocol says; counted, and its inputs are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One input of one row. `values`: flat, in row-major order (objects of `bytes` for BYTES); `shape`: of this row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any]


def heads(request: bytes) -> list[tuple[str, str]]:
    """Name and datatype of each input.

    Raises: Unreadable.
    """
    return [(tensor.name, tensor.datatype) for tensor in _parsed(request).inputs]


def tensors(request: bytes, row: int, datatypes: Mapping[str, str] | None = None) -> list[Tensor]:
    """The inputs of one row of a request.

    An input whose first dimension is the number of the call's rows (the first dimension of its first input, as the data
    plane counts them) is cut to that row; another belongs to every row as it is.

    Raises: Unreadable.
    """
    message = _parsed(request)
    inputs, raw = list(message.inputs), list(message.raw_input_contents)
    if raw and len(raw) != len(inputs):
        raise Unreadable(f"{len(raw)} raw contents for {len(inputs)} inputs")
    rows = int(inputs[0].shape[0]) if inputs and inputs[0].shape else 1
    found = []
    for index, tensor in enumerate(inputs):
        shape = tuple(int(size) for size in tensor.shape)
        if any(size < 0 for size in shape):
            raise Unreadable(f"input {tensor.name!r} has shape {list(shape)}")
        values = _values(tensor, raw[index] if raw else None)
        if len(values) != math.prod(shape):
            raise Unreadable(f"input {tensor.name!r} has {len(values)} values for shape {list(shape)}")
        if shape and shape[0] == rows:
            if not 0 <= row < rows:
                raise Unreadable(f"row {row} of {rows}")
            size = len(values) // rows
            shape, values = shape[1:], values[row * size : (row + 1) * size]
        found.append(Tensor(tensor.name, tensor.datatype, shape, values))
    return found


def _values(tensor: Any, raw: bytes | None) -> NDArray[Any]:
    datatype = tensor.datatype
    kind = DTYPES.get(datatype)
    if kind is None:
        raise Unreadable(f"input {tensor.name!r} has datatype {datatype[:32]!r}")
    if raw is None:
        contents = _CONTENTS.get(datatype)
        if contents is None:
            raise Unreadable(f"input {tensor.name!r} of {datatype} has no raw contents")
        held = getattr(tensor.contents, contents)
        return _objects(list(held)) if datatype == "BYTES" else np.array(held, dtype=kind)
    if datatype == "BYTES":
        return _objects(_texts(raw))
    width = np.dtype(kind).itemsize
    if len(raw) % width:
        raise Unreadable(f"input {tensor.name!r}: {len(raw)} bytes of {datatype}")
    if datatype == "BOOL":
        bits = np.frombuffer(raw, dtype="u1")
        return bits.astype(np.bool_)  # another byte than 0 and 1 is no bool to Arrow
    values: NDArray[Any] = np.frombuffer(raw, dtype=kind)
    if datatype == "BF16":
        wide: NDArray[Any] = (values.astype("<u4") << np.uint32(16)).view("<f4")
        return wide
    return values.astype("<f4") if datatype == "FP16" else values


def _texts(raw: bytes) -> list[bytes]:
    """BYTES: each element behind its length, four bytes."""
    found, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise Unreadable("BYTES end within a length")
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + size > len(raw):
            raise Unreadable("BYTES end within an element")
        found.append(raw[at : at + size])
        at += size
    return found


def _objects(values: list[bytes]) -> NDArray[Any]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _parsed(request: bytes) -> Any:
    try:
        return _REQUEST.FromString(request)
    except DecodeError as error:
        raise Unreadable(f"no ModelInferRequest: {error}") from None


def _request_class() -> Any:
    """`ModelInferRequest`, as far as it is read here; other fields are skipped."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="gateway/captured.proto", package="gateway.captured", syntax="proto3"
    )
    contents = file.message_type.add(name="Contents")
    kinds = (
        ("bool_contents", field.TYPE_BOOL),
        ("int_contents", field.TYPE_INT32),
        ("int64_contents", field.TYPE_INT64),
        ("uint_contents", field.TYPE_UINT32),
        ("uint64_contents", field.TYPE_UINT64),
        ("fp32_contents", field.TYPE_FLOAT),
        ("fp64_contents", field.TYPE_DOUBLE),
        ("bytes_contents", field.TYPE_BYTES),
    )
    for number, (name, kind) in enumerate(kinds, 1):
        contents.field.add(name=name, number=number, type=kind, label=field.LABEL_REPEATED)
    tensor = file.message_type.add(name="Input")
    tensor.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    tensor.field.add(name="datatype", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    tensor.field.add(name="shape", number=3, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    tensor.field.add(
        name="contents",
        number=5,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".gateway.captured.Contents",
    )
    request = file.message_type.add(name="Request")
    request.field.add(
        name="inputs",
        number=5,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".gateway.captured.Input",
    )
    request.field.add(name="raw_input_contents", number=7, type=field.TYPE_BYTES, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gateway.captured.Request"))


_REQUEST: Final[Any] = _request_class()
