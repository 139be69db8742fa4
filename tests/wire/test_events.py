"""Captured payloads leave a whole gateway as CloudEvents, redacted, and a receiver that hangs costs no call."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc

from tests.telemetry.event_receiver import EventReceiver
from tests.wire.clients import INFER, request, rows
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, pb, scores

SECRET = "a-secret-of-some-length"


def settings(main: ScriptedServer, url: str, capture: list[str], **events: Any) -> dict[str, Any]:
    review = {"queue": "q", "share": 1.0, "capture": capture}
    if capture:
        review["redact"] = ["inputs.email"]
    return {
        "backends": {"main": {"grpc": main.address}, "ham": {"answer": {"label": "ham", "score": 0.0}}},
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"], "review": review}},
        "telemetry": {"events": {"url": url, "token": "file:events.token", **events}},
    }


def asked() -> pb.ModelInferRequest:
    message = request("spam", rows())
    address = message.inputs.add(name="email", datatype="BYTES", shape=[1])
    address.contents.bytes_contents.append(b"ann@example.org")
    return message


def infer(channel: grpc.Channel, count: int) -> None:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    for _ in range(count):
        ask(asked(), timeout=10)


def test_request_and_answer_of_a_call_leave_without_what_is_redacted(tmp_path: Path) -> None:
    """The very call's bytes, less what the route's review redacts, with the token that stands in a file."""
    (tmp_path / "events.token").write_text(SECRET + "\n")
    with EventReceiver() as receiver, ScriptedServer() as main:
        main.reset(scores(0.9))
        with GatewayProcess(tmp_path, settings(main, receiver.url, ["inputs"])) as process:
            with grpc.insecure_channel(process.address) as channel:
                infer(channel, 1)
            until(lambda: len(receiver.posted) >= 2, "two events")
            page = until(
                lambda: page if "gateway_events" in (page := process.get("/metrics")[1]) else None, "metrics"
            )
        assert SECRET not in process.logged()
    by_type = {one.headers["ce-type"].rpartition(".")[2]: one for one in receiver.posted}
    sent = pb.ModelInferRequest.FromString(by_type["request"].body)
    assert [tensor.name for tensor in sent.inputs] == ["features"]
    assert b"ann@example.org" not in by_type["request"].body
    answer = pb.ModelInferResponse.FromString(by_type["response"].body)
    assert {tensor.name for tensor in answer.outputs} >= {"probabilities"}
    assert by_type["request"].headers["ce-id"] == by_type["response"].headers["ce-id"]
    assert by_type["request"].headers["ce-inferenceservicename"] == "spam"
    assert by_type["request"].headers["authorization"] == f"Bearer {SECRET}"
    assert re.search(r'^gateway_events_total\{.*kind="request".*\} 1\.0$', page, re.MULTILINE), page


def test_a_route_that_captures_nothing_sends_nothing(tmp_path: Path) -> None:
    """Sampled for review all the same; 20 calls later not a byte of them has left."""
    (tmp_path / "events.token").write_text(SECRET)
    with EventReceiver() as receiver, ScriptedServer() as main:
        main.reset(scores(0.9))
        with (
            GatewayProcess(tmp_path, settings(main, receiver.url, [])) as process,
            grpc.insecure_channel(process.address) as channel,
        ):
            infer(channel, 20)
        assert receiver.posted == []  # the gateway has stopped, and sent what it had


def test_a_receiver_that_hangs_costs_drops_and_no_call(tmp_path: Path) -> None:
    """Calls stay quick, what finds no room is counted, and the gateway stops in time."""
    (tmp_path / "events.token").write_text(SECRET)
    with EventReceiver() as receiver, ScriptedServer() as main:
        receiver.answer(receiver.hang)
        main.reset(scores(0.9))
        made = settings(main, receiver.url, ["inputs"], queue_events=10, timeout_s=30)
        process = GatewayProcess(tmp_path, made)
        process.start()
        with grpc.insecure_channel(process.address) as channel:
            began = time.monotonic()
            infer(channel, 200)
            took_s = time.monotonic() - began
        dropped = r'^gateway_dropped_total\{.*reason="queue_full".*what="event".*\} 390\.0$'
        until(lambda: re.search(dropped, process.get("/metrics")[1], re.MULTILINE), "390 of 400 dropped")
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 12
    assert took_s < 10
