"""New certificates while calls run: taken for new connections, refused where they are bad, and never felt by a call."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wire.certificates import SPIFFE, Authority, Pair, swap
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.plane import document, model, running
from tests.wire.servers import ScriptedServer, scores

UNARY = f"{SERVICE}/Unary"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def presented(
    authority: Authority, address: str, own: Pair | None = None, folder: Path | None = None
) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=authority.cert.decode())
    context.set_alpn_protocols(["h2"])
    if own is not None and folder is not None:
        context.load_cert_chain(*own.write(folder, "caller"))
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return der


def volume(folder: Path, pair: Pair, authority: Authority) -> dict[str, str | None]:
    """A volume as Kubernetes mounts a secret; returns the listener's files in it."""
    swap(folder, {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": authority.cert})
    return {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key"), "client_ca": None}


@contextlib.contextmanager
def callers(authority: Authority, address: str, faults: list[str]) -> Iterator[list[int]]:
    """Calls without a pause: one channel that stays, and one that is new for each call. Yields how many there were."""
    stop, counts = threading.Event(), [0, 0]

    def call(channel: grpc.Channel, kind: int) -> None:
        try:
            assert channel.unary_unary(UNARY)(b"x" * 5000, timeout=20) == b"x" * 5000
            counts[kind] += 1
        except (grpc.RpcError, AssertionError) as error:
            faults.append(str(error))

    def steady() -> None:
        with authority.channel(address) as channel:
            while not stop.is_set():
                call(channel, 0)

    def fresh() -> None:
        while not stop.is_set():
            with authority.channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                call(channel, 1)

    threads = [threading.Thread(target=run) for run in (steady, fresh)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_no_call_fails_while_certificates_are_swapped(authority: Authority, tmp_path: Path) -> None:
    """Connections in place go on, new ones are shown the new certificate, and nobody notices."""
    pairs = [authority.issue("localhost", "127.0.0.1") for _ in range(6)]
    tls = volume(tmp_path, pairs[0], authority)
    faults: list[str] = []
    with (
        EchoServer() as echo,
        running(document([model("echo", echo.address)], default_backend="echo"), tls=tls) as (plane, _),
        callers(authority, plane.address, faults) as counts,
    ):
        until(lambda: min(counts) > 3, "calls on both channels")
        for pair in pairs[1:]:
            before = list(counts)
            swap(tmp_path, {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": authority.cert})
            result = plane.dataplane.reload_certificates()
            assert result == {"taken": [["listen", "tls"]], "faults": []}
            assert presented(authority, plane.address) == pair.der
            until(
                lambda before=before: all(now > was for now, was in zip(counts, before, strict=True)), "calls"
            )
        assert plane.dataplane.reload_certificates() == {"taken": [], "faults": []}
    assert faults == []


def test_a_bad_new_certificate_leaves_the_old_in_use(authority: Authority, tmp_path: Path) -> None:
    """Each kind of bad: the fault names the file, and new connections are shown what was good."""
    good = authority.issue("localhost", "127.0.0.1")
    other = authority.issue("localhost", "127.0.0.1")
    tls = volume(tmp_path, good, authority)
    bad = {
        "expired": (authority.issue("localhost", start_days=-9, end_days=-2), "expired"),
        "too early": (authority.issue("localhost", start_days=1), "is not valid yet"),
        "mismatch": (Pair(other.cert, good.key, other.der), "it is not the key of the certificate"),
        "cut off": (Pair(other.cert[:200], other.key, other.der), "this is no PEM"),
        "empty": (Pair(b"", other.key, other.der), "this file is empty"),
        "no key": (Pair(other.cert, b"garbage", other.der), "there is no private key in it"),
        "turned about": (Pair(other.key, other.cert, other.der), "this is a key, not a certificate"),
    }
    with (
        EchoServer() as echo,
        running(document([model("echo", echo.address)], default_backend="echo"), tls=tls) as (plane, _),
    ):
        for name, (pair, words) in bad.items():
            swap(tmp_path, {"tls.crt": pair.cert, "tls.key": pair.key})
            result = plane.dataplane.reload_certificates()
            assert result["taken"] == [], name
            found = result["faults"][0]
            assert words in found["found"], (name, found)
            assert found["place"] == ["listen", "tls"]
            assert found["file"] == tls[found["setting"]]
            assert presented(authority, plane.address) == good.der
        (tmp_path / "..data" / "tls.crt").unlink()
        assert "there is no such file" in plane.dataplane.reload_certificates()["faults"][0]["found"]
        swap(tmp_path, {"tls.crt": other.cert, "tls.key": other.key})
        assert plane.dataplane.reload_certificates()["taken"] == [["listen", "tls"]]
        assert presented(authority, plane.address) == other.der


def test_an_authority_that_is_taken_away_is_trusted_no_more(authority: Authority, tmp_path: Path) -> None:
    """No session that was made before lets its caller in again."""
    tls = volume(tmp_path, authority.issue("localhost", "127.0.0.1"), authority)
    tls["client_ca"] = str(tmp_path / "ca.crt")
    caller = authority.issue(SPIFFE)
    with (
        EchoServer() as echo,
        running(document([model("echo", echo.address)], default_backend="echo"), tls=tls) as (plane, _),
        authority.channel(plane.address, caller) as standing,
    ):
        assert standing.unary_unary(UNARY)(b"a", timeout=10) == b"a"
        (tmp_path / "ca.crt").unlink()
        (tmp_path / "ca.crt").write_bytes(Authority("another").cert)
        assert plane.dataplane.reload_certificates()["taken"] == [["listen", "tls"]]
        assert standing.unary_unary(UNARY)(b"b", timeout=10) == b"b"
        options = [("grpc.use_local_subchannel_pool", 1)]
        with (
            authority.channel(plane.address, caller, options=options) as fresh,
            pytest.raises(grpc.RpcError) as caught,
        ):
            fresh.unary_unary(UNARY)(b"c", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        plane.counted("dropped.connection.client_certificate")


def test_a_backends_files_are_taken_anew_for_new_connections(authority: Authority, tmp_path: Path) -> None:
    """Trust that was wrong is mended without a restart, for every backend that names the file."""
    ca = tmp_path / "ca.crt"
    ca.write_bytes(Authority("wrong").cert)
    tls = {"ca": str(ca), "cert": None, "key": None, "server_name": None}
    with EchoServer(authority.server(authority.issue("127.0.0.1"))) as echo:
        policy = document(
            [model(name, echo.address, tls=tls, connect_timeout_ms=5000) for name in ("echo", "twin")],
            default_backend="echo",
        )
        with running(policy) as (plane, channel):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(UNARY)(b"a", timeout=10)
            plane.publish(policy)
            ca.write_bytes(authority.cert)
            assert plane.dataplane.reload_certificates()["taken"] == [["backends", "echo", "tls"]]

            def answered() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    return bool(channel.unary_unary(UNARY)(b"b", timeout=10) == b"b")
                return False

            until(answered, "a call once the endpoint has rested")


def gateway_settings(process: GatewayProcess, server: ScriptedServer, tls: dict[str, Any]) -> dict[str, Any]:
    return {
        "listen": {"inference": process.address, "admin": process.admin, "tls": tls},
        "backends": {"main": {"grpc": server.address}},
        "default_backend": "main",
    }


def test_a_serving_gateway_watches_its_files(authority: Authority, tmp_path: Path) -> None:
    """Nobody has to tell it: the swap is seen, a bad one is logged with file and mend, and the end is counted down."""
    secret = tmp_path / "secret"
    pairs = [
        authority.issue("localhost", "127.0.0.1", start_days=days - 90, end_days=days)
        for days in (89.9, 80, 3)
    ]
    volume(secret, pairs[0], authority)
    process = GatewayProcess(tmp_path, {})
    with ScriptedServer() as server:
        server.reset(scores(0.97))
        tls = {"cert": "secret/tls.crt", "key": "secret/tls.key"}
        process.write(gateway_settings(process, server, tls))
        with process:
            assert presented(authority, process.address) == pairs[0].der
            left = [line for line in process.get("/metrics")[1].splitlines() if "certificate_expiry" in line]
            assert 'gateway_certificate_expiry_seconds{setting="listen.tls.cert"}' in left[-1]
            assert 89 * 86_400 < float(left[-1].split()[-1]) <= 90 * 86_400

            swap(secret, {"tls.crt": pairs[1].cert, "tls.key": pairs[1].key})
            until(lambda: presented(authority, process.address) == pairs[1].der, "the new certificate")

            swap(secret, {"tls.crt": b"garbage", "tls.key": pairs[1].key})
            until(lambda: "certificate not taken" in process.logged(), "the fault in the log")
            logged = next(line for line in process.logged().splitlines() if "certificate not taken" in line)
            assert f"listen.tls.cert: {secret / 'tls.crt'}: there is no -----BEGIN CERTIFICATE-----" in logged
            assert "wanted a PEM of certificates" in logged
            assert presented(authority, process.address) == pairs[1].der

            # Plain replacement, one file after the other, and near its end.
            swap(secret, {"tls.crt": pairs[2].cert, "tls.key": pairs[1].key})
            swap(secret, {"tls.crt": pairs[2].cert, "tls.key": pairs[2].key})
            until(lambda: presented(authority, process.address) == pairs[2].der, "the third certificate")
            until(
                lambda: "the certificate of listen.tls.cert expires in 3 days" in process.logged(),
                "a warning",
            )
