"""What a copy may carry and cost: less than the call, its own caps, never a byte or a moment of the caller's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import Behaviour, Context, ScriptedServer, fail, garbage, pb, scores

OWN = ("gateway_decision_id", "gateway_receipt")
"""Response parameters that no two calls share."""


def mirror(**changes: Any) -> list[dict[str, Any]]:
    made = {"to": "shadow", "share": 1.0, "max_in_flight": 64, "max_bytes": 4 << 20, "timeout_ms": 1000}
    return [made | changes]


def review(**changes: Any) -> dict[str, Any]:
    made = {"queue": "q", "flagged": 0.0, "unflagged": 0.0, "capture": ["inputs"], "redact": ["inputs.email"]}
    return made | {"near": None, "near_margin": 0.1, "fallback": None, "disagreement": 1.0} | changes


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, ScriptedServer]]:
    with ScriptedServer() as main, ScriptedServer() as twin, ScriptedServer(threads=64) as shadow:
        yield {"main": main, "twin": twin, "shadow": shadow}


def policy(servers: dict[str, ScriptedServer], **changes: Any) -> dict[str, Any]:
    for server in servers.values():
        server.reset(scores(0.9))
    backends = [model(name, server.address) for name, server in servers.items()]
    return document([*backends, static()], [route(["main", "ham"], **changes)])


def message(count: int = 1) -> pb.ModelInferRequest:
    made = request("spam", rows(count), {"tenant": "acme", "tier": "gold"})
    made.inputs.add(name="email", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a@b")
    return made


def infer(
    channel: grpc.Channel, asked: pb.ModelInferRequest | None = None, *metadata: tuple[str, str]
) -> pb.ModelInferResponse:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    return ask(asked or message(), timeout=10, metadata=metadata)


def each(plane: RunningPlane, table: str, count: int) -> list[dict[str, Any]]:
    return plane.until(lambda drained: drained.rows(table) >= count).each(table)


def test_a_copy_carries_no_credentials_and_is_addressed_as_the_call_was(
    servers: dict[str, ScriptedServer],
) -> None:
    """Another model must not be able to act in the caller's name; yet it must be routed like the call."""
    made = policy(servers, mirror=mirror(strip=["authorization", "cookie"]))
    hosts: list[str] = []

    def behave(asked: pb.ModelInferRequest, context: Context) -> bytes:
        hosts.append(context._rpc_event.call_details.host.decode())  # type: ignore[attr-defined]
        return scores(0.9)(asked, context)

    for server in servers.values():
        server.behaviour = behave
    with running(made) as (plane, channel):
        infer(channel, None, ("authorization", "Bearer x"), ("cookie", "a=b"), ("x-own", "1"))
        each(plane, "mirrors", 1)
    [copy], [call] = servers["shadow"].calls(), servers["main"].calls()
    assert not {"authorization", "cookie"} & set(copy.metadata)
    assert (call.metadata["authorization"], copy.metadata["x-own"]) == ("Bearer x", "1")
    assert copy.metadata["gateway-shadow"] == "1"
    assert hosts == ["localhost", "localhost"]


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_a_copy_goes_without_what_is_redacted_and_with_all_the_rest(
    servers: dict[str, ScriptedServer], raw: bool
) -> None:
    """What the operator takes out never leaves; the other model still gets what it needs to answer."""
    made = policy(servers, mirror=mirror(redact=["inputs.email", "params.tier"]))
    asked = message()
    asked.outputs.add(name="probabilities")
    if raw:
        for tensor in asked.inputs:
            tensor.ClearField("contents")
        asked.raw_input_contents.extend([rows().tobytes(), b"\x03\0\0\0a@b"])
    with running(made) as (plane, channel):
        infer(channel, asked)
        each(plane, "mirrors", 1)
    [copy] = servers["shadow"].calls()
    wanted = pb.ModelInferRequest()
    wanted.CopyFrom(asked)
    del wanted.inputs[1]
    del wanted.parameters["tier"]
    if raw:
        del wanted.raw_input_contents[1]
    assert copy.request == wanted
    assert servers["main"].calls()[0].request.inputs == asked.inputs


def test_a_request_that_cannot_be_redacted_is_not_copied(servers: dict[str, ScriptedServer]) -> None:
    """Contents that nobody can say whose they are might be those that must not leave."""
    asked = message()
    asked.raw_input_contents.append(b"whose?")
    with running(policy(servers, mirror=mirror(redact=["inputs.email"]))) as (plane, channel):
        infer(channel, asked)
        assert plane.counted("dropped.mirror.unreadable") == 1
    assert servers["shadow"].calls() == []


def test_the_primarys_twin_is_compared_too_and_marked_as_noise(servers: dict[str, ScriptedServer]) -> None:
    """Differences count only above those between two backends that are alike."""
    made = policy(servers, mirror=mirror(noise={"to": "twin", "share": 1.0}))
    made["identity"]["segments"] = [{"name": "device", "from": {"metadata": "x-device"}}]
    servers["shadow"].behaviour, servers["twin"].behaviour = scores(0.1), scores(0.85)
    with running(made) as (plane, channel):
        infer(channel, None, ("x-device", "phone"))
        found = each(plane, "mirrors", 2)
        main = servers["main"]
        main.reset(scores(0.6))  # a fallback's answer is no measure of the primary's noise
        infer(channel)
        assert len(each(plane, "mirrors", 3)) == 3
    by_noise = {row["noise"]: row for row in found}
    assert by_noise[0]["agree"] == 0
    assert by_noise[0]["difference"] == pytest.approx(-0.8)
    assert by_noise[1]["agree"] == 1
    assert by_noise[1]["difference"] == pytest.approx(-0.05)
    assert {row["to"] for row in found} == {2}
    assert {row["segment"] for row in found} == {"device=phone"}
    assert len(servers["twin"].calls()) == 1


def test_a_row_that_the_shadow_contradicts_is_put_before_people(servers: dict[str, ScriptedServer]) -> None:
    """The comparison comes after the answer, so what was decided on the row is told anew, once, with its capture."""
    made = policy(servers, mirror=mirror(), review=review(flagged=0.25))
    made["backends"].append(model("other", servers["twin"].address))
    made["routes"][0]["mirror"] += mirror(to="other")
    servers["shadow"].behaviour = servers["twin"].behaviour = scores(0.9, 0.1)
    with running(made) as (plane, channel):
        infer(channel, message(2))
        each(plane, "mirrors", 4)
        drained = plane.until(lambda drained: drained.rows("raises") >= 1)
        records = plane.records(2)
        before = records[1]
    [raised] = drained.each("raises")
    assert (raised["row"], raised["id_lo"], raised["unit"]) == (1, before["id_lo"], before["unit"])
    assert (raised["review_pi_before"], raised["review_pi"], raised["sampled"]) == (0.25, 1.0, 1)
    assert (raised["sampled_before"], raised["stratum"]) == (before["sampled"], 4)
    for name in (
        "label",
        "score",
        "confidence",
        "flagged",
        "outcome",
        "backend",
        "policy",
        "time_us",
        "segment",
    ):
        assert raised[name] == before[name], name
    captured = [row for capture in drained.captures for row in capture["rows"]]
    assert sorted(captured) == [row["row"] for row in records if row["sampled"] or row["row"] == 1]
    kept = pb.ModelInferRequest.FromString(drained.captures[-1]["request"])
    assert [tensor.name for tensor in kept.inputs] == ["features"]


def test_a_method_route_is_copied_when_its_method_may_be_done_twice(
    servers: dict[str, ScriptedServer],
) -> None:
    """Nothing is read of such calls: the shadow is only seen to answer."""
    stream = "/inference.GRPCInferenceService/ModelStreamInfer"
    for methods, copies in (([stream], 1), (["/other.Service/*"], 0)):
        matched = {"model": None, "method": stream, "metadata": {}}
        nothing = {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None}
        unread = {"match": matched, "prediction": None, "confidence": None, "check": nothing}
        made = policy(servers, **unread, mirror=mirror(methods=methods))
        made["routes"][0]["chain"] = ["main"]
        with running(made) as (plane, channel):
            ask = channel.stream_stream(
                stream, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
            )
            assert len(list(ask(iter([message(), message()]), timeout=10))) == 2
            plane.records(1)
            found = each(plane, "mirrors", copies)
        assert [(row["result"], row["agree"]) for row in found] == [(0, 255)] * copies
        assert len(servers["shadow"].calls("ModelStreamInfer")) == 2 * copies


def large_answer(asked: pb.ModelInferRequest, context: Context) -> bytes:
    made = pb.ModelInferResponse(model_name="spam")
    made.raw_output_contents.append(bytes(8 << 20))
    encoded: bytes = made.SerializeToString()
    return encoded


SHADOWS: dict[str, tuple[Behaviour, str]] = {
    "garbage": (garbage(), "dropped.mirror.invalid"),
    "nothing": (garbage(b""), "dropped.mirror.invalid"),
    "other_rows": (
        lambda asked, context: scores(0.9)(request("spam", rows(7)), context),
        "dropped.mirror.invalid",
    ),
    "too_large": (large_answer, "dropped.mirror.answer"),
    "failing": (fail(grpc.StatusCode.INTERNAL), "dropped.mirror.error"),
}


def shown(answer: pb.ModelInferResponse) -> bytes:
    """The answer's bytes, but for what is each call's own."""
    made = pb.ModelInferResponse()
    made.CopyFrom(answer)
    for name in OWN:
        del made.parameters[name]
    encoded: bytes = made.SerializeToString(deterministic=True)
    return encoded


@pytest.mark.parametrize("kind", SHADOWS)
def test_whatever_a_shadow_answers_the_caller_gets_the_same_bytes(
    servers: dict[str, ScriptedServer], kind: str
) -> None:
    """A shadow's garbage is counted by reason and thrown away, however long it is."""
    behaviour, counter = SHADOWS[kind]
    calls = [message(), message(3), request("spam", rows(1, 30_000))]
    with running(policy(servers)) as (_, channel):
        without = [shown(infer(channel, asked)) for asked in calls]
    made = policy(servers, mirror=mirror())
    servers["shadow"].behaviour = behaviour
    with running(made) as (plane, channel):
        answers = [shown(infer(channel, asked)) for asked in calls]
        assert [row["result"] for row in each(plane, "mirrors", len(calls))] == [1] * len(calls)
        assert plane.counted(counter, len(calls)) == len(calls)
    assert answers == without


def test_a_black_holed_shadow_holds_no_more_than_its_bytes(servers: dict[str, ScriptedServer]) -> None:
    """200 MB of requests pass by a shadow that takes none of them: the caps hold, and so does the memory."""
    made = policy(servers)
    limit = 8 << 20
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        made["backends"].append(model("hole", f"127.0.0.1:{hole.getsockname()[1]}"))
        made["routes"][0]["mirror"] = mirror(to="hole", max_bytes=limit, timeout_ms=60_000)
        body = request("spam", np.zeros((1, 256 * 1024), np.float32))
        # Read by nobody here: what is measured is the gateway's memory, which this process shares.
        servers["main"].behaviour = scores(0.9)
        with running(made) as (plane, channel):
            for _ in range(20):
                infer(channel, body)
                servers["main"].seen.clear()
            before = psutil.Process().memory_info().rss
            for _ in range(200):
                infer(channel, body)
                servers["main"].seen.clear()
            grown = psutil.Process().memory_info().rss - before
            assert plane.counted("dropped.mirror.bytes", 200) >= 200
    assert grown < 64 << 20, f"{grown / 1e6:.0f} MB"
