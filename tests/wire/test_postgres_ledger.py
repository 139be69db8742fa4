"""A gateway whose ledger is in PostgreSQL, as processes: either is killed, calls go on, and what was said is there."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from sqlalchemy.engine import make_url

from tests.postgres import Postgres, wanted
from tests.wire.clients import infer_by_grpcio
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer
from tests.wire.test_feedback_durability import ACCEPTED, DUPLICATE, feedback_labels, settings, submit


def test_label_survives_kill_9_and_its_password_is_told_to_nobody(
    main: ScriptedServer, tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    """The same promise as with a file; the password is in no log and in no policy that the ledger keeps."""
    name = str(make_url(postgres_url).database)
    gateway = GatewayProcess(tmp_path, {**settings(main), "ledger": postgres.tcp_url(name)})
    gateway.start()
    with grpc.insecure_channel(gateway.address) as channel:
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
        assert submit(channel, receipt, "spam") == ACCEPTED
        gateway.kill()
    with gateway, grpc.insecure_channel(gateway.address) as channel:
        assert submit(channel, receipt, "spam") == DUPLICATE
        assert feedback_labels(gateway) == 1
    assert "not-for-logs" not in gateway.logged()
    [(policies,)] = postgres.execute("SELECT string_agg(document, ' ') FROM policies", name)
    assert "spam" in str(policies)
    assert "not-for-logs" not in str(policies)
    assert not (tmp_path / "state" / "ledger.db").exists()


def test_calls_go_on_while_the_database_is_away(main: ScriptedServer, tmp_path: Path) -> None:
    """Labels are refused with UNAVAILABLE until it is back; records of the calls in between are counted then."""
    wanted()
    with Postgres.start() as server, server.database() as url:
        gateway = GatewayProcess(tmp_path, {**settings(main), "ledger": url})
        with gateway, grpc.insecure_channel(gateway.address) as channel:
            receipt = infer_by_grpcio(channel, "spam").said["receipt"]
            assert submit(channel, receipt, "spam") == ACCEPTED
            server.kill()
            assert infer_by_grpcio(channel, "spam").said["outcome"] == "model"
            with pytest.raises(grpc.RpcError) as refused:
                submit(channel, receipt, "ham")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            server.resume()
            assert submit(channel, receipt, "spam") == DUPLICATE
            until(lambda: gateway.report()["spam"]["calls"]["total"] == 2 or None, "both calls are counted")
