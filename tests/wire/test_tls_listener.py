"""Callers over TLS: who comes in, who does not and how it hears of it, and what the gateway knows of it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.wire.certificates import SPIFFE, Authority, Pair
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.plane import RunningPlane, document, model, route, running, static

UNARY = f"{SERVICE}/Unary"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def folder(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority.issue("localhost", "127.0.0.1").write(folder)
    authority.write(folder)
    return folder


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def tls(folder: Path, *, mutual: bool = False) -> dict[str, str | None]:
    client_ca = str(folder / "ca.crt") if mutual else None
    return {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key"), "client_ca": client_ca}


def untouched(echo: EchoServer, **changes: object) -> dict[str, object]:
    return document([model("echo", echo.address)], default_backend="echo", **changes)


def unary(channel: grpc.Channel, body: bytes = b"hello", **more: object) -> bytes:
    answer: bytes = channel.unary_unary(UNARY)(body, timeout=WAIT_S, **more)
    return answer


def refused(channel: grpc.Channel) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel)
    return caught.value


def test_calls_of_every_size_pass_through_tls(authority: Authority, folder: Path, echo: EchoServer) -> None:
    """The cork, TLS records and windows each cut elsewhere: nothing is lost between them."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with (
        running(untouched(echo), tls=tls(folder)) as (plane, _),
        authority.channel(plane.address, options=options) as channel,
    ):
        for size in (0, 1, 255, 4096, 16_384 + 1, 65_535, 65_536, 1 << 20, 5 << 20):
            assert len(unary(channel, b"x" * size)) == size
        stream = channel.stream_stream(f"{SERVICE}/PingPong")
        sent = [bytes([number]) * number for number in range(200)]
        assert list(stream(iter(sent), timeout=WAIT_S)) == sent


def test_many_calls_at_once_over_one_tls_connection(
    authority: Authority, folder: Path, echo: EchoServer
) -> None:
    """Ciphertext that the kernel has no room for is written later, not forgotten."""
    with (
        running(untouched(echo), tls=tls(folder)) as (plane, _),
        authority.channel(plane.address) as channel,
    ):
        calls = [
            channel.unary_unary(UNARY).future(bytes([number]) * 200_000, timeout=30) for number in range(64)
        ]
        assert [call.result()[:1] for call in calls] == [bytes([number]) for number in range(64)]


def test_a_caller_without_certificate_does_not_come_in(
    authority: Authority, folder: Path, echo: EchoServer
) -> None:
    """mTLS asks everybody; who has nothing to show, or something of another authority, is counted and told so."""
    stranger = Authority("stranger").issue("spiffe://acme/ns/prod/sa/web")
    with running(untouched(echo), tls=tls(folder, mutual=True)) as (plane, _):
        for pair in (None, stranger, authority.issue(SPIFFE, start_days=-9, end_days=-2)):
            before = plane.dataplane.counters()["dropped.connection.client_certificate"]
            with authority.channel(plane.address, pair) as channel:
                assert refused(channel).code() == grpc.StatusCode.UNAVAILABLE
            plane.counted("dropped.connection.client_certificate", before + 1)
        with authority.channel(plane.address, authority.issue(SPIFFE)) as channel:
            assert unary(channel) == b"hello"


def test_a_server_that_the_caller_does_not_trust_gets_no_call(folder: Path, echo: EchoServer) -> None:
    """The caller's own check, and one more handshake that came to nothing."""
    with running(untouched(echo), tls=tls(folder)) as (plane, _):
        with Authority("other").channel(plane.address) as channel:
            assert refused(channel).code() == grpc.StatusCode.UNAVAILABLE
        plane.counted("dropped.connection.handshake")


ALLOWED = ["spiffe://acme/ns/prod/*", "batch.acme.org"]


@pytest.mark.parametrize(
    ("pair", "allowed", "words"),
    [
        (("spiffe://acme/ns/prod/sa/web",), True, ""),
        (("batch.acme.org", "x.acme.org"), True, ""),
        (("spiffe://acme/ns/test/sa/web",), False, "spiffe://acme/ns/test/sa/web is not among those"),
        (("10.1.2.3",), False, "a client certificate with a name is needed"),
    ],
    ids=["pattern", "second kind", "other namespace", "no name"],
)
def test_only_those_that_may_call_are_heard(
    authority: Authority, folder: Path, echo: EchoServer, pair: tuple[str, ...], allowed: bool, words: str
) -> None:
    """A name that is not allowed ends in PERMISSION_DENIED with words, and no backend hears of the call."""
    policy = untouched(echo, allow=ALLOWED)
    with (
        running(policy, tls=tls(folder, mutual=True)) as (plane, _),
        authority.channel(plane.address, authority.issue(*pair)) as channel,
    ):
        if allowed:
            assert unary(channel) == b"hello"
            return
        seen = len(echo.metadata)
        error = refused(channel)
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert words in error.details()
        assert len(echo.metadata) == seen
        assert plane.counted("dropped.call.not_allowed") == 1


def test_a_common_name_does_not_pass_for_a_spiffe_id(
    authority: Authority, folder: Path, echo: EchoServer
) -> None:
    """Free text of a certificate is no name of another kind; it counts only where there is no alternative name."""
    forged = authority.issue(common="spiffe://acme/ns/prod/sa/web")
    beside = authority.issue("other.acme.org", common="batch.acme.org")
    plain = authority.issue(common="batch.acme.org")
    with running(untouched(echo, allow=ALLOWED), tls=tls(folder, mutual=True)) as (plane, _):
        for pair, code in ((forged, "PERMISSION_DENIED"), (beside, "PERMISSION_DENIED"), (plain, None)):
            with authority.channel(plane.address, pair) as channel:
                if code is None:
                    assert unary(channel) == b"hello"
                else:
                    assert refused(channel).code().name == code


def test_who_may_call_changes_with_the_policy(authority: Authority, folder: Path, echo: EchoServer) -> None:
    """No restart, and no new connection."""
    with (
        running(untouched(echo, allow=["nobody"]), tls=tls(folder, mutual=True)) as (plane, _),
        authority.channel(plane.address, authority.issue(SPIFFE)) as channel,
    ):
        assert refused(channel).code() == grpc.StatusCode.PERMISSION_DENIED
        plane.publish(untouched(echo, allow=[SPIFFE]))
        assert unary(channel) == b"hello"


def test_rules_and_units_see_the_certificate_and_never_metadata(
    authority: Authority, folder: Path, echo: EchoServer
) -> None:
    """`caller.id` decides, the unit is the certificate's, and what a caller writes into metadata changes neither."""
    rule = {
        "name": "web-only",
        "on": "request",
        "when": f'caller.id != "{SPIFFE}" || !("web.acme.org" in caller.names)',
        "then": {"kind": "reject", "status": "PERMISSION_DENIED", "message": "web only"},
    }
    echoed = route(
        ["echo"],
        name="echo",
        match={"model": None, "method": f"{SERVICE}/*", "metadata": {}},
        prediction=None,
        check=None,
        confidence=None,
        rules=[rule],
    )
    echoed["check"] = {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None}
    policy = document(
        [model("echo", echo.address), static()],
        [echoed],
        identity={"unit": {"caller": "id"}, "segments": [{"name": "who", "from": {"caller": "id"}}]},
    )
    lie = (("caller.id", SPIFFE), ("x-forwarded-client-cert", f"URI={SPIFFE}"), ("gateway-unit", "someone"))
    with (
        running(policy, tls=tls(folder, mutual=True)) as (plane, _),
        authority.channel(plane.address, authority.issue(SPIFFE, "web.acme.org")) as channel,
    ):
        unary(channel)
        unary(channel, metadata=lie)
        assert "x-forwarded-client-cert" not in dict(echo.metadata[-1])
        with authority.channel(plane.address, authority.issue("spiffe://acme/evil")) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                unary(channel, metadata=lie)
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        first, second, third = plane.records(3)
        assert first["unit"] == second["unit"] != third["unit"]
        assert first["segment"] == f"who={SPIFFE}"
        assert third["segment"] == "who=spiffe://acme/evil"


def test_a_plain_gateway_passes_a_proxys_word_on(echo: EchoServer) -> None:
    """Without TLS of its own the gateway stands behind a proxy, whose word for the caller is not its to take away."""
    with running(untouched(echo)) as (_, channel):
        unary(channel, metadata=(("x-forwarded-client-cert", "URI=x"),))
    assert dict(echo.metadata[-1])["x-forwarded-client-cert"] == "URI=x"


def _until_closed(plain: socket.socket) -> bytes:
    held = b""
    plain.settimeout(WAIT_S)
    while piece := plain.recv(4096):
        held += piece
    return held


def test_plain_text_to_the_tls_port_is_told_so(folder: Path, echo: EchoServer) -> None:
    """An insecure channel fails at once, a browser reads why, and garbage is closed on."""
    with running(untouched(echo), tls=tls(folder)) as (plane, channel):
        start = time.monotonic()
        error = refused(channel)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "http1.x server" in error.details()
        assert time.monotonic() - start < WAIT_S / 2
        host, _, port = plane.address.rpartition(":")
        for sent, wanted in (
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"this port speaks TLS only"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
            (b"\x00\x01garbage", b""),
        ):
            with socket.create_connection((host, int(port))) as plain:
                plain.sendall(sent)
                held = _until_closed(plain)
                assert wanted in held
                assert bool(held) == bool(wanted)
        plane.counted("dropped.connection.plain_text", 4)


def test_tls_to_a_plain_port_ends_at_once(authority: Authority, echo: EchoServer) -> None:
    """No caller waits for its deadline because of a wrong scheme."""
    with running(untouched(echo)) as (plane, _), authority.channel(plane.address) as channel:
        start = time.monotonic()
        assert refused(channel).code() == grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - start < WAIT_S / 2


def _connect(context: ssl.SSLContext, address: str) -> ssl.SSLSocket:
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=WAIT_S)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except OSError:
        plain.close()
        raise


def _speak(authority: Authority, address: str, alpn: list[str] | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=authority.cert.decode())
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return _connect(context, address)


def test_http2_must_be_agreed_on(authority: Authority, folder: Path, echo: EchoServer) -> None:
    """ALPN h2 or nothing: with another protocol the handshake fails, without any the caller reads why."""
    with running(untouched(echo), tls=tls(folder)) as (plane, _):
        with pytest.raises(ssl.SSLError, match="alert no application protocol"):
            _speak(authority, plane.address, ["http/1.1"])
        for sent, wanted in (
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"this port wants HTTP/2, agreed on by ALPN (h2)"),
            (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        ):
            with _speak(authority, plane.address, None) as secure:
                secure.sendall(sent)
                assert wanted in _until_closed(secure)
        plane.counted("dropped.connection.no_alpn", 3)
        with _speak(authority, plane.address, ["h2"]) as secure:
            assert secure.selected_alpn_protocol() == "h2"
            assert secure.version() == "TLSv1.3"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2_is_spoken_and_nothing_older(authority: Authority, folder: Path, echo: EchoServer) -> None:
    """1.2 for old clients; what is broken is refused."""
    with running(untouched(echo), tls=tls(folder)) as (plane, _):
        context = ssl.create_default_context(cadata=authority.cert.decode())
        context.set_alpn_protocols(["h2"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with _connect(context, plane.address) as secure:
            assert secure.version() == "TLSv1.2"
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(OSError, match=r"(?i)alert|no protocols available"):
            _connect(context, plane.address)


def test_a_handshake_that_never_ends_is_ended(folder: Path, echo: EchoServer) -> None:
    """A peer that opens connections and says nothing, or half a hello, holds nothing for long."""
    with running(untouched(echo), tls=tls(folder)) as (plane, _):
        host, _, port = plane.address.rpartition(":")
        start = time.monotonic()
        with (
            socket.create_connection((host, int(port))) as silent,
            socket.create_connection((host, int(port))) as slow,
        ):
            slow.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert _until_closed(silent) == _until_closed(slow) == b""
        assert 3 < time.monotonic() - start < WAIT_S
        plane.counted("dropped.connection.handshake_timeout", 2)


def test_options_that_cannot_serve_are_refused(folder: Path, echo: EchoServer) -> None:
    """A data plane without its certificate does not start as a plain one."""
    absent = {**tls(folder), "key": str(folder / "absent.key")}
    with pytest.raises(ValueError, match=r"absent\.key: there is no such file"):
        RunningPlane(untouched(echo), tls=absent)
    with pytest.raises(ValueError, match="TLS on a unix socket"):
        RunningPlane(untouched(echo), tls=tls(folder), inference="unix:/tmp/never.sock")


def test_a_key_of_another_certificate_is_refused(
    authority: Authority, tmp_path: Path, echo: EchoServer
) -> None:
    """Both were written, not together."""
    cert, _ = authority.issue("localhost").write(tmp_path, "one")
    _, key = authority.issue("localhost").write(tmp_path, "two")
    with pytest.raises(ValueError, match="it is not the key of the certificate"):
        RunningPlane(untouched(echo), tls={"cert": cert, "key": key, "client_ca": None})


def test_a_pair_is_what_it_says(authority: Authority) -> None:
    """The helper itself."""
    pair: Pair = authority.issue("a.b")
    assert ssl.PEM_cert_to_DER_cert(pair.cert.decode()) == pair.der
