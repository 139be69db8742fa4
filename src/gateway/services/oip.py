"""One row of a captured Open Inference Protocol request, for people.

Only what is shown is described here, so that no generated code of the protocol is needed, and none clashes with that of
clients in the same process. Source: KServe, grpc_predict_v2.proto.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = ["MOST_VALUES", "readable_row"]

MOST_VALUES: Final = 1_000
"""Values of one input that are shown; how many more there are is said."""

MOST_TEXT: Final = 32_768
"""Characters of one value that are shown; that it was cut is said."""

_RAW: Final = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_CONTENTS: Final = ("bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes")


def readable_row(message: bytes, row: int) -> dict[str, Any] | None:
    """What a `ModelInferRequest` says about one row.

    Args:
        row: counted from 0; where an input's first dimension has no such row, all of the input is shown.
    Returns: `{"inputs": {name: value or list}}`, JSON values only; None where the bytes are no such request. An input
    whose contents do not fit its shape is None.
    """
    request = _request_class()()
    try:
        request.ParseFromString(message)
    except DecodeError:
        return None
    raw = list(request.raw_input_contents)
    inputs = {}
    for index, tensor in enumerate(request.inputs):
        values = _values(tensor, raw[index] if index < len(raw) else None)
        inputs[tensor.name] = None if values is None else _row(values, list(tensor.shape), row)
    return {"inputs": inputs} if inputs else None


def _values(tensor: Any, raw: bytes | None) -> list[Any] | None:
    count = math.prod(tensor.shape)
    if raw is not None and tensor.datatype == "BYTES":
        values = _strings(raw)
    elif raw is not None and tensor.datatype == "BF16":
        halves = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype("<u4") << 16
        values = halves.view("<f4").tolist()
    elif raw is not None:
        kind = np.dtype(_RAW.get(tensor.datatype, "V1"))
        fits = kind.kind != "V" and len(raw) % kind.itemsize == 0
        values = np.frombuffer(raw, kind).tolist() if fits else None
    else:
        values = next(
            (list(held) for name in _CONTENTS if (held := getattr(tensor.contents, f"{name}_contents"))), []
        )
    return values if values is not None and len(values) == count else None


def _strings(raw: bytes) -> list[bytes] | None:
    """Elements behind lengths of four bytes each, as Triton and KServe have them."""
    values, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            return None
        values.append(raw[at + 4 : end])
        at = end
    return values


def _row(values: list[Any], shape: list[int], row: int) -> Any:
    if shape and 0 <= row < shape[0]:
        width = len(values) // shape[0]
        values = values[row * width : (row + 1) * width]
    more = len(values) - MOST_VALUES
    shown = [_shown(value) for value in values[:MOST_VALUES]]
    if more > 0:
        shown.append(f"... and {more:,} more")
    return shown[0] if len(shown) == 1 else shown


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return f"{len(value):,} bytes that are no text"
        return value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}... ({len(value):,} characters)"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return float(f"{value:.7g}") if isinstance(value, float) else value


@functools.cache
def _request_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="gateway/shown_oip.proto", package="gateway.shown", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        made = file.message_type.add(name=name)
        for called, number, kind, of in fields:
            made.field.add(
                name=called,
                number=number,
                type=kind,
                label=field.LABEL_OPTIONAL if of.startswith("=") else field.LABEL_REPEATED,
                type_name=of.removeprefix("=") or None,
            )

    kinds = (
        field.TYPE_BOOL, field.TYPE_INT32, field.TYPE_INT64, field.TYPE_UINT32,
        field.TYPE_UINT64, field.TYPE_FLOAT, field.TYPE_DOUBLE, field.TYPE_BYTES,
    )  # fmt: skip
    contents = [
        (f"{name}_contents", number, kind, "")
        for number, (name, kind) in enumerate(zip(_CONTENTS, kinds, strict=True), 1)
    ]
    message("Contents", *contents)
    message(
        "Tensor",
        ("name", 1, field.TYPE_STRING, "="),
        ("datatype", 2, field.TYPE_STRING, "="),
        ("shape", 3, field.TYPE_INT64, ""),
        ("contents", 5, field.TYPE_MESSAGE, "=.gateway.shown.Contents"),
    )
    message(
        "Request",
        ("inputs", 5, field.TYPE_MESSAGE, ".gateway.shown.Tensor"),
        ("raw_input_contents", 7, field.TYPE_BYTES, ""),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gateway.shown.Request"))
