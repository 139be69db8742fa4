"""grpc-go's interop cases, with its own client and server on either side of the gateway."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import tools
from tests.wire.gateway_process import GatewayProcess, free_ports, until

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
)
ROUTES = {
    "unary": {"match": {"method": "/grpc.testing.TestService/UnaryCall"}, "chain": ["go"]},
    "others": {"match": {"method": "/grpc.testing.TestService/*"}, "chain": ["go"]},
    "none": {"match": {"method": "/grpc.testing.UnimplementedService/*"}, "chain": ["go"]},
}
"""An exact method wins over the pattern."""

pytestmark = [
    pytest.mark.skipif(tools.missing() is not None, reason=str(tools.missing())),
    pytest.mark.timeout(1000),
]


@pytest.fixture(scope="module")
def programs() -> Path:
    return tools.built()


@pytest.fixture(scope="module")
def server(programs: Path) -> Iterator[str]:
    """grpc-go's interop server."""
    [port] = free_ports(1)
    process = subprocess.Popen(
        [programs / "server", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        assert process.poll() is None, "the interop server has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "the interop server listens")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["untouched", "routed"])
def gateway(
    request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """As a default backend, and through routes by method."""
    settings: dict[str, object] = {"backends": {"go": {"grpc": server}}}
    settings |= {"default_backend": "go"} if request.param == "untouched" else {"routes": ROUTES}
    with GatewayProcess(tmp_path_factory.mktemp("interop"), settings) as gateway:
        yield gateway


@pytest.mark.parametrize("case", CASES)
def test_interop(gateway: GatewayProcess, programs: Path, case: str) -> None:
    """grpc-go's client ends with 0 when it got what the case wants."""
    host, port = gateway.address.split(":")
    command = [programs / "client", f"--server_host={host}", f"--server_port={port}", f"--test_case={case}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
