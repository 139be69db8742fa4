"""The loop guard as an operator and a caller meet it: settings, reload, metrics, report."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import grpc

from tests.wire.clients import INFER, request, rows
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, fail, pb, scores

FALLBACK = {"backend_error ham", "circuit_open ham"}


def settings(main: ScriptedServer, spare: ScriptedServer, limit: int = 3) -> dict[str, Any]:
    guard = {"limit": limit, "within_s": 600, "then": "spare"}
    route = {**MAIN_SETTINGS, "chain": ["main", "ham"], "loop_guard": guard}
    return {
        "identity": {"unit": "metadata:x-user-id"},
        "backends": {
            "main": {"grpc": main.address, "model": "main"},
            "spare": {"grpc": spare.address},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": route},
    }


def reason(channel: grpc.Channel, user: str) -> str:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    _, call = ask.with_call(request("spam", rows()), metadata=[("x-user-id", user)], timeout=10)
    said = {str(key): str(value) for key, value in call.trailing_metadata()}
    return f"{said['gateway-reason']} {said['gateway-backend']}"


def version(gateway: GatewayProcess) -> str:
    lines = gateway.get("/metrics")[1].splitlines()
    return next(line for line in lines if line.startswith("gateway_policy_version"))


def test_a_loop_is_left_across_a_reload_and_seen_in_metrics_and_report(
    main: ScriptedServer, spare: ScriptedServer, tmp_path: Path
) -> None:
    """What was met under the old settings counts under the new ones."""
    main.reset(fail(grpc.StatusCode.UNAVAILABLE))
    spare.reset(scores(0.97))
    with (
        GatewayProcess(tmp_path, settings(main, spare, limit=5)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        # A circuit that opens meanwhile leads to the same fallback.
        assert {reason(channel, "ada") for _ in range(4)} <= FALLBACK
        before = version(gateway)
        gateway.write(settings(main, spare, limit=4))
        gateway.signal(signal.SIGHUP)
        until(lambda: version(gateway) != before, "the new settings hold")
        assert reason(channel, "ada") == "loop_guard spare"
        assert reason(channel, "bob") in FALLBACK
        until(
            lambda: 'gateway_units{what="loop_guard"} 2.0' in gateway.get("/metrics")[1], "both are counted"
        )
        text = 'gateway_decisions_total{outcome="fallback",reason="loop_guard",route="spam"} 1.0'
        until(lambda: text in gateway.get("/metrics")[1], "the decision is counted")
        until(
            lambda: gateway.report()["spam"]["calls"]["by_reason"].get("loop_guard") == 1,
            "it stands in the report",
        )
