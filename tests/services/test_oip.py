"""What people see of a request of the Open Inference Protocol: their row of it, in every form it may have."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from gateway.services.oip import MOST_TEXT, MOST_VALUES, readable_row


def request(**inputs: tuple[str, list[int], str, list[object]]) -> bytes:
    """By name: datatype, shape, field of the contents, values."""
    made = pb.ModelInferRequest(model_name="spam", id="7")
    for name, (datatype, shape, field, values) in inputs.items():
        tensor = made.inputs.add(name=name, datatype=datatype, shape=shape)
        getattr(tensor.contents, f"{field}_contents").extend(values)
    encoded: bytes = made.SerializeToString()
    return encoded


def raw(*inputs: tuple[str, list[int], bytes]) -> bytes:
    made = pb.ModelInferRequest(model_name="spam")
    for index, (datatype, shape, content) in enumerate(inputs):
        made.inputs.add(name=f"in{index}", datatype=datatype, shape=shape)
        made.raw_input_contents.append(content)
    encoded: bytes = made.SerializeToString()
    return encoded


def test_a_row_is_shown_alone() -> None:
    """A reviewer judges one row; the others are other tasks."""
    message = request(
        text=("BYTES", [2, 1], "bytes", ["größer".encode(), b"you"]),
        sizes=("FP32", [2, 2], "fp32", [1, 2, 3, 0.1]),
        flags=("BOOL", [2], "bool", [True, False]),
        whole=("INT64", [1], "int64", [5]),
    )
    assert readable_row(message, 0) == {
        "inputs": {"text": "größer", "sizes": [1.0, 2.0], "flags": True, "whole": 5}
    }
    assert readable_row(message, 1) == {
        "inputs": {"text": "you", "sizes": [3.0, 0.1], "flags": False, "whole": 5}
    }


@pytest.mark.parametrize("kind", ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_raw_contents_are_read_by_their_type(kind: str) -> None:
    """As tritonclient sends them."""
    names = {"bool": "BOOL", "u": "UINT", "i": "INT", "f": "FP"}
    datatype = names.get(kind) or f"{names[kind[0]]}{8 * int(kind[1:])}"
    values = np.array([[1, 0], [1, 1]]).astype("?" if kind == "bool" else f"<{kind}")
    assert readable_row(raw((datatype, [2, 2], values.tobytes())), 1) == {
        "inputs": {"in0": values[1].tolist()}
    }


def test_raw_texts_and_short_floats_are_read() -> None:
    """Lengths before texts; bfloat16 is the upper half of a float."""
    texts = serialize_byte_tensor(np.array(["a", "bc"], dtype=object)).item()
    halves = (np.array([1.5, -2.0], dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes()
    message = raw(("BYTES", [2], texts), ("BF16", [2], halves))
    assert readable_row(message, 1) == {"inputs": {"in0": "bc", "in1": -2.0}}


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"\xff\xff\xff\xffa", b"\x01\0\0\0a\x05\0\0\0b"],
)
def test_contents_that_do_not_fit_are_not_guessed(content: bytes) -> None:
    """Nothing is better than the wrong row."""
    message = raw(("BYTES", [2], content), ("FP32", [2], content), ("ODD", [1], b"x"), ("INT8", [1], b"\x07"))
    shown = readable_row(message, 0)
    assert shown is not None
    assert shown["inputs"] == {"in0": None, "in1": None, "in2": None, "in3": 7}


def test_what_is_no_request_is_none() -> None:
    """Another protocol's message, or nothing that could be shown."""
    assert readable_row(b"\xff", 0) is None
    assert readable_row(b"", 0) is None


def test_long_inputs_are_cut_and_say_so() -> None:
    """A megabyte of numbers is for no reviewer; what is shown is JSON."""
    message = request(
        many=("INT64", [1, 2_500], "int64", list(range(2_500))),
        long=("BYTES", [1], "bytes", [b"x" * (MOST_TEXT + 1)]),
        odd=("BYTES", [1], "bytes", [b"\xff\xfe"]),
        nan=("FP64", [1], "fp64", [float("nan")]),
    )
    shown = readable_row(message, 0)
    assert shown is not None
    inputs = shown["inputs"]
    assert (len(inputs["many"]), inputs["many"][-1]) == (MOST_VALUES + 1, "... and 1,500 more")
    assert inputs["long"].endswith(f"... ({MOST_TEXT + 1:,} characters)")
    assert (inputs["odd"], inputs["nan"]) == ("2 bytes that are no text", "nan")
    json.dumps(shown, allow_nan=False)
