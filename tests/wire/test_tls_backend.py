"""Backends over TLS: trusted, known by name, shown the gateway's own certificate; and what their faults are called."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway._dataplane import PolicyError
from tests.wire.certificates import Authority
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import RunningPlane, document, model, running

UNARY = f"{SERVICE}/Unary"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def folder(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority.write(folder)
    authority.issue("spiffe://acme/gateway").write(folder, "gateway")
    Authority("other").write(folder, "other.crt")
    return folder


def files(
    folder: Path, ca: str | None = "ca.crt", own: str | None = None, name: str | None = None
) -> dict[str, Any]:
    return {
        "ca": None if ca is None else str(folder / ca),
        "cert": None if own is None else str(folder / f"{own}.crt"),
        "key": None if own is None else str(folder / f"{own}.key"),
        "server_name": name,
    }


def untouched(address: str, tls: dict[str, Any] | None) -> dict[str, Any]:
    # Handshakes on a busy machine may take longer than the usual time to connect.
    backend = model("echo", address, tls=tls, connect_timeout_ms=5000)
    return document([backend], default_backend="echo")


@contextmanager
def called(server: EchoServer, tls: dict[str, Any] | None) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    with running(untouched(server.address, tls)) as (plane, channel):
        yield plane, channel


@contextmanager
def echo_server(credentials: grpc.ServerCredentials | None = None) -> Iterator[EchoServer]:
    with EchoServer(credentials) as server:
        yield server


def unary(channel: grpc.Channel, body: bytes = b"hello") -> bytes:
    answer: bytes = channel.unary_unary(UNARY)(body, timeout=10)
    return answer


def fault(address: str, tls: dict[str, Any] | None) -> str:
    """What the caller is told when the backend cannot be had."""
    with running(untouched(address, tls)) as (plane, channel):
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        plane.until(lambda drained: drained.rows("attempts") >= 1)
        assert plane.drained.each("attempts")[0]["reason"] == "backend_error"
        words: str = caught.value.details()
        return words


def test_a_backend_is_called_over_tls(authority: Authority, folder: Path) -> None:
    """Messages of every size, both ways."""
    with (
        echo_server(authority.server(authority.issue("127.0.0.1"))) as server,
        called(server, files(folder)) as (_, channel),
    ):
        for size in (0, 1, 4096, 65_536, 3 << 20):
            assert len(unary(channel, b"x" * size)) == size
        stream = channel.stream_stream(f"{SERVICE}/PingPong")
        assert list(stream(iter([b"a", b"b", b"c"]), timeout=10)) == [b"a", b"b", b"c"]


def test_a_backend_that_wants_a_certificate_gets_it(authority: Authority, folder: Path) -> None:
    """mTLS towards the model server; without a certificate the words say what it wants."""
    pair = authority.issue("127.0.0.1")
    with echo_server(authority.server(pair, mutual=True)) as server:
        with running(untouched(server.address, files(folder, own="gateway"))) as (_, channel):
            assert unary(channel) == b"hello"
        assert fault(server.address, files(folder))


def test_a_name_of_another_host_is_refused_by_name(authority: Authority, folder: Path) -> None:
    """Both names stand in the words; `server_name` mends it."""
    with echo_server(authority.server(authority.issue("spam.acme.org"))) as server:
        words = fault(server.address, files(folder))
        assert 'certificate is not for "127.0.0.1" but for spam.acme.org' in words
        with running(untouched(server.address, files(folder, name="spam.acme.org"))) as (_, channel):
            assert unary(channel) == b"hello"


def test_each_fault_of_a_backends_certificate_has_its_words(authority: Authority, folder: Path) -> None:
    """An operator reads what to mend in the caller's error and in the report, not a number."""
    with echo_server(authority.server(authority.issue("127.0.0.1"))) as server:
        assert "signed by nobody that is trusted" in fault(server.address, files(folder, ca="other.crt"))
    with echo_server(authority.server(authority.issue("127.0.0.1", start_days=-9, end_days=-2))) as server:
        assert "certificate has expired" in fault(server.address, files(folder))
    with echo_server(authority.server(authority.issue("127.0.0.1", start_days=2))) as server:
        assert "certificate is not valid yet" in fault(server.address, files(folder))
    with echo_server() as server:
        assert "the server does not speak TLS" in fault(server.address, files(folder))


def test_plain_text_to_a_backend_with_tls_ends_at_once(authority: Authority) -> None:
    """A backend without `tls` in the settings that speaks it: a fault, no waiting."""
    with echo_server(authority.server(authority.issue("127.0.0.1"))) as server:
        assert fault(server.address, None)


@contextmanager
def tls_server_without_alpn(cert: str, key: str) -> Iterator[str]:
    """Shakes hands, agrees on no protocol, and says no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                    secure.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_a_backend_without_http2_is_told_apart(authority: Authority, folder: Path, tmp_path: Path) -> None:
    """A TLS server that agrees on no protocol is no gRPC server."""
    with tls_server_without_alpn(*authority.issue("127.0.0.1").write(tmp_path)) as address:
        assert "does not offer HTTP/2 by ALPN" in fault(address, files(folder))


def test_a_policy_with_faulty_files_does_not_replace_the_old(authority: Authority, folder: Path) -> None:
    """The fault says where in the document, and calls go on under the old policy."""
    with (
        echo_server(authority.server(authority.issue("127.0.0.1"))) as server,
        called(server, files(folder)) as (plane, channel),
    ):
        assert unary(channel) == b"hello"
        with pytest.raises(PolicyError) as caught:
            plane.publish(untouched(server.address, files(folder, ca="absent.crt")))
        (found,) = caught.value.args[0]
        assert found["path"] == ["backends", 0, "tls", "ca"]
        assert "absent.crt: there is no such file" in found["message"]
        assert unary(channel) == b"hello"


def test_a_start_with_faulty_files_is_refused(folder: Path) -> None:
    """No backend is ever called in plain text because its files were bad."""
    with pytest.raises(PolicyError):
        RunningPlane(untouched("127.0.0.1:1", files(folder, own="absent")))


def test_the_systems_trust_is_taken_where_none_is_named(
    authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tls: true`: what this machine trusts, which SSL_CERT_FILE may say."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with (
        echo_server(authority.server(authority.issue("127.0.0.1"))) as server,
        called(server, files(folder, ca=None)) as (_, channel),
    ):
        assert unary(channel) == b"hello"
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "other.crt"))
    with echo_server(authority.server(authority.issue("127.0.0.1"))) as server:
        assert "signed by nobody that is trusted" in fault(server.address, files(folder, ca=None))
