"""Write the fuzzers' seeds: small, real examples of everything that the data plane reads.

`make fuzz-seeds` runs it; the seeds are kept in the repository, so that a fuzzer starts where a caller would.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

from tritonclient.grpc import service_pb2 as oip

from gateway._dataplane import sign_receipt
from gateway.config import read, read_text
from gateway.runtime.document import document
from tests.wire.certificates import Authority

ROOT = Path(__file__).resolve().parents[1]
SEEDS = ROOT / "src/dataplane/fuzz/seeds"
SALT = "00" * 32


def write(target: str, name: str, data: bytes) -> None:
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def requests() -> dict[str, bytes]:
    small = oip.ModelInferRequest(model_name="spam", id="7")
    first = small.inputs.add(name="email", datatype="BYTES", shape=[2, 1])
    first.contents.bytes_contents.extend([b"one", b"two"])
    small.parameters["tier"].string_param = "gold"
    small.parameters["n"].int64_param = -3
    raw = oip.ModelInferRequest(model_name="spam", model_version="3")
    raw.inputs.add(name="x", datatype="FP32", shape=[3, 2])
    raw.inputs.add(name="secret", datatype="INT64", shape=[3])
    raw.raw_input_contents.extend([struct.pack("<6f", *range(6)), struct.pack("<3q", 1, 2, 3)])
    return {"typed": small.SerializeToString(), "raw": raw.SerializeToString(), "empty": b""}


def answers() -> dict[str, bytes]:
    scores = oip.ModelInferResponse(model_name="spam", id="7")
    out = scores.outputs.add(name="p", datatype="FP32", shape=[2, 2])
    out.contents.fp32_contents.extend([0.1, 0.9, 0.5, 0.5])
    labels = oip.ModelInferResponse(model_name="spam")
    out = labels.outputs.add(name="l", datatype="BYTES", shape=[2])
    out.contents.bytes_contents.extend([b"ham", b"spam"])
    out = labels.outputs.add(name="c", datatype="FP64", shape=[2])
    out.contents.fp64_contents.extend([0.7, 0.8])
    raw = oip.ModelInferResponse(model_name="spam")
    raw.outputs.add(name="p", datatype="FP16", shape=[2, 1])
    raw.outputs.add(name="v", datatype="INT32", shape=[2])
    raw.outputs.add(name="l", datatype="BYTES", shape=[1])
    texts = struct.pack("<I", 3) + b"ham"
    raw.raw_output_contents.extend([b"\x00\x3c\x00\x38", struct.pack("<2i", -1, 5), texts])
    return {
        "scores": b"\x00" + scores.SerializeToString(),
        "labels": b"\x05" + labels.SerializeToString(),
        "values": b"\x08" + raw.SerializeToString(),
        "raw": b"\x01" + raw.SerializeToString(),
    }


def frames() -> dict[str, bytes]:
    message = requests()["typed"]
    one = struct.pack(">BI", 0, len(message)) + message
    return {"one": one, "three": one + b"\x01\x00\x00\x00\x00" + one, "cut": one[:-3]}


def certificates() -> dict[str, bytes]:
    authority = Authority()
    return {
        "spiffe.der": authority.issue("spiffe://acme/ns/prod/sa/web", "web.acme.org", "10.1.2.3").der,
        "common.der": authority.issue(common="web").der,
        "many.der": authority.issue(*(f"spiffe://acme/{n}" for n in range(70)), "*.acme.org").der,
        "nobody.der": authority.issue().der,
    }


def receipts() -> dict[str, bytes]:
    row = {"score": 0.5, "flagged": True, "sampled": False, "outcome": "model", "class": 1, "review_pi": 0.1}
    fields = {
        "id": bytes(range(16)),
        "policy": 7,
        "route": "spam",
        "backend": "spam-v3",
        "segment": "device=phone",
        "rows": [row, row | {"score": None, "flagged": None, "class": None}],
    }
    import base64

    text = sign_receipt(fields, b"0123456789abcdef")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return {"text": text.encode(), "body": raw[:-16], "one-row": raw[:-26]}


def policies() -> dict[str, bytes]:
    from tests.config.examples import EVERYTHING, TEN_LINES

    found = {}
    for name, text in (("ten-lines", TEN_LINES), ("everything", EVERYTHING)):
        settings = read_text(text, env={}).settings
        assert settings is not None
        made = document(settings, version=1, salt_hex=SALT, receipt_keys=[b"0123456789abcdef"])
        found[f"{name}.json"] = json.dumps(made, indent=1).encode()
    return found


def described_policy() -> bytes:
    settings = read((ROOT / "examples/settings/any-service.yaml"), env={}).settings
    assert settings is not None
    made = document(settings, version=1, salt_hex=SALT, receipt_keys=[b"0123456789abcdef"])
    return json.dumps(made, indent=1).encode() + b"\n"


def described() -> dict[str, bytes]:
    from tests.wire.described import message, tensor

    asked = message("scoring.ScoreRequest", request_id="7")
    asked.sender.country = "nl"
    asked.sender.address = "a@example.org"
    asked.items.add(text="one", subject="s")
    asked.items.add()
    scored = message("scoring.ScoreResponse")
    scored.predictions.add(score=0.25, verdict=1, why="w")
    scored.predictions.add()
    predict = message("tensorflow.serving.PredictRequest")
    predict.model_spec.name = "spam"
    predict.inputs["text"].CopyFrom(tensor([[1.0], [2.0]]))
    predicted = message("tensorflow.serving.PredictResponse")
    predicted.outputs["probabilities"].CopyFrom(tensor([[0.25, 0.75]]))
    content = message("tensorflow.serving.PredictResponse")
    content.outputs["probabilities"].CopyFrom(tensor([[0.25, 0.75]], content=True))
    made = {"asked": asked, "scored": scored, "predict": predict, "predicted": predicted, "content": content}
    return {name: one.SerializeToString(deterministic=True) for name, one in made.items()}


PARAMS = {"n": 1, "t": "x", "b": True, "f": 0.5}
CALLS = (
    {"model": "spam", "metadata": {"x-tenant": "acme"}, "answer": {"score": 0.97}},
    {"model": "spam", "rows": 4, "params": PARAMS, "answers": {"spam-v3": {"timeout": True}}},
    {"method": "/a.B/C", "id": "7", "answer": {"error": "UNAVAILABLE"}},
    {"model": "spam", "answer": {"label": "spam", "confidence": 0.2}},
)


CONDITIONS = (
    'metadata["x-sender"] in lists.trusted && request.rows > 2',
    'prediction.label == "spam" && prediction.margin < 0.5 || segment.device == "phone"',
    'request.params.tier == "gold" && !(request.params.count < 2)',
    'has(metadata.absent) || request.id.matches("^req-[0-9]+$")',
    "session.calls > 3 && session.last_score < 0.9 && stats.flagged_share >= 0.5",
    'caller.id.startsWith("spiffe://acme/") && size(request.inputs) == 1',
    'lists.trusted.exists(one, metadata["x-sender"].endsWith(one))',
)


def batches() -> dict[str, bytes]:
    """Rows of the batch and two to keep, then a request, or an answer."""
    found = {f"request-{name}": bytes([2, 0, 1]) + data for name, data in requests().items()}
    return found | {f"answer-{name}": bytes([2, 1, 1]) + data[1:] for name, data in answers().items()}


def compressed_frame() -> bytes:
    packed = gzip.compress(requests()["typed"], mtime=0)
    return struct.pack(">BI", 1, len(packed)) + packed


def connections() -> dict[str, bytes]:
    """How to cut, whose side, then the frames of a connection."""
    from tests.wire import raw

    asked = raw.call(1, "/test.Echo/Unary", b"x")
    floods = raw.frame(raw.PING, 0, 0, bytes(8)) * 5 + raw.frame(raw.SETTINGS) * 3
    long = raw.frame(raw.HEADERS, 0, 3, b"abc") + raw.frame(raw.CONTINUATION, raw.END_HEADERS, 3, b"def")
    return {
        "caller": bytes([7, 0]) + raw.PREFACE + raw.frame(raw.SETTINGS) + asked,
        "floods": bytes([1, 0]) + raw.PREFACE + floods + long,
        "backend": bytes([9, 1]) + raw.frame(raw.SETTINGS) + long + raw.frame(raw.RST_STREAM, 0, 3, bytes(4)),
    }


def main() -> None:
    """Write all of them."""
    every = {
        "request": requests(),
        "answer": answers(),
        "frame": frames(),
        "certificate": certificates(),
        "receipt": receipts(),
        "policy": policies(),
        "described": described(),
    }
    every["call"] = {f"{at}.json": json.dumps(call).encode() for at, call in enumerate(CALLS)}
    every["cel"] = {str(at): text.encode() for at, text in enumerate(CONDITIONS)}
    every["rows"] = batches()
    every["watch"] = connections()
    every["append"] = {
        f"{name}-{packed}": bytes([5, packed]) + data for name, data in frames().items() for packed in (0, 1)
    } | {"gzip": bytes([3, 1]) + compressed_frame()}
    plain = requests()["typed"]
    every["inflate"] = {
        "gzip": gzip.compress(plain, mtime=0),
        "deflate": zlib.compress(plain),
        "plain": plain,
    }
    (ROOT / "src/dataplane/src/fuzz/described.json").write_bytes(described_policy())
    for target, seeds in every.items():
        for name, data in seeds.items():
            write(target, name, data)
    print(f"{sum(map(len, every.values()))} seeds in {SEEDS.relative_to(ROOT)}")  # noqa: T201


if __name__ == "__main__":
    main()
