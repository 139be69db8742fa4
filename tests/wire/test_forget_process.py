"""`gateway forget` against what a real gateway recorded: the two make the same hash of a unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc

from gateway.ledger import Reader, schema
from tests.wire.clients import infer_by_grpcio
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer


def settings(server: ScriptedServer) -> dict[str, Any]:
    review = {"queue": "moderation", "share": {"flagged": 1.0, "unflagged": 1.0}, "capture": ["inputs"]}
    return {
        "backends": {
            "main": {"grpc": server.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"], "review": review}},
    }


def test_a_unit_is_forgotten_beside_a_running_gateway(main: ScriptedServer, tmp_path: Path) -> None:
    """By the id that calls gave; another unit's decisions stay, and the gateway goes on."""
    with (
        GatewayProcess(tmp_path, settings(main)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        for unit, calls in (("ann", 2), ("bob", 3)):
            for _ in range(calls):
                infer_by_grpcio(channel, "spam", metadata=[("gateway-unit", unit)])
        reader = Reader.open(f"sqlite:///{gateway.state_dir / 'ledger.db'}")

        def kept() -> int:
            return len(
                reader.snapshot(lambda connection: connection.execute(schema.decisions.select()).all())
            )

        until(lambda: kept() == 5, "five decisions in the ledger")
        told = run_gateway("forget", str(gateway.file), "--unit", "ann", "--actor", "dpo")
        assert told.returncode == 0, told.stderr
        assert "Removed: 2 decisions, 2 payloads, 2 open review tasks" in told.stdout
        assert "tallies: sums over many" in told.stdout
        assert kept() == 3
        again = json.loads(run_gateway("forget", str(gateway.file), "--unit", "ann", "--json").stdout)
        assert set(again["removed"].values()) == {0}
        trail = json.loads(run_gateway("audit", str(gateway.file), "--action", "unit", "--json").stdout)
        assert [one["actor"] for one in trail["entries"]][:1] == ["dpo"]
        infer_by_grpcio(channel, "spam", metadata=[("gateway-unit", "ann")])
        until(lambda: kept() == 4, "the gateway still keeps decisions")
        reader.close()


def test_without_its_salt_nothing_is_searched(main: ScriptedServer, tmp_path: Path) -> None:
    """A new salt would find nothing, and that would read as if nothing were there."""
    with GatewayProcess(tmp_path, settings(main)) as gateway:
        pass
    (gateway.state_dir / "salt").unlink()
    told = run_gateway("forget", str(gateway.file), "--unit", "ann")
    assert told.returncode == 1
    assert "there is no salt" in told.stderr
    assert not (gateway.state_dir / "salt").exists()
    folder = run_gateway("forget", str(gateway.state_dir), "--unit", "ann")
    assert folder.returncode == 2
    assert "wanted the settings file" in folder.stderr
