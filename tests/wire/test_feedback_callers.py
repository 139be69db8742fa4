"""Who gives feedback is whom its certificate names, in the limits and in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ruamel.yaml import YAML

from gateway.client import positive
from gateway.v1 import feedback_pb2 as pb
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from tests.wire.certificates import SPIFFE, Authority
from tests.wire.gateway_process import GatewayProcess


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def gateway(authority: Authority, tmp_path: Path) -> Iterator[GatewayProcess]:
    settings: dict[str, Any] = {
        "feedback": {"per_caller_per_s": 0.001, "burst": 1},
        "default_backend": "main",
        "backends": {"main": {"grpc": "127.0.0.1:1"}},
    }
    process = GatewayProcess(tmp_path, settings)
    cert, key = authority.issue("localhost").write(tmp_path)
    whole = YAML(typ="safe").load(process.file.read_text())
    whole["listen"]["tls"] = {"cert": cert, "key": key, "client_ca": authority.write(tmp_path)}
    with process.file.open("w") as file:
        YAML(typ="safe").dump(whole, file)
    with process:
        yield process


def told(authority: Authority, gateway: GatewayProcess, name: str) -> list[tuple[str, str]]:
    """What becomes of two calls of a caller with that certificate: status, and words."""
    found = []
    request = pb.SubmitFeedbackRequest(items=[positive("no receipt", True)])
    address = gateway.address.replace("127.0.0.1", "localhost")
    with authority.channel(address, authority.issue(name)) as channel:
        stub = FeedbackServiceStub(channel)
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Submit(request, timeout=10)
            found.append((refused.value.code().name, refused.value.details() or ""))
    return found


def test_each_certificate_has_an_allowance_of_its_own(authority: Authority, gateway: GatewayProcess) -> None:
    """From one address, as behind a mesh: by the first name, which no metadata can change."""
    for name in (SPIFFE, "batch.example.org"):
        first, second = told(authority, gateway, name)
        assert first[0] == "INVALID_ARGUMENT"
        assert second[0] == "RESOURCE_EXHAUSTED"
        assert f"tls:{name}" in second[1]
