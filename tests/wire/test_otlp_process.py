"""What a whole gateway tells an OpenTelemetry collector, and what a collector that hangs costs it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc

from tests.telemetry.receiver import Receiver, attributes
from tests.wire.clients import INFER, request, rows
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, pb, scores

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def settings(main: ScriptedServer, spare: ScriptedServer, endpoint: str) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": main.address, "model": "spam_v3"},
            "spare": {"grpc": spare.address},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "review": {"queue": "q", "share": 1.0}}},
        "telemetry": {"otlp": endpoint, "trace_share": 1.0},
    }


def infer(channel: grpc.Channel, count: int, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    for _ in range(count):
        ask(request("spam", rows()), metadata=metadata, timeout=10)


def test_collector_gets_the_call_its_attempts_and_the_numbers(tmp_path: Path) -> None:
    """One trace from the caller through the gateway to each backend, and counts that agree with the calls made."""
    receiver = Receiver()
    with ScriptedServer() as main, ScriptedServer() as spare:
        main.reset(scores(0.6))
        spare.reset(scores(0.9))
        with GatewayProcess(tmp_path, settings(main, spare, receiver.endpoint)) as process:
            with grpc.insecure_channel(process.address) as channel:
                infer(channel, 1, (("traceparent", f"00-{TRACE}-{PARENT}-01"),))
                infer(channel, 4)
            page = until(
                lambda: process.get("/metrics")[1] if 'le="+Inf"' in process.get("/metrics")[1] else None,
                "the calls in /metrics",
            )
        seen_by_main = [dict(call.metadata)["traceparent"] for call in main.calls()]
    receiver.close()  # the gateway has stopped, and sent what was left before

    spans = [span for span in receiver.spans() if span.trace_id.hex() == TRACE]
    [server] = [span for span in spans if span.kind == span.SPAN_KIND_SERVER]
    attempts = sorted(
        (span for span in spans if span.kind == span.SPAN_KIND_CLIENT),
        key=lambda span: span.start_time_unix_nano,
    )
    assert server.parent_span_id.hex() == PARENT
    assert [span.parent_span_id for span in attempts] == [server.span_id, server.span_id]
    assert seen_by_main[0] == f"00-{TRACE}-{attempts[0].span_id.hex()}-01"
    said = attributes(server)
    assert (said["gateway.route"], said["gateway.outcome"]) == ("spam", "fallback")
    assert (said["gateway.reason"], said["gateway.backend"]) == ("low_confidence", "spare")
    assert len(receiver.spans()) == 5 * 3

    metrics = receiver.last_metrics()
    [decisions] = metrics["gateway.decisions"].sum.data_points
    assert decisions.as_int == 5 or decisions.as_double == 5
    assert attributes(decisions)["outcome"] == "fallback"
    assert {"gateway.attempts", "gateway.overhead", "rpc.server.call.duration"} <= set(metrics)
    found = re.search(r'^gateway_decisions_total\{.*outcome="fallback".*\} 5\.0$', page, re.MULTILINE)
    assert found, page


def test_collector_that_never_answers_costs_dropped_counts_and_no_call(tmp_path: Path) -> None:
    """The receiver takes every request and keeps it: calls stay quick, and the process still stops in time."""
    receiver = Receiver(hang=True)
    with ScriptedServer() as main, ScriptedServer() as spare:
        main.reset(scores(0.9))
        process = GatewayProcess(tmp_path, settings(main, spare, receiver.endpoint))
        process.start()
        with grpc.insecure_channel(process.address) as channel:
            infer(channel, 20)
            until(lambda: receiver.taken > 0, "the first export")
            began = time.monotonic()
            infer(channel, 200)
            took_s = time.monotonic() - began
        began = time.monotonic()
        code = process.stop()
        stopped_s = time.monotonic() - began
    receiver.close()
    assert took_s < 10, "200 calls of about a millisecond each"
    assert code == 0
    assert stopped_s < 12
