"""`gateway serve` as an operator meets it: stopping, reloading, and refusing to start."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wire.clients import infer_by_grpcio
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer, Silent, scores


def settings(server: ScriptedServer, floor: float = 0.8) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": server.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"], "confidence": {"floor": floor}}},
    }


@pytest.fixture
def gateway(main: ScriptedServer, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, settings(main)) as process:
        yield process


@pytest.fixture
def own_channel(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(gateway.address) as channel:
        yield channel


def test_sigterm_lets_calls_in_flight_finish(
    gateway: GatewayProcess, own_channel: grpc.Channel, main: ScriptedServer
) -> None:
    """A rollout costs no caller an answer: readiness goes first, the calls under way end, then the process."""
    silent = Silent(then=scores(0.97))
    main.reset(silent)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(infer_by_grpcio, own_channel, "spam") for _ in range(4)]
        silent.wait_for(4)
        gateway.signal(signal.SIGTERM)
        until(lambda: gateway.get("/readyz")[0] != 200, "not ready any more")
        assert gateway.running()
        silent.release()
        assert [call.result(10).status for call in calls] == ["OK"] * 4
    assert gateway.terminated() == 0


def test_calls_before_sigterm_are_in_the_ledger(gateway: GatewayProcess, own_channel: grpc.Channel) -> None:
    """What was answered last is not lost with the process."""
    for _ in range(25):
        assert infer_by_grpcio(own_channel, "spam").status == "OK"
    gateway.signal(signal.SIGTERM)
    assert gateway.terminated() == 0
    assert gateway.report()["spam"]["calls"]["total"] == 25


def test_sighup_takes_the_new_file(
    gateway: GatewayProcess, own_channel: grpc.Channel, main: ScriptedServer
) -> None:
    """A higher floor holds for the next call, under a new policy version."""
    main.reset(scores(0.85))
    before = infer_by_grpcio(own_channel, "spam").said
    assert before["outcome"] == "model"
    gateway.write(settings(main, floor=0.9))
    gateway.signal(signal.SIGHUP)

    def changed() -> dict[str, str] | None:
        told = dict(infer_by_grpcio(own_channel, "spam").said)
        return told if told["policy"] != before["policy"] else None

    after = until(changed, "a new policy version")
    assert (after["outcome"], after["reason"]) == ("static", "low_confidence")
    assert int(after["policy"]) > int(before["policy"])


def test_changed_file_is_taken_without_a_signal(
    gateway: GatewayProcess, own_channel: grpc.Channel, main: ScriptedServer
) -> None:
    """An edited ConfigMap is enough."""
    main.reset(scores(0.85))
    gateway.write(settings(main, floor=0.9))
    until(
        lambda: infer_by_grpcio(own_channel, "spam").said["outcome"] == "static" or None,
        "the new floor in force",
    )


def test_bad_file_keeps_the_old_policy_and_says_why(
    gateway: GatewayProcess, own_channel: grpc.Channel, main: ScriptedServer
) -> None:
    """Nothing of a faulty file is applied; the log names the line; the process and its readiness stay."""
    before = infer_by_grpcio(own_channel, "spam").said
    bad = settings(main, floor=0.9)
    bad["routes"]["spam"]["chain"] = ["main", "hamm"]
    gateway.write(bad)
    gateway.signal(signal.SIGHUP)
    until(lambda: "hamm" in gateway.logged() or None, "the fault in the log")
    assert "routes.spam.chain[1]" in gateway.logged()
    assert "gateway.yaml:" in gateway.logged()
    assert infer_by_grpcio(own_channel, "spam").said["policy"] == before["policy"]
    assert gateway.get("/readyz")[0] == 200


def test_health_pages_and_metrics(gateway: GatewayProcess, own_channel: grpc.Channel) -> None:
    """What Kubernetes and Prometheus ask for stands on the admin port."""
    infer_by_grpcio(own_channel, "spam")
    assert gateway.get("/healthz")[0] == 200

    def decisions() -> list[str] | None:
        lines = gateway.get("/metrics")[1].splitlines()
        return [line for line in lines if line.startswith("gateway_decisions_total{")] or None

    (line,) = until(decisions, "the decision among the metrics")
    assert 'outcome="model"' in line
    assert 'route="spam"' in line


def test_faulty_settings_do_not_start(main: ScriptedServer, tmp_path: Path) -> None:
    """Exit 78, every fault, and no port taken."""
    bad = settings(main)
    bad["routes"]["spam"]["chain"] = ["main", "hamm"]
    bad["routes"]["spam"]["confidence"] = {"flor": 0.8}
    process = GatewayProcess(tmp_path, bad)
    result = run_gateway("serve", str(process.file))
    assert result.returncode == 78
    shown = result.stdout + result.stderr
    assert "routes.spam.chain[1]" in shown
    assert "flor" in shown
    assert "Traceback" not in shown


def test_port_in_use_is_said_with_its_address(main: ScriptedServer, tmp_path: Path) -> None:
    """An operator sees which address is taken, not a stack."""
    process = GatewayProcess(tmp_path, settings(main))
    host, _, port = process.address.rpartition(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        result = run_gateway("serve", str(process.file))
    assert result.returncode != 0
    shown = result.stdout + result.stderr
    assert process.address in shown
    assert "Traceback" not in shown
