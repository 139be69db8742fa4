"""Captured requests are read as they were sent: every datatype, raw and typed, by row; and garbage is told."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from gateway.datasets.tensors import Unreadable, heads, tensors
from tests.datasets.making import infer_request

ROWS: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False], [False, True], [True, True]]),
    "UINT8": np.array([[0, 255], [1, 2], [3, 4]], dtype="u1"),
    "UINT16": np.array([[0, 65_535], [1, 2], [3, 4]], dtype="<u2"),
    "UINT32": np.array([[0, 2**32 - 1], [1, 2], [3, 4]], dtype="<u4"),
    "UINT64": np.array([[0, 2**64 - 1], [1, 2], [3, 4]], dtype="<u8"),
    "INT8": np.array([[-128, 127], [1, 2], [3, 4]], dtype="i1"),
    "INT16": np.array([[-32_768, 5], [1, 2], [3, 4]], dtype="<i2"),
    "INT32": np.array([[-(2**31), 5], [1, 2], [3, 4]], dtype="<i4"),
    "INT64": np.array([[-(2**63), 5], [1, 2], [3, 4]], dtype="<i8"),
    "FP16": np.array([[0.5, -2.0], [1, 2], [3, 4]], dtype="<f2"),
    "FP32": np.array([[0.1, np.inf], [1, 2], [3, 4]], dtype="<f4"),
    "FP64": np.array([[0.1, np.pi], [1, 2], [3, 4]], dtype="<f8"),
    "BYTES": np.array([[b"", b"\xff\x00"], [b"a", b"bc"], [b"d", b"e"]], dtype=object),
}


@pytest.mark.parametrize("datatype", ROWS)
def test_every_datatype_is_read_by_row(datatype: str) -> None:
    """As tritonclient writes it, little-endian."""
    request = infer_request({"x": (datatype, ROWS[datatype])})
    assert heads(request) == [("x", datatype)]
    for row in range(3):
        (tensor,) = tensors(request, row)
        assert (tensor.name, tensor.datatype, tensor.shape) == ("x", datatype, (2,))
        assert tensor.values.tolist() == ROWS[datatype][row].tolist()


def test_bf16_is_the_upper_half_of_fp32() -> None:
    """Few libraries know it; every FP32 whose lower half is zero comes back as it was."""
    values = np.array([1.0, -2.5, 0.15625], dtype="<f4")
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="BF16", shape=[1, 3])
    request.raw_input_contents.append((values.view("<u4") >> 16).astype("<u2").tobytes())
    (tensor,) = tensors(request.SerializeToString(), 0)
    assert tensor.values.tolist() == values.tolist()


@pytest.mark.parametrize("datatype", ["BOOL", "INT64", "UINT8", "FP32", "FP64", "BYTES"])
def test_typed_contents_are_read_as_raw_ones(datatype: str) -> None:
    """Both forms are in the protocol."""
    inputs = {"x": (datatype, ROWS[datatype])}
    for row in range(3):
        (raw,), (typed,) = (tensors(infer_request(inputs, raw=form), row) for form in (True, False))
        assert raw.values.tolist() == typed.values.tolist()
        assert raw.shape == typed.shape


@given(st.integers(1, 4), st.lists(st.integers(0, 3), max_size=3), st.data())
def test_rows_put_together_are_the_call(rows: int, shape: list[int], data: st.DataObject) -> None:
    """Whatever the shape, empty dimensions among them."""
    values = np.arange(rows * int(np.prod(shape, dtype=int)), dtype="<f4").reshape([rows, *shape])
    request = infer_request({"x": ("FP32", values)})
    found = [tensors(request, row)[0] for row in range(rows)]
    assert all(one.shape == tuple(shape) for one in found)
    assert np.concatenate([one.values for one in found]).tolist() == values.ravel().tolist()


def test_an_input_that_has_no_rows_belongs_to_each_row() -> None:
    """The number of rows is the first dimension of the first input, as the data plane counts."""
    request = infer_request(
        {
            "x": ("FP32", np.zeros((3, 1), "<f4")),
            "k": ("INT64", np.array([5, 6], "<i8")),
            "s": ("INT64", np.array(9)),
        }
    )
    for row in range(3):
        _, k, s = tensors(request, row)
        assert (k.shape, k.values.tolist()) == ((2,), [5, 6])
        assert (s.shape, s.values.tolist()) == ((), [9])


def broken(
    datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), raw: bytes | None = b"\0" * 8, more: int = 0
) -> bytes:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.extend([raw] * (1 + more))
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    ("request_bytes", "row", "words"),
    [
        (b"\xff", 0, "no ModelInferRequest"),
        (broken(more=1), 0, "2 raw contents for 1 inputs"),
        (broken(shape=(1, 3)), 0, "2 values for shape"),
        (broken(shape=(1, -2)), 0, r"shape \[1, -2\]"),
        (broken(raw=b"\0" * 7), 0, "7 bytes of FP32"),
        (broken(datatype="FP8"), 0, "datatype 'FP8'"),
        (broken(datatype="FP16", raw=None), 0, "no raw contents"),
        (broken(), 1, "row 1 of 1"),
        (broken(shape=(0, 2), raw=b""), 0, "row 0 of 0"),
        (broken(shape=(2**62, 2**62)), 0, "2 values for shape"),
        (broken("BYTES", (1,), b"\1\0\0"), 0, "within a length"),
        (broken("BYTES", (1,), b"\5\0\0\0ab"), 0, "within an element"),
    ],
)
def test_garbage_is_told_and_never_read_as_something(request_bytes: bytes, row: int, words: str) -> None:
    """Callers send what they like; a wrong value in a training set is worse than none."""
    with pytest.raises(Unreadable, match=words):
        tensors(request_bytes, row)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_are_read_or_refused(data: bytes, row: int) -> None:
    """No other exception may end an export of ten million rows."""
    with contextlib.suppress(Unreadable):
        tensors(data, row)
