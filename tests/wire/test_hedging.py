"""A late model gets company: the first good answer is the call's, within a share of the calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import Context, ScriptedServer, Silent, fail, pb, scores

AFTER = {"after_ms": 30, "quantile": None, "share": 1.0}


class Held(Silent):
    """A silent server that notes when a call it holds is given up."""

    def __init__(self) -> None:
        super().__init__(scores(0.9))
        self.cancelled = threading.Event()

    def __call__(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        context.add_callback(lambda: None if context.is_active() else self.cancelled.set())
        return super().__call__(request, context)


@pytest.fixture
def first() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def second() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def policy(first: ScriptedServer, second: ScriptedServer, **changes: Any) -> dict[str, Any]:
    backends = [model("slow", first.address, model="a"), model("quick", second.address, model="b"), static()]
    return document(backends, [route(["slow", "quick", "ham"], **({"hedge": AFTER} | changes))])


def infer(channel: grpc.Channel, parameters: Mapping[str, str] | None = None) -> dict[str, str]:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    answer, call = ask.with_call(request("spam", rows(), parameters), timeout=10)
    assert answer.model_name == "spam"
    return {str(key): str(value) for key, value in call.trailing_metadata()}


def counted(plane: RunningPlane) -> tuple[int, int, int]:
    counters = plane.dataplane.counters()
    return counters["hedged.begun"], counters["hedged.first"], counters["dropped.hedge.budget"]


def test_the_second_answers_while_the_first_is_held(first: ScriptedServer, second: ScriptedServer) -> None:
    """The first is told to stop, and both stand in trailers and records."""
    first.behaviour = held = Held()
    with running(policy(first, second)) as (plane, channel):
        told = infer(channel)
        assert told["gateway-attempts"] == "slow:deadline,quick:ok"
        assert (told["gateway-outcome"], told["gateway-reason"]) == ("fallback", "deadline")
        assert held.cancelled.wait(10)
        [record] = plane.records(1)
        attempts = plane.drained.each("attempts")
        plane.quiet()
        assert counted(plane) == (1, 1, 0)
        assert plane.dataplane.counters()["in_flight.slow"] == 0
    held.release()
    assert (record["backend"], record["outcome"]) == (1, "fallback")
    by_backend = {row["backend"]: row for row in attempts}
    assert (by_backend[0]["reason"], by_backend[0]["status"]) == ("deadline", 1)
    assert (by_backend[1]["reason"], by_backend[1]["status"]) == ("ok", 0)
    assert by_backend[1]["start_us"] - by_backend[0]["start_us"] > 25_000
    assert by_backend[1]["span"] != by_backend[0]["span"]


def test_the_first_may_still_win(first: ScriptedServer, second: ScriptedServer) -> None:
    """Then it is the model's answer as if there had been no company."""
    first.behaviour, second.behaviour = one, two = Silent(scores(0.9)), Held()
    with running(policy(first, second)) as (plane, channel):
        made: list[dict[str, str]] = []
        call = threading.Thread(target=lambda: made.append(infer(channel)))
        call.start()
        two.wait_for(1)
        one.release()
        call.join(10)
        assert made[0]["gateway-attempts"] == "slow:ok,quick:deadline"
        assert (made[0]["gateway-outcome"], made[0]["gateway-reason"]) == ("model", "ok")
        assert two.cancelled.wait(10)
        assert counted(plane)[:2] == (1, 0)
    two.release()


def test_only_a_good_answer_wins(first: ScriptedServer, second: ScriptedServer) -> None:
    """The second is not sure: the first is waited for."""
    one = Silent(scores(0.9))
    answered = threading.Event()

    def unsure(request: pb.ModelInferRequest, context: Context) -> bytes:
        context.add_callback(answered.set)
        return scores(0.6)(request, context)

    first.behaviour, second.behaviour = one, unsure
    with running(policy(first, second)) as (_, channel):
        made: list[dict[str, str]] = []
        call = threading.Thread(target=lambda: made.append(infer(channel)))
        call.start()
        assert answered.wait(10)
        one.release()
        call.join(10)
    assert made[0]["gateway-attempts"] == "slow:ok,quick:low_confidence"
    assert made[0]["gateway-reason"] == "ok"


def test_when_both_fail_the_static_answer_comes(first: ScriptedServer, second: ScriptedServer) -> None:
    one = Silent(fail(grpc.StatusCode.INTERNAL))
    answered = threading.Event()

    def failing(request: pb.ModelInferRequest, context: Context) -> bytes:
        context.add_callback(answered.set)
        return fail(grpc.StatusCode.UNAVAILABLE)(request, context)

    first.behaviour, second.behaviour = one, failing
    with running(policy(first, second)) as (_, channel):
        made: list[dict[str, str]] = []
        call = threading.Thread(target=lambda: made.append(infer(channel)))
        call.start()
        assert answered.wait(10)
        one.release()
        call.join(10)
    assert made[0]["gateway-attempts"] == "slow:backend_error,quick:backend_error,ham:ok"
    assert (made[0]["gateway-outcome"], made[0]["gateway-reason"]) == ("static", "backend_error")


def test_a_caller_that_leaves_leaves_both(first: ScriptedServer, second: ScriptedServer) -> None:
    first.behaviour, second.behaviour = one, two = Held(), Held()
    with running(policy(first, second)) as (plane, channel):
        call = channel.unary_unary(INFER).future(request("spam", rows()).SerializeToString(), timeout=10)
        two.wait_for(1)
        call.cancel()
        assert one.cancelled.wait(10)
        assert two.cancelled.wait(10)
        [record] = plane.records(1)
        assert (record["outcome"], record["status"]) == ("error", 1)
        assert len(plane.drained.each("attempts")) == 2
        plane.quiet()
    one.release()
    two.release()


def test_what_may_not_be_repeated_and_static_answers_are_not_hedged(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """A sequence's call changes the server's state; a static answer needs no time, so it waits for its turn."""
    first.behaviour = one = Silent(scores(0.9))
    slow = {"timeout_ms": 120}
    backends = [
        model("slow", first.address, **slow),
        model("quick", second.address),
        static(),
    ]
    routes = [route(["slow", "quick", "ham"], hedge=AFTER), route(["slow", "ham"], name="r", hedge=AFTER)]
    routes[1]["match"] = {"model": "spam", "method": None, "metadata": {"x-static": "1"}}
    with running(document(backends, routes)) as (plane, channel):
        assert infer(channel, {"sequence_id": "7"})["gateway-attempts"] == "slow:deadline,quick:ok"
        ask = channel.unary_unary(INFER)
        message = request("spam", rows()).SerializeToString()
        _, call = ask.with_call(message, timeout=10, metadata=(("x-static", "1"),))
        told = dict(call.trailing_metadata())
        assert told["gateway-attempts"] == "slow:deadline,ham:ok"
        assert counted(plane) == (0, 0, 0)
    one.release()


def test_a_slow_model_does_not_double_the_load(first: ScriptedServer, second: ScriptedServer) -> None:
    """Every call is late: a burst of ten, then the share."""
    late = threading.Event()

    def slow(request: pb.ModelInferRequest, context: Context) -> bytes:
        late.wait(0.03)
        return scores(0.9)(request, context)

    first.behaviour = slow
    hedge = {"after_ms": 5, "quantile": None, "share": 0.1}
    with running(policy(first, second, hedge=hedge)) as (plane, channel):
        for _ in range(60):
            infer(channel)
        begun, _, dropped = counted(plane)
        plane.records(60)
    assert 10 <= begun <= 16
    assert begun + dropped == 60
    assert len(second.calls()) == begun


def test_late_is_learnt_from_the_backends_own_times(first: ScriptedServer, second: ScriptedServer) -> None:
    """Until enough is known nothing is hedged; then a call that hangs gets company long before its deadline.

    What was learnt outlives a reload.
    """
    hedge = {"after_ms": None, "quantile": 0.95, "share": 1.0}
    with running(policy(first, second, hedge=hedge)) as (plane, channel):
        ask = channel.unary_unary(INFER)
        message = request("spam", rows()).SerializeToString()
        for _ in range(10):
            for call in [ask.future(message, timeout=10) for _ in range(12)]:
                call.result()
        plane.publish(policy(first, second, hedge=hedge, deadline_ms=9000) | {"version": 8})
        first.behaviour = held = Held()
        told = infer(channel)
        held.release()
    assert told["gateway-attempts"] == "slow:deadline,quick:ok"
    assert told["gateway-policy"] == "8"
