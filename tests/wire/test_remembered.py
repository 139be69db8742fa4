"""Rules across calls: what is remembered of a unit and of a route, on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import LIMITS, document, model, route, running, static
from tests.wire.servers import Context, ScriptedServer, fail, pb, scores

SESSION = {"idle_s": 1800, "remember": [{"name": "quantity", "from": {"param": "quantity"}}]}
PRICE = {
    "scores": None,
    "label": None,
    "confidence": None,
    "value": "price",
    "classes": [],
    "positive": None,
    "threshold": 0.5,
    "datatype": "FP32",
}


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def second() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def policy(first: ScriptedServer, second: ScriptedServer, when: str, **changes: Any) -> dict[str, Any]:
    # What is true of the past is as true of the next backend's answer.
    when = f'backend == "first" && ({when})'
    rule = {"name": "sane", "on": "prediction", "when": when, "then": {"kind": "next"}}
    changes = {"confidence": None, "session": SESSION, "stats": {"within_s": 600}, "rules": [rule]} | changes
    return document(
        [model("first", first.address), model("second", second.address), static()],
        [route(["first", "second"], **changes)],
        identity={"unit": {"metadata": "x-user-id"}, "segments": []},
        limits=LIMITS | {"units": 1000},
    )


def infer(channel: grpc.Channel, user: str, quantity: int | None = None) -> str:
    """Outcome and reason of a call."""
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    message = request("spam", rows())
    if quantity is not None:
        message.parameters["quantity"].int64_param = quantity
    try:
        _, call = ask.with_call(message, metadata=[("x-user-id", user)], timeout=10)
    except grpc.RpcError as error:
        call = error
    said = {str(key): str(value) for key, value in call.trailing_metadata()}
    return f"{said['gateway-outcome']} {said['gateway-reason']}"


def price(amount: float) -> Any:
    def behave(asked: pb.ModelInferRequest, _: Context) -> bytes:
        message = pb.ModelInferResponse(model_name=asked.model_name)
        tensor = message.outputs.add(name="price", datatype="FP32", shape=[1])
        if asked.raw_input_contents:
            message.raw_output_contents.append(np.float32(amount).tobytes())
        else:
            tensor.contents.fp32_contents.append(amount)
        return message.SerializeToString()

    return behave


def test_a_price_must_not_fall_when_the_quantity_rose(first: ScriptedServer, second: ScriptedServer) -> None:
    """The rule of the page: the last answer and its request are remembered, by unit."""
    when = (
        "session.answered > 0 && request.params.quantity > session.remembered.quantity"
        " && prediction.value < session.last_value"
    )
    changes = {
        "prediction": PRICE,
        "check": {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None},
    }
    with running(policy(first, second, when, **changes)) as (_, channel):
        first.reset(price(100.0))
        second.reset(price(120.0))
        assert infer(channel, "ada", 10) == "model ok"
        first.reset(price(90.0))
        assert infer(channel, "bob", 20) == "model ok", "another unit has another past"
        assert infer(channel, "ada", 20) == "fallback rule:sane"
        first.reset(price(119.0))
        assert infer(channel, "ada", 30) == "fallback rule:sane", "120 was answered last, not 90"
        first.reset(price(1.0))
        assert infer(channel, "ada", 5) == "model ok", "a smaller quantity may cost less"


def test_rules_see_how_often_a_unit_has_called(first: ScriptedServer, second: ScriptedServer) -> None:
    """Calls, fallbacks, flags and repeats of one unit."""
    second.reset(scores(0.1))
    with running(policy(first, second, "session.calls == 2 || session.repeats >= 4")) as (_, channel):
        first.reset(scores(0.9))
        assert [infer(channel, "eve") for _ in range(4)] == [
            "model ok",
            "model ok",
            "fallback rule:sane",
            "model ok",
        ]
    with running(policy(first, second, "session.flagged == 2 && session.last_label == 'spam'")) as (
        _,
        channel,
    ):
        assert [infer(channel, "eve") for _ in range(3)] == ["model ok", "model ok", "fallback rule:sane"]
    with running(policy(first, second, "session.fallbacks == 1 && session.last_score < 0.5")) as (_, channel):
        first.reset(fail(grpc.StatusCode.UNAVAILABLE))
        assert infer(channel, "eve") == "fallback backend_error"
        first.reset(scores(0.9))
        assert infer(channel, "eve") == "fallback rule:sane"


def test_a_jump_of_what_is_flagged_is_seen_by_all_workers(
    first: ScriptedServer, second: ScriptedServer
) -> None:
    """`stats` speak of what the model says, also of what the rule then keeps from callers."""
    second.reset(scores(0.1))
    when = "stats.calls >= 10 && stats.flagged_share > 0.5"
    with running(policy(first, second, when), workers=2) as (_, channel):
        first.reset(scores(0.1))
        assert {infer(channel, "ada") for _ in range(9)} == {"model ok"}
        first.reset(scores(0.9))
        assert {infer(channel, "ada") for _ in range(10)} == {"model ok"}, "up to 9 of 19 flagged"
        assert {infer(channel, "bob") for _ in range(20)} == {"fallback rule:sane"}, "and it stays so"


def test_only_routes_whose_rules_ask_keep_anything(first: ScriptedServer, second: ScriptedServer) -> None:
    """Settings alone cost nothing."""
    first.reset(scores(0.1))
    for when, kept in (("prediction.score > 2.0", 0), ("session.calls > 100", 1)):
        with running(policy(first, second, when)) as (plane, channel):
            infer(channel, "ada")
            assert plane.dataplane.counters()["units.session"] == kept
