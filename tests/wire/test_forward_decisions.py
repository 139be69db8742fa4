"""Each reason by which a call does not get its first choice, on the wire, with its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from gateway._dataplane import verify_receipt
from tests.wire.clients import INFER, request, rows
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import Behaviour, ScriptedServer, Silent, fail, garbage, nan, pb, scores

KEY = bytes.fromhex("11" * 32)
RULE = {"name": "never", "on": "request", "when": "true", "then": {"kind": "next"}}


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def second() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def policy(first: ScriptedServer, second: ScriptedServer, **changes: Any) -> dict[str, Any]:
    backends = [model("first", first.address, model="inner"), model("second", second.address), static()]
    return document(backends, [route(["first", "second", "ham"], **changes)])


def infer(
    channel: grpc.Channel, message: pb.ModelInferRequest | None = None, **metadata: str
) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    answer, call = ask.with_call(message or request("spam", rows()), metadata=pairs, timeout=10)
    return answer, said(call.trailing_metadata())


def said(pairs: Any) -> dict[str, str]:
    return {str(key).removeprefix("gateway-"): str(value) for key, value in pairs}


def refused(channel: grpc.Channel, message: pb.ModelInferRequest | None = None) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, message)
    return caught.value


def test_a_sure_answer_of_the_first_backend_is_passed_on_under_the_name_asked_for(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    first.reset(scores(0.9))
    with running(policy(first, second)) as (plane, channel):
        answer, trailers = infer(channel)
        [record] = plane.records(1)
    assert first.calls()[-1].request.model_name == "inner"
    assert answer.model_name == "spam"
    assert (trailers["outcome"], trailers["reason"], trailers["backend"]) == ("model", "ok", "first")
    parameters = {name: value.string_param for name, value in answer.parameters.items()}
    assert parameters == {
        f"gateway_{name.replace('-', '_')}": value
        for name, value in trailers.items()
        if f"gateway_{name.replace('-', '_')}" in parameters
    }
    assert len(parameters) == 7
    assert (record["outcome"], record["reason"], record["label"]) == ("model", "ok", "spam")
    assert record["score"] == pytest.approx(0.9)
    assert record["confidence"] == pytest.approx(0.9)
    assert (record["flagged"], record["status"], record["policy"], record["route"]) == (1, 0, 7, 0)
    assert 0 < record["overhead_us"] < record["duration_us"]
    receipt = verify_receipt(trailers["receipt"], [KEY])
    assert int.from_bytes(receipt["id"], "big") == (record["id_hi"] << 64) | record["id_lo"]
    assert receipt["id"].hex() == trailers["decision-id"].replace("-", "")
    assert (receipt["route"], receipt["backend"], receipt["policy"]) == ("spam", "first", 7)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (scores(0.6), "low_confidence"),
        (nan(), "invalid_output"),
        (garbage(), "invalid_output"),
        (garbage(b""), "invalid_output"),
        (fail(grpc.StatusCode.UNAVAILABLE), "backend_error"),
        (fail(grpc.StatusCode.INTERNAL), "backend_error"),
        (fail(grpc.StatusCode.RESOURCE_EXHAUSTED), "backend_error"),
    ],
)
def test_a_miss_of_the_first_backend_is_answered_by_the_second(
    first: ScriptedServer, second: ScriptedServer, behaviour: Behaviour, reason: str
) -> None:
    first.reset(behaviour)
    second.reset(scores(0.95))
    with running(policy(first, second)) as (plane, channel):
        _, trailers = infer(channel)
        [record] = plane.records(1)
        attempts = plane.drained.each("attempts")
    assert (trailers["outcome"], trailers["reason"], trailers["backend"]) == ("fallback", reason, "second")
    assert trailers["attempts"] == f"first:{reason},second:ok"
    assert (record["outcome"], record["reason"], record["backend"]) == ("fallback", reason, 1)
    assert [(attempt["backend"], attempt["reason"]) for attempt in attempts] == [(0, reason), (1, "ok")]


def test_when_no_model_is_good_enough_the_static_answer_takes_the_models_form(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    first.reset(scores(0.6))
    second.reset(fail(grpc.StatusCode.UNAVAILABLE))
    with running(policy(first, second)) as (plane, channel):
        answer, trailers = infer(channel, request("spam", rows(3)))
        records = plane.records(3)
    assert trailers["outcome"] == "static,static,static"
    assert trailers["attempts"] == "first:low_confidence,second:backend_error,ham:ok"
    assert list(answer.outputs[0].shape) == [3, 2]
    assert answer.model_name == "spam"
    assert [record["row"] for record in records] == [0, 1, 2]
    assert {record["label"] for record in records} == {"ham"}


def test_a_batch_falls_back_when_any_row_misses_and_each_row_says_why(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    first.reset(scores(0.9, 0.6))
    second.reset(scores(0.95, 0.05))
    with running(policy(first, second)) as (plane, channel):
        _, trailers = infer(channel, request("spam", rows(2)))
        records = plane.records(2)
    assert trailers["outcome"] == "fallback,fallback"
    assert [record["score"] for record in records] == [pytest.approx(0.95), pytest.approx(0.05)]
    assert len({(record["id_hi"], record["id_lo"]) for record in records}) == 1


def test_what_is_the_callers_own_fault_is_passed_on_and_nobody_else_asked(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    first.reset(fail(grpc.StatusCode.INVALID_ARGUMENT, "no such feature"))
    second.reset(scores(0.95))
    with running(policy(first, second)) as (plane, channel):
        error = refused(channel)
        [record] = plane.records(1)
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no such feature")
    assert said(error.trailing_metadata())["outcome"] == "error"
    assert second.calls() == []
    assert (record["outcome"], record["status"]) == ("error", 3)


def test_an_exhausted_chain_names_everyone_it_asked(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.6))
    second.reset(fail(grpc.StatusCode.UNAVAILABLE))
    made = policy(first, second)
    made["routes"][0]["chain"] = ["first", "second"]
    with running(made) as (_, channel):
        error = refused(channel)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "first low_confidence" in error.details()
    assert "second backend_error (UNAVAILABLE)" in error.details()


def test_a_backend_at_its_limit_is_passed_over_at_once(first: ScriptedServer, second: ScriptedServer) -> None:
    silent = Silent(scores(0.9))
    first.reset(silent)
    second.reset(scores(0.95))
    made = policy(first, second)
    made["backends"][0]["max_in_flight"] = 1
    with running(made) as (plane, channel):
        held = channel.unary_unary(INFER).future(request("spam", rows()).SerializeToString(), timeout=20)
        silent.wait_for(1)
        _, trailers = infer(channel)
        silent.release()
        held.result()
        assert plane.dataplane.counters()["overload.backend"] == 1
    assert trailers["attempts"] == "first:overload,second:ok"
    assert trailers["reason"] == "overload"


def test_a_dead_backend_costs_its_place_in_the_chain_and_no_more(second: ScriptedServer) -> None:
    second.reset(scores(0.95))
    backends = [model("first", "127.0.0.1:1"), model("second", second.address)]
    with running(document(backends, [route(["first", "second"])])) as (_, channel):
        for _ in range(20):
            _, trailers = infer(channel)
            assert trailers["attempts"] == "first:backend_error,second:ok"


def test_a_backend_that_comes_back_is_asked_again(second: ScriptedServer) -> None:
    second.reset(scores(0.95))
    server = ScriptedServer()
    address = server.address
    made = document([model("first", address), model("second", second.address)], [route(["first", "second"])])
    with running(made) as (_, channel):
        assert infer(channel)[1]["backend"] == "first"
        server.stop()
        assert infer(channel)[1]["backend"] == "second"
        revived = Revived(int(address.rsplit(":", 1)[1]))
        try:
            answered = [infer(channel)[1]["backend"] for _ in range(1) if revived.wait(channel)]
        finally:
            revived.stop()
    assert answered == ["first"]


class Revived:
    """A server on a port that another has left."""

    def __init__(self, port: int) -> None:
        handler = grpc.unary_unary_rpc_method_handler(
            lambda message, context: scores(0.9)(pb.ModelInferRequest.FromString(message), context)
        )
        service = grpc.method_handlers_generic_handler(
            "inference.GRPCInferenceService", {"ModelInfer": handler}
        )
        from concurrent import futures

        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((service,))
        assert self._server.add_insecure_port(f"127.0.0.1:{port}") == port
        self._server.start()

    def wait(self, channel: grpc.Channel) -> bool:
        """Ask until the pause that the gateway grants a dead backend is over."""
        return any(infer(channel)[1]["backend"] == "first" for _ in range(5000))

    def stop(self) -> None:
        self._server.stop(0).wait(5)


def test_the_kill_switch_keeps_every_model_out(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.9))
    second.reset(scores(0.9))
    with running(policy(first, second, kill_switch=True)) as (_, channel):
        _, trailers = infer(channel)
    assert (trailers["outcome"], trailers["reason"]) == ("static", "kill_switch")
    assert first.calls() == second.calls() == []


def test_a_unit_that_is_held_out_never_meets_a_model(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.9))
    held_out = policy(first, second, holdout={"share": 1.0, "answer": "ham"})
    with running(held_out) as (plane, channel):
        _, trailers = infer(channel, gateway_unit="u")
        [record] = plane.records(1)
    assert (trailers["outcome"], trailers["reason"], record["outcome"]) == ("holdout", "holdout", "holdout")
    assert first.calls() == []


@pytest.mark.parametrize(
    ("then", "outcome", "attempts"),
    [
        ({"kind": "answer", "backend": "ham"}, "static", "ham:ok"),
        ({"kind": "to", "backend": "second"}, "fallback", "second:ok"),
    ],
)
def test_a_request_rule_answers_or_reroutes(
    first: ScriptedServer, second: ScriptedServer, then: dict[str, str], outcome: str, attempts: str
) -> None:
    first.reset(scores(0.9))
    second.reset(scores(0.95))
    with running(policy(first, second, rules=[RULE | {"then": then}])) as (plane, channel):
        _, trailers = infer(channel)
        [record] = plane.records(1)
    assert (trailers["outcome"], trailers["reason"]) == (outcome, "rule:never")
    assert trailers["attempts"].endswith(attempts)
    assert (record["reason"], record["rule"]) == ("rule", 0)
    assert first.calls() == []


def test_a_request_rule_rejects_in_its_own_words(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.9))
    then = {"kind": "reject", "status": "INVALID_ARGUMENT", "message": "at most 64 rows"}
    rule = RULE | {"when": "request.rows > 64", "then": then}
    with running(policy(first, second, rules=[rule])) as (plane, channel):
        assert infer(channel)[1]["outcome"] == "model"
        error = refused(channel, request("spam", rows(65)))
        record = plane.records(2)[-1]
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "at most 64 rows")
    assert said(error.trailing_metadata())["outcome"] == "rejected"
    assert (record["outcome"], record["status"]) == ("rejected", 3)


def test_a_prediction_rule_sends_the_call_on(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.9))
    second.reset(scores(0.05))
    rule = RULE | {"on": "prediction", "when": 'prediction.label == "spam"'}
    with running(policy(first, second, rules=[rule])) as (_, channel):
        _, trailers = infer(channel)
    assert trailers["attempts"] == "first:rule:never,second:ok"


def test_a_caller_may_ask_for_the_steps_in_words(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(scores(0.6))
    second.reset(scores(0.95))
    with running(policy(first, second)) as (_, channel):
        _, trailers = infer(channel, gateway_explain="1")
        _, without = infer(channel)
    assert trailers["explain"].startswith(
        "policy 7; route spam; first low_confidence; second ok; outcome fallback"
    )
    assert "explain" not in without


def test_a_new_policy_counts_from_the_next_call_on(first: ScriptedServer, second: ScriptedServer) -> None:
    first.reset(Silent(scores(0.9)))
    silent = first.behaviour
    assert isinstance(silent, Silent)
    with running(policy(first, second)) as (plane, channel):
        held = channel.unary_unary(INFER)
        future = held.future(request("spam", rows()).SerializeToString(), timeout=20)
        silent.wait_for(1)
        plane.publish(policy(first, second, kill_switch=True) | {"version": 8})
        _, trailers = infer(channel)
        assert (trailers["policy"], trailers["reason"]) == ("8", "kill_switch")
        silent.release()
        future.result()
        old = said(future.trailing_metadata())
    assert (old["policy"], old["outcome"]) == ("7", "model")
