"""Services of any kind: read by a descriptor, decided as if they spoke the Open Inference Protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.wire.described import PREDICT, SCORE, DescribedServer, ask, message, policy, tensor
from tests.wire.plane import running

SETTINGS = """
descriptors: services.binpb
identity: {unit: "param:user", segments: {country: "param:country"}}
backends:
  main: {grpc: "$MAIN", timeout_ms: 5000}
  other: {grpc: "$OTHER"}
  ham: {answer: {label: HAM, score: 0.0}}
routes:
  scorer:
    match: {method: /scoring.Scorer/Score}
    chain: [main, other, ham]
    request:
      rows: items
      id: request_id
      params: {country: sender.country, known: sender.known, user: sender.address}
    prediction: {scores: "response.predictions[].score", classes: [HAM, SPAM], positive: SPAM}
    confidence: {floor: 0.8}
    rules:
      - {name: known, when: request.params.known, then: {answer: ham}}
      - {name: too-many, when: request.rows > 3, then: {reject: INVALID_ARGUMENT, message: at most 3}}
"""


def scored(*scores: float) -> Any:
    """Answers with these scores, one an item; the last stands for the rest."""

    def behave(asked: Any, context: grpc.ServicerContext) -> Any:
        answer = message("scoring.ScoreResponse")
        for at in range(len(asked.items)):
            score = scores[min(at, len(scores) - 1)]
            answer.predictions.add(score=score, verdict=int(score >= 0.5), why="model")
        return answer

    return behave


def request(items: int = 1, **sender: Any) -> Any:
    made = message("scoring.ScoreRequest", request_id="r-1")
    made.sender.SetInParent()
    for name, value in sender.items():
        setattr(made.sender, name, value)
    for at in range(items):
        made.items.add(text=f"text {at}", subject="subject")
    return made


@pytest.fixture
def main() -> Iterator[DescribedServer]:
    with DescribedServer(scored(0.95)) as server:
        yield server


@pytest.fixture
def other() -> Iterator[DescribedServer]:
    with DescribedServer(scored(0.05)) as server:
        yield server


def settings(main: DescribedServer, other: DescribedServer, old: str = "", new: str = "") -> Any:
    assert old in SETTINGS
    return policy(SETTINGS.replace(old, new, 1) if old else SETTINGS, MAIN=main.address, OTHER=other.address)


def test_a_good_answer_passes_as_it_came_with_marks_beside_it(
    main: DescribedServer, other: DescribedServer
) -> None:
    """Fields that no path names reach the caller; the record has score, segment and method."""
    with running(settings(main, other)) as (plane, channel):
        answer, trailers = ask(channel, SCORE, request(2, country="nl"))
        records = plane.records(2)
    assert [one.why for one in answer.predictions] == ["model", "model"]
    assert trailers["gateway-outcome"] == "model,model"
    assert trailers["gateway-backend"] == "main"
    assert trailers["gateway-receipt"]
    assert [record["score"] for record in records] == [0.95, 0.95]
    assert records[0]["label"] == "SPAM"
    assert records[0]["segment"] == "country=nl"
    assert records[0]["method"] == SCORE
    assert main.seen[0] == request(2, country="nl")


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (scored(0.6), "low_confidence"),
        (scored(float("nan")), "invalid_output"),
        (lambda asked, context: b"\xff\xff\xff", "invalid_output"),
        (lambda asked, context: message("scoring.ScoreResponse"), "invalid_output"),
        (lambda asked, context: context.abort(grpc.StatusCode.UNAVAILABLE, "down"), "backend_error"),
    ],
    ids=["unsure", "nan", "garbage", "no predictions", "failing"],
)
def test_what_is_not_good_enough_goes_on_along_the_chain(
    main: DescribedServer, other: DescribedServer, behave: Any, reason: str
) -> None:
    main.behaviour = behave
    with running(settings(main, other)) as (_, channel):
        answer, trailers = ask(channel, SCORE, request())
    assert answer.predictions[0].score == 0.05
    assert trailers["gateway-outcome"] == "fallback"
    assert trailers["gateway-reason"] == reason
    assert trailers["gateway-attempts"] == f"main:{reason},other:ok"
    assert other.seen == main.seen


def test_a_score_of_zero_is_a_score(main: DescribedServer, other: DescribedServer) -> None:
    """proto3 leaves zeros out: their absence is no fault of the model's."""
    main.behaviour = scored(0.0)
    with running(settings(main, other)) as (_, channel):
        answer, trailers = ask(channel, SCORE, request(3))
    assert trailers["gateway-backend"] == "main"
    assert [one.score for one in answer.predictions] == [0.0, 0.0, 0.0]


def test_a_static_answer_has_the_form_of_the_prediction(
    main: DescribedServer, other: DescribedServer
) -> None:
    """One element for each of the request's rows; a caller's code reads it like a model's."""
    main.behaviour = other.behaviour = scored(0.6)
    with running(settings(main, other, '[].score"', '[].score", label: "predictions[].verdict"')) as (
        _,
        channel,
    ):
        answer, trailers = ask(channel, SCORE, request(3))
        known, why = ask(channel, SCORE, request(1, known=True))
    assert [(one.score, one.verdict) for one in answer.predictions] == [(0.0, 0)] * 3
    assert trailers["gateway-outcome"] == "static,static,static"
    assert len(known.predictions) == 1
    assert why["gateway-reason"] == "rule:known"
    assert len(main.seen) == 1


def test_rules_see_the_rows_of_a_request_however_long_it_is(
    main: DescribedServer, other: DescribedServer
) -> None:
    """Rows are counted in all of the request, beyond what is held at first."""
    with running(settings(main, other)) as (_, channel):
        with pytest.raises(grpc.RpcError) as refused:
            ask(channel, SCORE, request(4))
        long = request(3)
        for item in long.items:
            item.text = "x" * 100_000
        answer, _ = ask(channel, SCORE, long)
        long.items[0].text = "x" * (5 << 20)
        with pytest.raises(grpc.RpcError) as too_long:
            ask(channel, SCORE, long)
        with pytest.raises(grpc.RpcError) as garbage:
            ask(channel, SCORE, b"\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert refused.value.details() == "at most 3"  # type: ignore[attr-defined]
    assert len(answer.predictions) == 3
    assert too_long.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    assert garbage.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert main.seen[0].items[0].text == "x" * 100_000


def test_compressed_messages_are_read_and_passed_on_as_they_are() -> None:
    """gzip both ways; the prediction is read from a copy."""
    with (
        DescribedServer(scored(0.6), compression=grpc.Compression.Gzip) as main,
        DescribedServer(scored(0.97), compression=grpc.Compression.Gzip) as other,
        running(settings(main, other)) as (plane, channel),
    ):
        asked = request(2, country="nl", address="long " * 100)
        answer, trailers = ask(channel, SCORE, asked, compression=grpc.Compression.Gzip)
        records = plane.records(2)
    assert [one.score for one in answer.predictions] == [0.97, 0.97]
    assert trailers["gateway-attempts"] == "main:low_confidence,other:ok"
    assert records[0]["segment"] == "country=nl"
    assert main.seen == other.seen == [asked]


def test_what_leaves_for_review_is_redacted(main: DescribedServer, other: DescribedServer) -> None:
    redact = "[request.items.text, request.sender.address]"
    review = f"    review: {{share: 1.0, capture: [request], redact: {redact}}}\n    confidence:"
    with running(settings(main, other, "    confidence:", review)) as (plane, channel):
        asked = request(2, address="a@example.org", country="nl")
        ask(channel, SCORE, asked)
        captures = plane.until(lambda drained: len(drained.captures) >= 1).captures
    kept = type(asked).FromString(captures[0]["request"])
    assert kept.sender.country == "nl"
    assert kept.sender.address == ""
    assert [(item.text, item.subject) for item in kept.items] == [("", "subject")] * 2
    assert b"a@example.org" not in captures[0]["request"]


def test_a_shadow_is_compared(main: DescribedServer, other: DescribedServer) -> None:
    mirror = f"    mirror: [{{to: other, methods: {SCORE}}}]\n    confidence:"
    text = SETTINGS.replace("[main, other, ham]", "[main, ham]").replace("    confidence:", mirror, 1)
    with running(policy(text, MAIN=main.address, OTHER=other.address)) as (plane, channel):
        ask(channel, SCORE, request(1))
        mirrored = plane.until(lambda drained: drained.rows("mirrors") >= 1).each("mirrors")
    assert (mirrored[0]["agree"], mirrored[0]["result"]) == (0, 0)
    assert mirrored[0]["difference"] == pytest.approx(-0.9)


def test_a_copy_goes_without_what_its_mirror_redacts(main: DescribedServer, other: DescribedServer) -> None:
    """Less than what reviewers get; the call itself goes whole, and what no descriptor knows stays here."""
    cut = "redact: [request.items.text, request.sender.address]"
    mirror = f"    mirror: [{{to: other, methods: {SCORE}, {cut}}}]\n    confidence:"
    text = SETTINGS.replace("[main, other, ham]", "[main, ham]").replace("    confidence:", mirror, 1)
    asked = request(2, address="a@example.org", country="nl")
    asked.MergeFromString(b"\xba\x3e\x06secret")  # field 999, which no descriptor has
    with running(policy(text, MAIN=main.address, OTHER=other.address)) as (plane, channel):
        ask(channel, SCORE, asked)
        plane.until(lambda drained: drained.rows("mirrors") >= 1)
    assert main.seen == [asked]
    [copy] = other.seen
    assert (copy.sender.country, copy.sender.address) == ("nl", "")
    assert [(item.text, item.subject) for item in copy.items] == [("", "subject")] * 2
    assert b"secret" not in copy.SerializeToString()


@pytest.mark.parametrize("listed", [True, False])
def test_a_late_model_gets_company_where_its_method_may_be_asked_twice(
    main: DescribedServer, other: DescribedServer, listed: bool
) -> None:
    """Whether it may, the operator says in the backend's retry: nobody else knows. What does not say so is a fault."""
    release = threading.Event()

    def late(asked: Any, context: grpc.ServicerContext) -> Any:
        release.wait(10)
        return scored(0.9)(asked, context)

    main.behaviour = late
    text = SETTINGS.replace("    confidence:", "    hedge: {after_ms: 20, share: 1.0}\n    confidence:", 1)
    if listed:
        text = text.replace("timeout_ms: 5000", f"timeout_ms: 5000, retry: {{methods: [{SCORE}]}}")
    else:
        with pytest.raises(AssertionError, match=f"nothing says that {SCORE} may be asked twice"):
            policy(text, MAIN=main.address, OTHER=other.address)
        return
    try:
        with running(policy(text, MAIN=main.address, OTHER=other.address)) as (plane, channel):
            answer, trailers = ask(channel, SCORE, request())
            assert plane.dataplane.counters()["hedged.first"] == 1
    finally:
        release.set()
    assert answer.predictions[0].score == 0.05
    assert trailers["gateway-attempts"] == "main:deadline,other:ok"


def test_held_out_units_are_told_by_a_field(main: DescribedServer, other: DescribedServer) -> None:
    """Sticky by what the request says, and never near the model."""
    holdout = "    holdout: {share: 0.5, answer: ham}\n    confidence:"
    with running(settings(main, other, "    confidence:", holdout)) as (_, channel):
        outcomes = {
            user: {ask(channel, SCORE, request(address=user))[1]["gateway-outcome"] for _ in range(3)}
            for user in map(str, range(20))
        }
    assert all(len(seen) == 1 for seen in outcomes.values())
    assert {word for seen in outcomes.values() for word in seen} == {"model", "holdout"}


def test_streams_of_a_described_service_pass_through(main: DescribedServer, other: DescribedServer) -> None:
    stream = "routes:\n  stream: {match: {method: /scoring.Scorer/ScoreStream}, chain: [main]}\n"
    with running(settings(main, other, "routes:\n", stream)) as (_, channel):
        call = channel.stream_stream(
            "/scoring.Scorer/ScoreStream",
            request_serializer=lambda asked: asked.SerializeToString(),
            response_deserializer=type(message("scoring.ScoreResponse")).FromString,
        )
        answers = list(call(iter([request(1), request(2)]), timeout=10))
    assert [len(answer.predictions) for answer in answers] == [1, 2]


SERVING = """
descriptors: services.binpb
backends:
  main: {grpc: "$MAIN", model: spam-3}
  other: {grpc: "$OTHER"}
  ham: {answer: {label: HAM, score: 0.25}}
routes:
  spam:
    match: {method: /tensorflow.serving.PredictionService/Predict, model: spam}
    chain: [main, other, ham]
    request: {model: model_spec.name, rows: 'inputs["text"]'}
    prediction: {scores: 'outputs["probabilities"]', classes: [HAM, SPAM], positive: SPAM}
    check: {range: [0, 1], sum: 1.0}
    confidence: {floor: 0.7}
  rest:
    match: {method: /tensorflow.serving.PredictionService/Predict}
    chain: [other]
    request: {model: model_spec.name}
"""


def predicted(rows: list[list[float]], *, content: bool = False) -> Any:
    def behave(asked: Any, context: grpc.ServicerContext) -> Any:
        answer = message("tensorflow.serving.PredictResponse")
        answer.outputs["probabilities"].CopyFrom(tensor(rows, content=content))
        answer.model_spec.CopyFrom(asked.model_spec)
        return answer

    return behave


def predict(model: str, rows: int = 2) -> Any:
    made = message("tensorflow.serving.PredictRequest")
    made.model_spec.name = model
    made.model_spec.signature_name = "serving_default"
    made.inputs["text"].CopyFrom(tensor([[1.0, 2.0]] * rows))
    return made


GOOD = [[0.9, 0.1], [0.2, 0.8]]


@pytest.mark.parametrize("content", [False, True], ids=["values", "content"])
def test_tensorflow_serving_is_decided_like_a_model_of_the_protocol(content: bool) -> None:
    """Rows and scores from tensors, the backend addressed by its own name, other models left alone."""
    with (
        DescribedServer(predicted(GOOD, content=content)) as main,
        DescribedServer(predicted(GOOD)) as other,
        running(policy(SERVING, MAIN=main.address, OTHER=other.address)) as (plane, channel),
    ):
        answer, trailers = ask(channel, PREDICT, predict("spam"))
        ask(channel, PREDICT, predict("eggs"))
        records = plane.records(2)
    assert trailers["gateway-outcome"] == "model,model"
    assert [record["score"] for record in records[:2]] == pytest.approx([0.1, 0.8])
    assert [(one.model_spec.name, one.model_spec.signature_name) for one in main.seen] == [
        ("spam-3", "serving_default")
    ]
    assert [one.model_spec.name for one in other.seen] == ["eggs"]
    assert answer.outputs["probabilities"].tensor_shape.dim[0].size == 2


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[0.9, 0.2], [0.2, 0.8]], "invalid_output"),
        ([[0.9, 0.1]] * 3, "invalid_output"),
        ([[0.9, 0.1, 0.0]] * 2, "invalid_output"),
        ([[0.6, 0.4]] * 2, "low_confidence"),
    ],
    ids=["sum", "rows", "classes", "unsure"],
)
def test_tensors_that_are_not_good_enough_end_in_a_static_tensor(
    rows: list[list[float]], reason: str
) -> None:
    with (
        DescribedServer(predicted(rows)) as server,
        running(policy(SERVING, MAIN=server.address, OTHER=server.address)) as (_, channel),
    ):
        answer, trailers = ask(channel, PREDICT, predict("spam"))
    assert trailers["gateway-attempts"] == f"main:{reason},other:{reason},ham:ok"
    made = answer.outputs["probabilities"]
    assert [dim.size for dim in made.tensor_shape.dim] == [2, 2]
    assert list(made.float_val) == [0.75, 0.25, 0.75, 0.25]
    assert [one.model_spec.name for one in server.seen] == ["spam-3", "spam"]


def test_a_long_request_is_decided_by_its_front() -> None:
    """Name and shape stand before the content, which streams by."""
    with (
        DescribedServer(predicted([[0.9, 0.1]] * 300_000)) as main,
        DescribedServer(predicted(GOOD)) as other,
        running(policy(SERVING, MAIN=main.address, OTHER=other.address)) as (plane, channel),
    ):
        asked = predict("spam")
        asked.inputs["text"].CopyFrom(tensor([[1.0, 2.0]] * 300_000, content=True))
        with pytest.raises(grpc.RpcError) as refused:
            ask(channel, PREDICT, asked)
        record = plane.records(1)[0]
    # More rows than limits.max_rows: not even the static answer is made so long.
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert record["reason"] == "invalid_output"
    assert main.seen[0].model_spec.name == "spam-3"
    assert main.seen[0].inputs["text"] == asked.inputs["text"]
