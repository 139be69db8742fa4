"""A gateway before scripted model servers, shared by the tests of clients; what changes settings starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
import tritonclient.grpc as triton

from tests.wire.gateway_process import GatewayProcess
from tests.wire.mlserver import MLServerProcess
from tests.wire.servers import ScriptedServer, scores

__all__ = ["MAIN_SETTINGS"]

MAIN_SETTINGS = {
    "chain": ["main", "spare", "ham"],
    "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
    "confidence": {"floor": 0.8},
}


@pytest.fixture(scope="session")
def main_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="session")
def spare_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="session")
def client_gateway(
    main_server: ScriptedServer, spare_server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Route `spam` over two servers; whatever else is asked for goes to the first, untouched."""
    settings = {
        "backends": {
            "main": {"grpc": main_server.address, "model": "spam_v3"},
            "spare": {"grpc": spare_server.address, "model": "spam_lite"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": MAIN_SETTINGS},
    }
    with GatewayProcess(tmp_path_factory.mktemp("clients"), settings) as process:
        yield process


@pytest.fixture
def main(main_server: ScriptedServer) -> ScriptedServer:
    """The first server, sure of itself and with nothing seen."""
    main_server.reset(scores(0.97))
    main_server.ready = True
    return main_server


@pytest.fixture
def spare(spare_server: ScriptedServer) -> ScriptedServer:
    spare_server.reset(scores(0.03))
    return spare_server


@pytest.fixture
def channel(client_gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(client_gateway.address) as channel:
        yield channel


@pytest.fixture
def client(client_gateway: GatewayProcess) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(client_gateway.address)
    yield client
    client.close()


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLServerProcess]:
    with MLServerProcess(tmp_path_factory.mktemp("mlserver")) as process:
        yield process
