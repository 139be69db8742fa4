"""Units that keep meeting fallbacks, or the same negative answer, are shown the way out; on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import until
from tests.wire.plane import LIMITS, UNLIMITED, document, model, route, running, static
from tests.wire.servers import ScriptedServer, fail, pb, scores

DOWN = fail(grpc.StatusCode.UNAVAILABLE)
GUARD = {"limit": 3, "within_s": 600, "then": "out", "on": ["fallback", "same_negative"], "negative": []}


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def out() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def policy(first: ScriptedServer, out: ScriptedServer, **changes: Any) -> dict[str, Any]:
    backends = [model("first", first.address), model("out", out.address), static()]
    changes = {"loop_guard": GUARD, "confidence": None} | changes
    units = changes.pop("units", 10_000)
    identity = {"unit": {"metadata": "x-user-id"}, "segments": []}
    return document(
        backends, [route(["first", "ham"], **changes)], identity=identity, limits=LIMITS | {"units": units}
    )


def infer(channel: grpc.Channel, user: str | None, count: int = 1) -> str:
    """Outcome and reason of the last of some calls of a user."""
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    metadata = [("x-user-id", user)] if user else []
    said: dict[str, str] = {}
    for _ in range(count):
        _, call = ask.with_call(request("spam", rows()), metadata=metadata, timeout=10)
        said = {str(key): str(value) for key, value in call.trailing_metadata()}
    return f"{said['gateway-outcome']} {said['gateway-reason']} {said['gateway-attempts']}"


def test_a_unit_that_keeps_meeting_fallbacks_gets_the_way_out(
    first: ScriptedServer, out: ScriptedServer
) -> None:
    """With its fourth call, whatever the model does then; others go on as before; the model is left in peace."""
    first.reset(DOWN)
    out.reset(scores(0.2))
    with running(policy(first, out)) as (plane, channel):
        assert infer(channel, "ada", 3) == "static backend_error first:backend_error,ham:ok"
        assert infer(channel, "bob", 2) == "static backend_error first:backend_error,ham:ok"
        first.reset(scores(0.1))
        assert infer(channel, "ada", 5) == "fallback loop_guard out:ok"
        assert first.calls() == []
        assert infer(channel, "bob", 3) == "model ok first:ok"
        reasons = [record["reason"] for record in plane.records(13)]
        assert reasons.count("loop_guard") == 5
        assert plane.dataplane.counters()["units.loop_guard"] == 2
        assert plane.dataplane.counters()["dropped.unit.full"] == 0


def test_the_same_negative_answer_again_and_again_leads_out(
    first: ScriptedServer, out: ScriptedServer
) -> None:
    """Another answer between ends the row."""
    out.reset(scores(0.2))
    with running(policy(first, out)) as (_, channel):
        first.reset(scores(0.9))
        infer(channel, "eve", 2)
        first.reset(scores(0.1))
        infer(channel, "eve")
        first.reset(scores(0.9))
        assert infer(channel, "eve", 3) == "model ok first:ok"
        assert infer(channel, "eve", 2) == "fallback loop_guard out:ok"


def test_calls_of_a_unit_count_together_whatever_connection_they_come_on(
    first: ScriptedServer, out: ScriptedServer
) -> None:
    """The table is all workers'."""
    first.reset(DOWN)
    out.reset(scores(0.2))
    with running(policy(first, out), workers=2) as (plane, channel):
        options = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
        for _ in range(3):
            with grpc.insecure_channel(plane.address, options=options) as other:
                assert infer(other, "ada").startswith("static backend_error")
        assert infer(channel, "ada") == "fallback loop_guard out:ok"


def test_what_was_met_outlives_a_new_policy(first: ScriptedServer, out: ScriptedServer) -> None:
    """Routes are known by name: neither their place nor the table's size matters."""
    first.reset(DOWN)
    out.reset(scores(0.2))
    before = policy(first, out)
    other = route(["first"], name="other", match={"model": "other", "method": None, "metadata": {}})
    after = policy(first, out, units=50_000)
    after["routes"].insert(0, other)
    after["version"] = 8
    with running(before) as (plane, channel):
        infer(channel, "ada", 3)
        plane.publish(after)
        assert infer(channel, "ada") == "fallback loop_guard out:ok"
        assert infer(channel, "bob").startswith("static backend_error")


def test_a_way_out_that_fails_is_no_dead_end(first: ScriptedServer, out: ScriptedServer) -> None:
    """The chain is better than nothing; the reason still says why."""
    first.reset(DOWN)
    out.reset(DOWN)
    with running(policy(first, out)) as (_, channel):
        infer(channel, "ada", 3)
        assert infer(channel, "ada") == "static loop_guard out:backend_error,first:backend_error,ham:ok"


def test_a_call_without_a_unit_is_never_taken_for_a_loop(first: ScriptedServer, out: ScriptedServer) -> None:
    """Each is one of its own, and takes no place."""
    first.reset(DOWN)
    with running(policy(first, out)) as (plane, channel):
        assert infer(channel, None, 6) == "static backend_error first:backend_error,ham:ok"
        assert plane.dataplane.counters()["units.loop_guard"] == 0


def test_more_units_than_there_are_places_are_counted(first: ScriptedServer, out: ScriptedServer) -> None:
    """The oldest go; nothing grows."""
    first.reset(DOWN)
    with running(policy(first, out, units=16)) as (plane, channel):
        places = 1024
        ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString)
        message = request("spam", rows())
        calls = [
            ask.future(message, metadata=[("x-user-id", str(at))], timeout=30) for at in range(places + 600)
        ]
        for call in calls:
            call.result()
        counters = plane.dataplane.counters()
        assert counters["units.loop_guard"] + counters["dropped.unit.full"] == places + 600
        assert counters["units.loop_guard"] <= places
        assert counters["dropped.unit.full"] >= 600


def test_people_may_be_the_way_out(first: ScriptedServer) -> None:
    """A person ends the loop: asked by the data plane at once, before any model."""
    first.reset(DOWN)
    desk = {"name": "out", "kind": "people", "queue": "loops", "timeout_s": 10}
    desk |= {"max_waiting": 10, "max_rows": 4, "redact": []}
    made = document(
        [model("first", first.address), desk, static()],
        [route(["first", "ham"], loop_guard=GUARD, confidence=None)],
        identity={"unit": {"metadata": "x-user-id"}, "segments": []},
        limits=LIMITS | {"units": 100, "question_bytes": 1 << 20},
    )
    with running(made) as (plane, channel), ThreadPoolExecutor(1) as pool:
        assert infer(channel, "ada", 3).startswith("static backend_error")
        held = pool.submit(infer, channel, "ada")
        [question] = until(lambda: plane.dataplane.questions(50)[0] or None, "people are asked")
        assert (question["kind"], question["queue"]) == ("people", "loops")
        assert plane.dataplane.reply(question["question"], ["spam"])
        assert held.result(10) == "human loop_guard out:ok"
