"""Policies of a gateway that serves by itself: stopped, rolled back and published by hand, and kept over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer, scores


def settings(main: ScriptedServer, **route: Any) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": main.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"], **route}},
    }


def answered(gateway: GatewayProcess) -> tuple[str, str]:
    """Who answers, and under which policy."""
    with grpc.insecure_channel(gateway.address) as channel:
        ask = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        _, call = ask.with_call(request("spam", rows()), timeout=10)
    said = {str(key): str(value) for key, value in call.trailing_metadata()}
    return said["gateway-backend"], said["gateway-policy"]


def test_a_model_is_stopped_and_settings_are_rolled_back_without_a_fleet(
    main: ScriptedServer, tmp_path: Path
) -> None:
    """Who runs one gateway has the same levers as who runs a hundred; a restart undoes none of it."""
    main.reset(scores(0.97))
    with GatewayProcess(tmp_path, settings(main)) as gateway:
        assert answered(gateway) == ("main", "1")
        assert run_gateway("kill", "spam", "--address", gateway.address, "--reason", "mad").returncode == 0
        assert answered(gateway) == ("ham", "2")
        gateway.stop()
        gateway.start()
        assert answered(gateway) == ("ham", "2")
        assert run_gateway("kill", "spam", "--off", "--address", gateway.address).returncode == 0
        assert answered(gateway) == ("main", "3")
        gateway.write(settings(main, chain=["ham"]))
        until(lambda: answered(gateway) == ("ham", "4") or None, "the file is taken")
        done = run_gateway("policy", "roll-back", "3", "--address", gateway.address)
        assert (done.returncode, done.stdout) == (0, "policy 5 is in force\n")
        assert answered(gateway) == ("main", "5")
        gateway.stop()
        gateway.start()  # the file says what version 4 said, and was taken then
        assert answered(gateway) == ("main", "5")
        listed = run_gateway("policy", "list", "--address", gateway.address).stdout
        assert [line.split()[0] for line in listed.splitlines()] == ["5", "4", "3", "2", "1"]


def test_settings_that_are_faulty_are_refused_with_their_lines(main: ScriptedServer, tmp_path: Path) -> None:
    """By `gateway policy publish` as in the file: nothing is half applied."""
    main.reset(scores(0.97))
    with GatewayProcess(tmp_path, settings(main)) as gateway:
        bad = tmp_path / "bad.yaml"
        bad.write_text(gateway.file.read_text().replace("chain:", "chian:"))
        done = run_gateway("policy", "publish", str(bad), "--address", gateway.address)
        assert done.returncode == 1
        assert "did you mean chain?" in done.stderr
        assert answered(gateway) == ("main", "1")


def test_a_model_on_the_level_shadow_is_asked_and_answers_nobody(
    main: ScriptedServer, tmp_path: Path
) -> None:
    """How a model begins: callers must not notice it."""
    main.reset(scores(0.97))
    level = {"autonomy": "shadow", "review": {"share": 0.5}}
    with GatewayProcess(tmp_path, settings(main, **level)) as gateway:
        assert {answered(gateway)[0] for _ in range(5)} == {"ham"}
        until(lambda: len(main.calls()) == 5 or None, "the model gets its copies")
