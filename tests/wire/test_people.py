"""People as a backend on the wire: a call waits for them without anybody else waiting, and goes on when they do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import LIMITS, RunningPlane, document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, scores

WAIT_S = 10.0


def moderators(**changes: Any) -> dict[str, Any]:
    made = {"name": "moderators", "kind": "people", "queue": "moderation", "timeout_s": 10}
    return {**made, "max_waiting": 2000, "max_rows": 8, "redact": ["inputs.email"], **changes}


def policy(
    *backends: dict[str, Any], chain: tuple[str, ...] = ("moderators", "ham"), **changes: Any
) -> dict[str, Any]:
    limits = LIMITS | {"python_waiting": 64, "question_bytes": 64 << 20}
    return document([*(backends or (moderators(),)), static()], [route(chain, **changes)], limits=limits)


def start(channel: grpc.Channel, message: pb.ModelInferRequest | None = None, timeout: float = 20) -> Any:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    return ask.future(message or request("spam", rows()), timeout=timeout)


def said(call: Any) -> dict[str, str]:
    return {str(key).removeprefix("gateway-"): str(value) for key, value in call.trailing_metadata()}


class Reviewers:
    """Takes questions as the desk's thread does."""

    def __init__(self, plane: RunningPlane) -> None:
        self.plane = plane
        self.asked: list[Any] = []
        self.withdrawn: list[int] = []

    def wait(self, asked: int = 0, withdrawn: int = 0) -> None:
        until = time.monotonic() + WAIT_S
        while len(self.asked) < asked or len(self.withdrawn) < withdrawn:
            assert time.monotonic() < until, f"{len(self.asked)} asked, {len(self.withdrawn)} withdrawn"
            fresh, gone = self.plane.dataplane.questions(50)
            self.asked += fresh
            self.withdrawn += gone

    def next(self) -> Any:
        self.wait(asked=1)
        return self.asked.pop(0)


@contextmanager
def people(
    made: dict[str, Any] | None = None, **options: Any
) -> Iterator[tuple[RunningPlane, grpc.Channel, Reviewers]]:
    with running(made or policy(), **options) as (plane, channel):
        yield plane, channel, Reviewers(plane)


def test_the_answer_has_the_models_form_and_each_row_its_own_label() -> None:
    """A caller's code cannot tell it from a model's but by the outcome."""
    with people() as (plane, channel, reviewers):
        call = start(channel, request("spam", rows(3)))
        question = reviewers.next()
        assert (question["kind"], question["queue"], question["rows"]) == ("people", "moderation", [0, 1, 2])
        assert plane.dataplane.counters()["waiting.people.moderators"] == 1
        assert plane.dataplane.reply(question["question"], ["spam", "ham", "spam"])
        answer, trailers = call.result(), said(call)
        records = plane.records(3)
    assert answer.model_name == "spam"
    tensor = answer.outputs[0]
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("probabilities", "FP32", [3, 2])
    assert list(tensor.contents.fp32_contents) == [0, 1, 1, 0, 0, 1]
    assert (trailers["outcome"], trailers["backend"]) == ("human,human,human", "moderators")
    assert trailers["attempts"] == "moderators:ok"
    assert [(record["label"], record["flagged"], record["sampled"]) for record in records] == [
        ("spam", 1, 0),
        ("ham", 0, 0),
        ("spam", 1, 0),
    ]
    assert records[0]["duration_us"] > records[0]["overhead_us"]
    assert question["id"].hex() == trailers["decision-id"].replace("-", "")


def test_what_is_redacted_does_not_leave() -> None:
    """By the backend's own list and by the route's review."""
    review = {"queue": "q", "flagged": 0, "unflagged": 0, "capture": [], "redact": ["inputs.name"]}
    message = request("spam", rows())
    for name in ("email", "name"):
        tensor = message.inputs.add(name=name, datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"secret")
    with people(policy(review=review)) as (plane, channel, reviewers):
        call = start(channel, message)
        question = reviewers.next()
        plane.dataplane.reply(question["question"], ["ham"])
        call.result()
    shown = pb.ModelInferRequest.FromString(question["request"])
    assert [tensor.name for tensor in shown.inputs] == [message.inputs[0].name]
    assert b"secret" not in question["request"]


def test_a_long_request_is_shown_whole() -> None:
    """Nobody else has pulled the rest of it."""
    message = request("spam", rows(4, 20_000))
    assert message.ByteSize() > LIMITS["buffer_bytes"] * 2
    with people() as (plane, channel, reviewers):
        call = start(channel, message)
        question = reviewers.next()
        plane.dataplane.reply(question["question"], ["ham"] * 4)
        assert said(call)["outcome"] == "human,human,human,human"
    assert pb.ModelInferRequest.FromString(question["request"]).inputs == message.inputs


def test_when_time_is_up_the_chain_goes_on_and_a_late_answer_answers_nobody() -> None:
    """The question is withdrawn, so that the task leaves the queue."""
    with people(policy(moderators(timeout_s=0.1))) as (plane, channel, reviewers):
        call = start(channel)
        number = reviewers.next()["question"]
        trailers = said(call)
        reviewers.wait(withdrawn=1)
        assert reviewers.withdrawn == [number]
        assert plane.dataplane.reply(number, ["spam"]) is False
        counters = plane.dataplane.counters()
    assert (trailers["outcome"], trailers["reason"]) == ("static", "deadline")
    assert trailers["attempts"] == "moderators:deadline,ham:ok"
    assert (counters["dropped.people.late"], counters["dropped.reply.late"]) == (1, 1)
    assert counters["waiting.people.moderators"] == 0


def test_the_callers_deadline_bounds_the_wait_and_leaves_the_rest_of_the_chain_its_time() -> None:
    """Callers wait for less than people need: they get the static answer, not a deadline."""
    with people() as (_, channel, _reviewers):
        call = start(channel, timeout=1)
        assert said(call)["reason"] == "deadline"
        assert call.code() == grpc.StatusCode.OK


def test_a_route_of_people_alone_ends_by_a_clear_status_when_nobody_is_at_work() -> None:
    """And by another one when too many wait."""
    lonely = policy(moderators(timeout_s=0.2, max_waiting=1), chain=("moderators",))
    with people(lonely) as (plane, channel, reviewers):
        first = start(channel)
        reviewers.wait(asked=1)
        second = start(channel)
        assert second.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "moderators has all the calls waiting that it may have" in second.details()
        assert first.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert first.details() == "moderators did not answer in time"
        assert plane.dataplane.counters()["dropped.people.full"] == 1


def test_a_caller_that_goes_away_takes_its_question_along() -> None:
    """Nobody works for who is not there."""
    with people() as (plane, channel, reviewers):
        call = start(channel)
        number = reviewers.next()["question"]
        call.cancel()
        reviewers.wait(withdrawn=1)
        assert reviewers.withdrawn == [number]
        plane.quiet()


def test_where_nobody_could_be_asked_the_call_goes_on_at_once() -> None:
    """The ledger did not take the task."""
    with people() as (plane, channel, reviewers):
        call = start(channel)
        plane.dataplane.reply(reviewers.next()["question"], None)
        assert (said(call)["outcome"], said(call)["reason"]) == ("static", "backend_error")
        assert plane.dataplane.counters()["dropped.people.failed"] == 1


def test_people_after_a_model_answer_what_it_is_unsure_of() -> None:
    """The model's reason stands; the person's label is the answer."""
    with ScriptedServer(scores(0.6)) as server:
        made = policy(model("first", server.address), moderators(), chain=("first", "moderators", "ham"))
        with people(made) as (plane, channel, reviewers):
            call = start(channel)
            plane.dataplane.reply(reviewers.next()["question"], ["spam"])
            trailers = said(call)
    assert (trailers["outcome"], trailers["reason"]) == ("human", "low_confidence")
    assert trailers["attempts"] == "first:low_confidence,moderators:ok"


def test_people_are_asked_about_the_rows_that_are_left_of_a_batch() -> None:
    """The others keep the model's answer; the request is shown whole, with the rows' own numbers."""
    with ScriptedServer(scores(0.9, 0.6, 0.1, 0.55)) as server:
        chain = ("first", "moderators", "ham")
        made = policy(model("first", server.address), moderators(), chain=chain, on_miss="rows")
        with people(made) as (plane, channel, reviewers):
            call = start(channel, request("spam", rows(4)))
            question = reviewers.next()
            plane.dataplane.reply(question["question"], ["spam", "ham"])
            answer, trailers = call.result(), said(call)
            records = plane.records(4)
    assert question["rows"] == [1, 3]
    assert pb.ModelInferRequest.FromString(question["request"]).inputs[0].shape[0] == 4
    assert trailers["outcome"] == "model,human,model,human"
    assert list(answer.outputs[0].shape) == [4, 2]
    assert [record["label"] for record in records] == ["spam", "spam", "ham", "ham"]


def test_a_shadow_is_compared_with_what_people_answered() -> None:
    """How a model is tried before it is let near a caller."""
    mirror = {"to": "next", "share": 1.0, "max_in_flight": 8, "max_bytes": 1 << 20, "timeout_ms": 5000}
    with ScriptedServer(scores(0.9)) as server:
        made = policy(moderators(), model("next", server.address), mirror=[mirror])
        with people(made) as (plane, channel, reviewers):
            call = start(channel)
            plane.dataplane.reply(reviewers.next()["question"], ["spam"])
            call.result()
            [compared] = plane.until(lambda drained: drained.rows("mirrors") >= 1).each("mirrors")
    assert (compared["result"], compared["agree"]) == (0, 1)


def test_stopping_ends_every_wait_in_its_way() -> None:
    """A drain must not take as long as people do."""
    with people() as (plane, channel, reviewers):
        calls = [start(channel) for _ in range(20)]
        reviewers.wait(asked=20)
        begun = time.monotonic()
        stopping = threading.Thread(target=plane.dataplane.shutdown, args=(5000,))
        stopping.start()
        assert [said(call)["outcome"] for call in calls] == ["static"] * 20
        stopping.join(WAIT_S)
        assert time.monotonic() - begun < 4
        reviewers.wait(withdrawn=20)


def test_a_thousand_calls_wait_at_once_while_another_route_is_as_quick_as_ever() -> None:
    """Waiting is a place in a table, not a thread."""
    with ScriptedServer(scores(0.97)) as server:
        quick = route(["first"], name="quick", match={"model": "quick", "method": None, "metadata": {}})
        made = policy(moderators(), model("first", server.address))
        made["routes"].append(quick)
        with people(made) as (plane, channel, reviewers):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channels = [grpc.insecure_channel(plane.address, options=options) for _ in range(8)]
            before = p99(channel)
            calls = [start(channels[number % 8], timeout=60) for number in range(1000)]
            reviewers.wait(asked=1000)
            during = p99(channel)
            assert plane.dataplane.counters()["waiting.people.moderators"] == 1000
            for question in reviewers.asked:
                assert plane.dataplane.reply(question["question"], ["ham"])
            outcomes = {said(call)["outcome"] for call in calls}
            for other in channels:
                other.close()
    assert outcomes == {"human"}
    assert during < max(5 * before, 0.1), (
        f"p99 {before * 1e3:.1f} ms before, {during * 1e3:.1f} ms with 1,000 waiting"
    )


def p99(channel: grpc.Channel, calls: int = 200) -> float:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    took = []
    for _ in range(calls):
        begun = time.perf_counter()
        ask(request("quick", rows()), timeout=10)
        took.append(time.perf_counter() - begun)
    return sorted(took)[int(0.99 * calls)]


def test_a_held_out_unit_never_meets_a_model_though_people_are_late() -> None:
    """The control group stays one."""
    with ScriptedServer(Silent()) as server:
        holdout = {"share": 1.0, "answer": "moderators"}
        made = policy(
            moderators(timeout_s=0.1), model("first", server.address), chain=("first", "ham"), holdout=holdout
        )
        with people(made) as (_, channel, _reviewers):
            trailers = said(start(channel))
        assert server.calls() == []
    assert (trailers["outcome"], trailers["reason"]) == ("holdout", "holdout")


@pytest.mark.parametrize("labels", [["nonsense"], ["ham", "ham"], [], True])
def test_an_answer_that_has_no_form_is_a_miss(labels: Any) -> None:
    """A label that the route does not have, or a row too many: the chain goes on."""
    with people() as (plane, channel, reviewers):
        call = start(channel)
        plane.dataplane.reply(reviewers.next()["question"], labels)
        assert said(call)["outcome"] == "static"
