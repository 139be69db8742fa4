"""Messages as protobuf itself encodes them, with what the data plane must make of each.

The data plane scans the wire format with code of its own, so its tests need messages from an encoder that is not ours.
Written to `CASES` by `python tests/wire_format/protobuf_cases.py`; read there by the Rust tests.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, service_pb2
from tritonclient.grpc._utils import _get_inference_request
from tritonclient.utils import serialize_byte_tensor

CASES = Path(__file__).parents[2] / "src/dataplane/src/wire/oip/tests/cases.json"

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
NUMPY = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
NUMBERS = {
    "BOOL": [1, 0, 0, 1],
    "INT8": [-128, 127, 0, -1],
    "INT16": [-32768, 32767, 0, -1],
    "INT32": [-(2**31), 2**31 - 1, 0, -1],
    "INT64": [-(2**62), 2**53, 0, -1],
    "UINT8": [255, 0, 1, 128],
    "UINT16": [65535, 0, 1, 128],
    "UINT32": [2**32 - 1, 0, 1, 128],
    "UINT64": [2**63, 0, 1, 2**53],
    "FP16": [0.5, -0.25, 65504.0, 2.0**-24],
    "BF16": [0.5, -0.25, 3.0, 2.0**-100],
    "FP32": [0.125, -0.875, 2.0**100, 0.0],
    "FP64": [0.1, -0.9, 1e300, 5e-324],
}
SPEC: dict[str, Any] = {
    "scores": None,
    "label": None,
    "confidence": None,
    "value": None,
    "classes": ["ham", "spam"],
    "positive": 1,
    "threshold": 0.5,
    "datatype": "FP32",
}
ANSWER: dict[str, Any] = {"label": None, "score": None, "scores": None, "value": None}


def text(message: bytes) -> str:
    return base64.b64encode(message).decode()


def raw_bytes(datatype: str, elements: list[Any]) -> bytes:
    if datatype == "BYTES":
        packed: bytes = serialize_byte_tensor(np.array(elements, dtype=np.object_)).item()
        return packed
    if datatype == "BF16":
        return b"".join(struct.pack("<f", element)[2:] for element in elements)
    return np.array(elements, dtype=NUMPY[datatype]).tobytes()


def respond(raw: bool, *outputs: tuple[str, str, list[int], list[Any]]) -> service_pb2.ModelInferResponse:
    response = service_pb2.ModelInferResponse(model_name="spam", model_version="3", id="7")
    response.parameters["note"].string_param = "not asked for"
    for name, datatype, shape, elements in outputs:
        tensor = response.outputs.add(name=name, datatype=datatype, shape=shape)
        if raw:
            response.raw_output_contents.append(raw_bytes(datatype, elements))
        else:
            getattr(tensor.contents, TYPED[datatype]).extend(elements)
    return response


def reads() -> list[dict[str, Any]]:
    """Every datatype, typed and raw, behind an output that nobody reads."""
    cases: list[dict[str, Any]] = []
    other = ("embedding", "FP32", [2, 3], [0.0] * 6)

    def case(name: str, message: service_pb2.ModelInferResponse, spec: dict[str, Any], **want: Any) -> None:
        wanted = {"rows": 0, "columns": 0, "scores": [], "labels": [], "confidence": [], "values": []} | want
        for numbers in ("scores", "confidence", "values"):
            # As texts, which Rust parses to the last bit; serde_json's numbers are not so exact.
            wanted[numbers] = [repr(float(number)) for number in wanted[numbers]]
        cases.append(
            {
                "name": name,
                "spec": SPEC | spec,
                "message": text(message.SerializeToString()),
                "want": wanted,
            }
        )

    for datatype, numbers in NUMBERS.items():
        for raw in (False, True):
            if not raw and datatype not in TYPED:
                continue
            form = "raw" if raw else "typed"
            scores = respond(raw, other, ("p", datatype, [2, 2], numbers))
            case(f"{datatype} scores, {form}", scores, {"scores": "p"}, rows=2, columns=2, scores=numbers)
            value = respond(raw, ("v", datatype, [4, 1], numbers), other)
            case(f"{datatype} value, {form}", value, {"value": "v"}, rows=4, values=numbers)
    for raw in (False, True):
        form = "raw" if raw else "typed"
        texts = [b"spam", b"ham", "größer".encode(), b""]
        labels = ["class 1", "class 0", "text größer", "text "]
        answer = respond(raw, other, ("l", "BYTES", [4], texts))
        case(f"labels as BYTES, {form}", answer, {"label": "l"}, rows=4, labels=labels)
        for datatype in ("INT64", "INT32", "UINT8", "BOOL"):
            answer = respond(raw, ("l", datatype, [3, 1], [1, 0, 1]))
            indexes = ["class 1", "class 0", "class 1"]
            case(f"labels as {datatype}, {form}", answer, {"label": "l"}, rows=3, labels=indexes)
        everything = respond(
            raw,
            ("c", "FP64", [2], [0.75, 0.5]),
            other,
            ("v", "INT32", [2, 1], [-4, 5]),
            ("l", "BYTES", [2], [b"ham", b"spam"]),
            ("s", "FP32", [2], [0.25, 0.5]),
        )
        case(
            f"all at once, {form}",
            everything,
            {"scores": "s", "label": "l", "confidence": "c", "value": "v"},
            rows=2,
            columns=1,
            scores=[0.25, 0.5],
            labels=["class 0", "class 1"],
            confidence=[0.75, 0.5],
            values=[-4, 5],
        )
    return cases


def requests() -> list[tuple[str, service_pb2.ModelInferRequest]]:
    """Requests as tritonclient makes them, and as others do."""
    made = []
    age = InferInput("age", [2, 1], "FP32").set_data_from_numpy(np.array([[30], [40]], dtype=np.float32))
    email = InferInput("email", [2], "BYTES")
    email.set_data_from_numpy(np.array([b"a@example.org", b"b@example.org"], dtype=np.object_))
    raw = _get_inference_request(
        model_name="spam",
        inputs=[email, age],
        model_version="3",
        request_id="call-9",
        outputs=None,
        sequence_id=17,
        sequence_start=True,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters={"device": "phone", "tries": 3, "share": 0.5, "new": True},
    )
    made.append(("tritonclient, raw", raw))
    typed = service_pb2.ModelInferRequest(model_name="spam", id="größer")
    typed.inputs.add(name="email", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        b"a@example.org"
    )
    tensor = typed.inputs.add(name="age", datatype="INT64", shape=[1, 1])
    tensor.parameters["content_type"].string_param = "np"
    tensor.contents.int64_contents.append(-5)
    typed.parameters["big"].uint64_param = 2**40
    typed.parameters["below"].int64_param = -(2**40)
    typed.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    made.append(("typed", typed))
    made.append(("empty", service_pb2.ModelInferRequest()))
    made.append(
        (
            "wide",
            service_pb2.ModelInferRequest(
                model_name="m" * 300,
                inputs=[
                    service_pb2.ModelInferRequest.InferInputTensor(
                        name=f"x{n}", datatype="FP64", shape=[5, n, 300]
                    )
                    for n in range(40)
                ],
            ),
        )
    )
    return made


def heads() -> list[dict[str, Any]]:
    cases = []
    for name, request in requests():
        params: dict[str, list[Any]] = {}
        for key in sorted(request.parameters):
            choice = request.parameters[key].WhichOneof("parameter_choice")
            params[key] = [choice.replace("uint64", "int64"), getattr(request.parameters[key], choice)]
        inputs = [[tensor.name, tensor.datatype, list(tensor.shape)] for tensor in request.inputs]
        want = {
            "model": request.model_name,
            "version": request.model_version,
            "id": request.id,
            "params": params,
            "inputs": inputs,
            "raw": len(request.raw_input_contents) > 0,
            "rows": inputs[0][2][0] if inputs else 1,
        }
        cases.append(
            {"name": name, "message": text(request.SerializeToString(deterministic=True)), "want": want}
        )
    return cases


def redactions() -> list[dict[str, Any]]:
    """What is left of a request without its email, its parameters and its requested outputs."""
    cases = []
    for name, request in requests():
        left = service_pb2.ModelInferRequest(
            model_name=request.model_name, model_version=request.model_version, id=request.id
        )
        for position, tensor in enumerate(request.inputs):
            if tensor.name != "email":
                left.inputs.append(tensor)
                if request.raw_input_contents:
                    left.raw_input_contents.append(request.raw_input_contents[position])
        case = {
            "name": name,
            "drop": ["email"],
            "message": text(request.SerializeToString(deterministic=True)),
        }
        cases.append(case | {"want": text(left.SerializeToString())})
    return cases


def static_answers() -> list[dict[str, Any]]:
    cases = []
    full = {"scores": "p", "label": "l", "confidence": "c", "value": "v"}
    for datatype in ("FP16", "FP32", "FP64", "INT32", "INT64", "UINT8"):
        for raw in (False, True):
            request = service_pb2.ModelInferRequest(model_name="spam", model_version="3", id="7")
            request.inputs.add(name="x", datatype="FP32", shape=[3, 4])
            if raw:
                request.raw_input_contents.append(b"\0" * 48)
            elif datatype == "FP16":
                continue
            wanted = service_pb2.ModelInferResponse(model_name="spam", model_version="3", id="7")
            outputs: list[tuple[str, str, list[int], list[Any]]] = [
                ("p", datatype, [3, 2], [1, 0] * 3),
                ("l", "BYTES", [3], [b"ham"] * 3),
                ("c", datatype, [3], [1] * 3),
                ("v", datatype, [3], [42] * 3),
            ]
            made = respond(raw, *outputs)
            wanted.outputs.extend(made.outputs)
            wanted.raw_output_contents.extend(made.raw_output_contents)
            cases.append(
                {
                    "name": f"{datatype}, {'raw' if raw else 'typed'}",
                    "spec": SPEC | full | {"datatype": datatype},
                    "answer": ANSWER | {"score": 0.0, "value": 42.0},
                    "request": text(request.SerializeToString()),
                    "want": text(wanted.SerializeToString()),
                }
            )
    return cases


def metadata() -> list[dict[str, Any]]:
    wanted = service_pb2.ModelMetadataResponse(name="spam", platform="gateway_static")
    wanted.outputs.add(name="p", datatype="FP32", shape=[-1, 2])
    wanted.outputs.add(name="l", datatype="BYTES", shape=[-1])
    spec = SPEC | {"scores": "p", "label": "l"}
    return [{"name": "scores and label", "spec": spec, "want": text(wanted.SerializeToString())}]


def appended() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for name, version in (("spam_lite", None), ("spam", ""), ("n" * 200, "12")):
        encoded = service_pb2.ModelInferRequest(
            model_name=name, model_version=version or ""
        ).SerializeToString()
        # An explicit empty version is what protobuf leaves out; on the wire it is two bytes.
        encoded += b"\x12\x00" if version == "" else b""
        cases.append({"model": name, "version": version, "want": text(encoded)})
    values: list[tuple[str, Any]] = [
        ("bool_param", True),
        ("bool_param", False),
        ("int64_param", -1),
        ("int64_param", 300),
        ("double_param", 0.1),
        ("string_param", ""),
        ("string_param", "ö" * 100),
    ]
    for choice, value in values:
        response = service_pb2.ModelInferResponse()
        setattr(response.parameters["gateway_reason"], choice, value)
        cases.append({"param": "gateway_reason", "choice": choice, "value": value})
        cases[-1]["want"] = text(response.SerializeToString())
    return cases


def document() -> str:
    cases = {
        "heads": heads(),
        "reads": reads(),
        "redactions": redactions(),
        "static_answers": static_answers(),
        "metadata": metadata(),
        "appended": appended(),
    }
    lines = [
        f' "{kind}": [\n  ' + ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in listed) + "\n ]"
        for kind, listed in cases.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    CASES.write_text(document(), encoding="utf-8")
