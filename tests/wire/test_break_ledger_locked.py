"""What a ledger that cannot be written for a while may not cost: health, and the changes that come after."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.wire.clients import infer_by_grpcio
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer

PATIENCE_S = 1.0
"""What a kubelet waits for a probe unless told otherwise."""


def settings(server: ScriptedServer, floor: float = 0.8) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": server.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"], "confidence": {"floor": floor}}},
    }


@contextmanager
def locked(gateway: GatewayProcess) -> Iterator[None]:
    """As a backup tool, or somebody's shell, holds the database."""
    with closing(sqlite3.connect(gateway.state_dir / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_reload_that_waits_for_the_ledger_holds_up_no_probe(main: ScriptedServer, tmp_path: Path) -> None:
    with (
        GatewayProcess(tmp_path, settings(main)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        with locked(gateway):
            gateway.write(settings(main, floor=0.9))
            gateway.signal(signal.SIGHUP)
            refused = pool.submit(until, lambda: "(locked)" in gateway.logged() or None, "refused")
            slowest = 0.0
            while not refused.done():
                began = time.monotonic()
                assert gateway.get("/healthz")[0] == 200
                slowest = max(slowest, time.monotonic() - began)
            refused.result()
            assert slowest < PATIENCE_S
            assert infer_by_grpcio(channel, "spam").said["policy"] == "1"
            assert "gateway_policy_version 1.0" in gateway.get("/metrics")[1]
        gateway.signal(signal.SIGHUP)
        until(lambda: infer_by_grpcio(channel, "spam").said["policy"] == "2" or None, "the new policy")
