"""Gates as others see them of a running gateway: by the service on its port, as metrics, and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import grpc

from gateway.v1 import quality_pb2 as pb
from gateway.v1.quality_pb2_grpc import QualityServiceStub
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer
from tests.wire.wrong_model import Model, quality_settings


def test_gates_of_a_running_gateway(tmp_path: Path) -> None:
    """Before the first label nothing is known, and all three say so, in the same words."""
    with ScriptedServer(Model()) as main, GatewayProcess(tmp_path, quality_settings(main)) as gateway:
        with grpc.insecure_channel(gateway.address) as channel:
            stub = QualityServiceStub(channel)
            watching = iter(stub.WatchGates(pb.GatesRequest(), timeout=30))
            told = next(watching)
            [said] = stub.Gates(pb.GatesRequest(route="spam"), timeout=30).verdicts
            report = json.loads(stub.Report(pb.ReportRequest(route="spam"), timeout=30).json)
        for one in (told, said):
            assert (one.route, one.gate, one.said) == ("spam", "precision-holds", pb.Verdict.INCONCLUSIVE)
            assert "no label in the whole window" in one.words
        assert list(report["routes"]) == ["spam"]
        series = 'gateway_gate{gate="precision-holds",route="spam",segment="",verdict="inconclusive"} 1'
        until(lambda: series in gateway.get("/metrics")[1] or None, "the verdict is a metric")
        command = run_gateway("gates", str(gateway.file), "--json")
        assert command.returncode == 0, command.stderr
        [shown] = json.loads(command.stdout)["gates"]
        assert shown["words"] == said.words
