"""A backend that fails is left alone for a while, then tried by one call; who has nobody else always tries it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.wire.clients import infer_by_grpcio
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, fail, scores

CIRCUIT = {"failures": 7, "success_rate": 0.5, "min_calls": 100, "probe_first_s": 0.3, "probe_last_s": 60}
INTERNAL = fail(grpc.StatusCode.INTERNAL)
CLOSED, OPEN, HALF_OPEN = 0, 1, 2


def policy(server: ScriptedServer, chain: list[str], **circuit: Any) -> dict[str, Any]:
    return document([model("m", server.address, circuit=CIRCUIT | circuit), static()], [route(chain)])


def state(plane: RunningPlane) -> int:
    return plane.dataplane.counters()["circuit.m"]


def said(channel: grpc.Channel) -> str:
    return infer_by_grpcio(channel, "spam").said["attempts"]


def test_it_opens_after_failures_in_a_row_and_closes_by_a_good_probe() -> None:
    with ScriptedServer(INTERNAL) as server, running(policy(server, ["m", "ham"])) as (plane, channel):
        for _ in range(7):
            assert said(channel) == "m:backend_error,ham:ok"
        assert state(plane) == OPEN
        assert said(channel) == "m:circuit_open,ham:ok"
        assert len(server.calls()) == 7
        [record] = [row for row in plane.records(8) if row["reason"] == "circuit_open"]
        assert record["outcome"] == "static"
        server.behaviour = scores(0.9)
        until = time.monotonic() + 10
        while said(channel) != "m:ok":
            assert time.monotonic() < until, "no probe came through"
        assert state(plane) == CLOSED
        assert said(channel) == "m:ok"
        assert len(server.calls()) == 9


def test_a_success_between_begins_the_row_anew() -> None:
    with ScriptedServer(INTERNAL) as server, running(policy(server, ["m", "ham"])) as (plane, channel):
        for _ in range(3):
            for _ in range(6):
                said(channel)
            server.behaviour = scores(0.9)
            assert said(channel) == "m:ok"
            server.behaviour = INTERNAL
        assert state(plane) == CLOSED


@pytest.mark.parametrize("status", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND])
def test_what_is_the_callers_own_affair_does_not_count(status: grpc.StatusCode) -> None:
    with ScriptedServer(fail(status)) as server, running(policy(server, ["m", "ham"])) as (plane, channel):
        for _ in range(20):
            infer_by_grpcio(channel, "spam")
        assert (len(server.calls()), state(plane)) == (20, CLOSED)


def test_it_opens_by_its_success_rate() -> None:
    """One good answer in five keeps failures from coming in a row, and is still not good enough."""
    good = scores(0.9)
    with ScriptedServer() as server, running(policy(server, ["m", "ham"], min_calls=40)) as (plane, channel):
        for at in range(60):
            server.behaviour = good if at % 5 == 0 else INTERNAL
            said(channel)
        assert state(plane) == OPEN
        assert 40 <= len(server.calls()) < 60


def test_one_call_at_a_time_probes() -> None:
    silent = Silent()
    with (
        ScriptedServer(INTERNAL) as server,
        running(policy(server, ["m", "ham"])) as (plane, channel),
        ThreadPoolExecutor(1) as pool,
    ):
        for _ in range(7):
            said(channel)
        server.behaviour = silent
        until = time.monotonic() + 10
        probe = pool.submit(said, channel)
        while not silent.held:
            if probe.done():
                probe = pool.submit(said, channel)
            assert time.monotonic() < until, "no probe came through"
            time.sleep(0.005)
        assert state(plane) == HALF_OPEN
        assert said(channel) == "m:circuit_open,ham:ok"
        silent.release()
        assert probe.result(10) == "m:ok"
        assert state(plane) == CLOSED


def test_a_call_that_has_nobody_else_is_never_refused() -> None:
    """An open circuit must not make failures where trying might not."""
    with ScriptedServer(INTERNAL) as server, running(policy(server, ["m"])) as (plane, channel):
        for _ in range(20):
            assert said(channel) == "m:backend_error"
        assert state(plane) == OPEN
        assert len(server.calls()) == 20
        server.behaviour = scores(0.9)
        assert said(channel) == "m:ok"


def test_the_last_model_of_a_chain_is_asked_though_all_circuits_are_open() -> None:
    circuit = {"circuit": CIRCUIT | {"probe_first_s": 60}}
    with ScriptedServer(INTERNAL) as first, ScriptedServer(INTERNAL) as last:
        backends = [model("m", first.address, **circuit), model("n", last.address, **circuit)]
        with running(document(backends, [route(["m", "n"])])) as (_, channel):
            for _ in range(10):
                said(channel)
            assert said(channel) == "m:circuit_open,n:backend_error"
    assert (len(first.calls()), len(last.calls())) == (7, 11)


def test_a_probe_connects_though_the_endpoint_was_to_be_left_alone() -> None:
    """A backend that comes back is back with the next probe, however long it could not be reached."""
    with ScriptedServer(scores(0.9)) as before:
        address = before.address
    quick = {"failures": 3, "probe_first_s": 0.05, "probe_last_s": 0.05}
    made = document([model("m", address, circuit=CIRCUIT | quick), static()], [route(["m", "ham"])])
    with running(made) as (plane, channel):
        # Each failed connection doubles the pause before the next, up to a second and more.
        until = time.monotonic() + 3
        while time.monotonic() < until:
            said(channel)
            time.sleep(0.02)
        assert state(plane) != CLOSED
        with ScriptedServer(scores(0.9), port=int(address.rsplit(":", 1)[1])):
            back = time.monotonic()
            while said(channel) != "m:ok":
                assert time.monotonic() < back + 10
                time.sleep(0.005)
            took = time.monotonic() - back
    assert took < 0.6, "two probes and what a busy machine takes, not the endpoint's own pause"


def test_without_circuit_it_is_asked_for_ever() -> None:
    backend = model("m", "127.0.0.1:1", circuit=None)
    with running(document([backend, static()], [route(["m", "ham"])])) as (plane, channel):
        for _ in range(20):
            assert said(channel) == "m:backend_error,ham:ok"
        assert "circuit.m" not in plane.dataplane.counters()


def test_a_new_policy_keeps_an_open_circuit_open() -> None:
    """A reload in an outage must not send everybody back at once."""
    with ScriptedServer(INTERNAL) as server:
        made = policy(server, ["m", "ham"], probe_first_s=60)
        with running(made) as (plane, channel):
            for _ in range(7):
                said(channel)
            plane.publish(made | {"version": 8})
            assert said(channel) == "m:circuit_open,ham:ok"


def test_short_deadlines_of_one_caller_do_not_open_it_for_all() -> None:
    """A time-out counts only where the backend had longer than it usually takes."""
    slow = Silent()

    def behave(message: Any, context: Any) -> bytes:
        time.sleep(0.15)
        return scores(0.9)(message, context)

    with ScriptedServer(behave) as server, running(policy(server, ["m", "ham"])) as (plane, channel):
        for _ in range(3):
            assert said(channel) == "m:ok"
        for _ in range(10):
            infer_by_grpcio(channel, "spam", timeout_s=0.05)
        assert state(plane) == CLOSED
        server.behaviour = slow
        for _ in range(7):
            infer_by_grpcio(channel, "spam", timeout_s=0.5)
        assert state(plane) == OPEN
        slow.release()
