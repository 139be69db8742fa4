"""Faults of routes that read messages by a descriptor: every path is tried before a call is."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import read_text
from gateway.runtime.check import compile_faults
from gateway.runtime.explain import explain_call

FOLDER = Path(__file__).parents[2] / "examples" / "any_service"

SETTINGS = """\
descriptors: [services.binpb]
backends:
  main: {grpc: "h:1"}
  ham: {answer: {label: HAM, score: 0.0}}
routes:
  r:
    match: {method: /scoring.Scorer/Score}
    chain: [main, ham]
    request: {rows: items, id: request_id, params: {country: sender.country}}
    prediction: {scores: "predictions[].score", label: "predictions[].verdict", classes: [HAM, SPAM], positive: SPAM}
    review: {share: 1.0, capture: [request], redact: [request.items.text]}
"""


def faults(old: str, new: str) -> list[str]:
    assert old in SETTINGS
    loaded = read_text(SETTINGS.replace(old, new, 1), name="g.yaml", folder=FOLDER, env={})
    return [str(fault) for fault in [*loaded.faults, *compile_faults(loaded)]]


def test_the_settings_are_good() -> None:
    """What the mistakes below are made in."""
    assert faults("routes:", "routes:") == []


MISTAKES = [
    (
        "predictions[].score",
        "predictions[].scoer",
        "g.yaml:10:41:",
        'has no field "scoer"; it has score, verdict, why (did you mean score?)',
    ),
    (
        "predictions[].score",
        "predictions.score",
        "g.yaml:10:27:",
        "predictions is repeated, wanted predictions[] for a row each, or predictions[0]",
    ),
    ("predictions[].score", "predictions[].why", "g.yaml:10:41:", "why is a string, wanted a score"),
    (
        "predictions[].score",
        "predictions[]",
        "g.yaml:10:27:",
        "is a message (scoring.Prediction), wanted one of its fields: score, verdict, why",
    ),
    (
        "predictions[].score",
        "predictions[].score[]",
        "g.yaml:10:41:",
        "score is not repeated, wanted no brackets",
    ),
    (
        "predictions[].score",
        "predictions[].score.x",
        "g.yaml:10:41:",
        "score is of type double, which has no fields",
    ),
    ("predictions[].score", "predictions[256].score", "g.yaml:10:27:", "element 256, wanted 0 to 255"),
    ("predictions[].score", "predictions[.score", "g.yaml:10:39:", "wanted `]`"),
    (
        "classes: [HAM, SPAM]",
        "classes: [HAM, SPMA, SPAM]",
        "g.yaml:10:",
        'no value "SPMA"; it has HAM, SPAM (did you mean SPAM?)',
    ),
    (
        'label: "predictions[].verdict", classes: [HAM, SPAM]',
        "classes: [HAM, SPAM, EGGS]",
        "g.yaml:10:",
        "one score a row says nothing about 3 classes",
    ),
    ("rows: items", "rows: sender", "g.yaml:9:21:", "sender is a message, wanted a number of rows"),
    ("request_id", '"items[].text"', "g.yaml:9:", "`[]` gives many values, wanted one"),
    ("sender.country", "items", "g.yaml:9:", "items is repeated"),
    (
        "request.items.text",
        '"request.items[0].text"',
        "g.yaml:11:",
        "is cut out of every element, wanted items or items[]",
    ),
    ("request.items.text", "request.items.txt", "g.yaml:11:", "(did you mean text?)"),
    (
        "capture: [request]",
        "capture: [inputs]",
        "g.yaml:11:",
        "inputs is not what this route could keep; wanted request",
    ),
    (
        "/scoring.Scorer/Score",
        "/scoring.Scorer/Scores",
        "g.yaml:10:",
        "has no method Scores; it has Score, ScoreStream (did you mean Score?)",
    ),
    (
        "/scoring.Scorer/Score",
        "/scorin.Scorer/Score",
        "g.yaml:10:",
        "tensorflow.serving.PredictionService (did you mean scoring.Scorer?)",
    ),
    (
        "/scoring.Scorer/Score",
        "/scoring.Scorer/ScoreStream",
        "g.yaml:10:",
        "is a stream, whose messages are passed on unread",
    ),
    (
        "/scoring.Scorer/Score",
        "/scoring.Scorer/*",
        "g.yaml:7:",
        "many methods, and each has messages of its own",
    ),
    (
        "descriptors: [services.binpb]\n",
        "",
        "g.yaml:9:5:",
        "are read by a descriptor, and there is none; wanted descriptors",
    ),
    ("services.binpb", "nothing.binpb", "g.yaml:1:", "cannot read nothing.binpb"),
    ("services.binpb", "scorer.proto", "g.yaml:1:", "no FileDescriptorSet that stands by itself"),
    (
        '{grpc: "h:1"}',
        '{grpc: "h:1", model: spam}',
        "g.yaml:8:",
        '"main" names a model, and the route does not say where a request names it',
    ),
    (
        "method: /scoring.Scorer/Score}",
        "method: /scoring.Scorer/Score, model: spam}",
        "g.yaml:7:",
        "nothing says where a request of /scoring.Scorer/Score names its model",
    ),
    (
        "match: {method: /scoring.Scorer/Score}",
        "match: {model: spam}",
        "g.yaml:9:",
        "the Open Inference Protocol says where everything stands",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "where", "words"), MISTAKES, ids=[mistake[1][:40] for mistake in MISTAKES]
)
def test_one_mistake_is_told_at_its_place(old: str, new: str, where: str, words: str) -> None:
    """Line, column within the path, what is there instead, and the name that was probably meant."""
    found = faults(old, new)
    assert any(fault.startswith(where) and words in fault for fault in found), found


def test_a_set_without_its_imports_is_named_so(tmp_path: Path) -> None:
    """protoc leaves imports out unless it is told not to."""
    from google.protobuf import descriptor_pb2

    whole = descriptor_pb2.FileDescriptorSet.FromString((FOLDER / "services.binpb").read_bytes())
    part = descriptor_pb2.FileDescriptorSet(file=[file for file in whole.file if file.name != "tensor.proto"])
    (tmp_path / "services.binpb").write_bytes(part.SerializeToString())
    loaded = read_text(SETTINGS, name="g.yaml", folder=tmp_path, env={})
    [fault, *_] = [str(fault) for fault in compile_faults(loaded)]
    assert fault.startswith("g.yaml:1:15: descriptors[0]: no FileDescriptorSet that stands by itself")
    assert "tensor.proto" in fault
    assert "--include_imports" in fault


def test_a_described_call_is_explained_like_any_other(tmp_path: Path) -> None:
    """Its fields are the call's params, its answers are scores."""
    text = SETTINGS.replace("    review:", "    confidence: {floor: 0.8}\n    review:").replace(
        "    review:",
        "    rules: [{name: nl, when: 'request.params.country == \"nl\"', then: {answer: ham}}]\n    review:",
    )
    settings = read_text(text, folder=FOLDER, env={}).settings
    assert settings is not None
    settings = settings.model_copy(update={"state_dir": tmp_path})
    call = {"method": "/scoring.Scorer/Score", "rows": 2, "answers": {"main": {"score": 0.6}}}
    unsure = explain_call(settings, call, FOLDER)["decision"]
    ruled = explain_call(settings, {**call, "params": {"country": "nl"}}, FOLDER)["decision"]
    assert (unsure["outcome"], unsure["reason"], unsure["backend"]) == ("static", "low_confidence", "ham")
    assert (ruled["outcome"], ruled["reason"]) == ("static", "rule:nl")
