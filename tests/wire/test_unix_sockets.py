"""Unix sockets on both sides: found, left behind, and who may use them."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.wire.echo import SERVICE, EchoServer
from tests.wire.gateway_process import until
from tests.wire.plane import RunningPlane, document, model, route, running

UNARY = f"{SERVICE}/Unary"


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def policy(address: str) -> dict[str, object]:
    return document([model("echo", address)], default_backend="echo")


def test_a_stale_socket_is_taken_over_and_removed_at_the_end(tmp_path: Path, echo: EchoServer) -> None:
    """What kill -9 left behind does not keep the next gateway from starting."""
    path = tmp_path / "in.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    assert stat.S_ISSOCK(path.stat().st_mode)
    with running(policy(echo.address), inference=f"unix:{path}") as (_, channel):
        assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
    assert not path.exists()


def test_a_socket_in_use_and_a_file_are_left_alone(tmp_path: Path, echo: EchoServer) -> None:
    """Two gateways on one path would answer by turns; a file is somebody's."""
    path = tmp_path / "in.sock"
    with running(policy(echo.address), inference=f"unix:{path}") as (_, channel):
        with pytest.raises(OSError, match=r"in\.sock"):
            RunningPlane(policy(echo.address), inference=f"unix:{path}")
        assert channel.unary_unary(UNARY)(b"x", timeout=10) == b"x"
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(OSError, match="file"):
        RunningPlane(policy(echo.address), inference=f"unix:{file}")
    assert file.read_text() == "precious"


def test_who_may_connect_goes_by_the_umask(tmp_path: Path, echo: EchoServer) -> None:
    """As for any file: a deployment says it by umask and by the folder."""
    before = os.umask(0o117)
    try:
        with running(policy(echo.address), inference=f"unix:{tmp_path}/in.sock"):
            assert stat.S_IMODE((tmp_path / "in.sock").stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_nobody_is_known_on_a_unix_socket(tmp_path: Path, echo: EchoServer) -> None:
    """`caller.id` is empty, whatever metadata says, and an allow-list lets nobody in."""
    rule = {
        "name": "known-only",
        "on": "request",
        "when": 'caller.id == "" && size(caller.names) == 0 && !has(caller.id)',
        "then": {"kind": "reject", "status": "UNAUTHENTICATED", "message": "who are you?"},
    }
    echoed = route(
        ["echo"],
        match={"model": None, "method": f"{SERVICE}/*", "metadata": {}},
        prediction=None,
        check={"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None},
        confidence=None,
        rules=[rule],
    )
    address = f"unix:{tmp_path}/in.sock"
    made = document([model("echo", echo.address)], [echoed])
    with running(made, inference=address) as (plane, channel):
        for made_now, status in (
            (made, grpc.StatusCode.UNAUTHENTICATED),
            ({**made, "allow": ["*"]}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            plane.publish(made_now)
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(UNARY)(b"x", timeout=10, metadata=(("x-forwarded-client-cert", "URI=a"),))
            assert caught.value.code() == status


def test_a_backend_that_comes_later_is_found(tmp_path: Path) -> None:
    """A model server beside the gateway may start second."""
    path = tmp_path / "model.sock"
    with running(policy(f"unix:{path}")) as (_, channel):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(UNARY)(b"x", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with EchoServer() as server, running(policy(server.address), inference=f"unix:{path}"):

            def answered() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    return bool(channel.unary_unary(UNARY)(b"y", timeout=10) == b"y")
                return False

            until(answered, "an answer once the endpoint has rested")
