"""Who never reads: a caller that takes nothing, callers without windows, a backend that takes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.wire import raw
from tests.wire.attacked import Attacked, unharmed
from tests.wire.echo import SERVICE, EchoServer
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.raw import Raw, call, grown_bytes, initial_window, rss_bytes, window

MEGABYTE = 1 << 20
LARGEST = 0x7FFFFFFF
FLOOD = f"{SERVICE}/Flood"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """One that loses patience soon."""
    with EchoServer(workers=80) as server:
        settings = {"backends": {"echo": {"grpc": server.address}}, "default_backend": "echo"}
        process = GatewayProcess(tmp_path_factory.mktemp("readers"), settings)
        listen = {"inference": process.address, "admin": process.admin}
        process.write(
            settings | {"listen": listen | {"limits": {"keepalive_s": 2, "keepalive_timeout_s": 2}}}
        )
        with process, grpc.insecure_channel(process.address) as channel:
            made = Attacked(process, channel)
            for _ in range(50):
                made.ask(bytes(100_000))
            yield made


def test_a_caller_that_never_reads_costs_no_more_than_its_buffers(gateway: Attacked) -> None:
    """All windows open, 60 answers of 64 MB each, and not one byte read: the socket is full, then calls wait."""
    with unharmed(gateway, 48 * MEGABYTE), Raw(gateway.process.address, initial_window(LARGEST)) as peer:
        before = rss_bytes(gateway.process.pid)
        peer.send(window(0, LARGEST - 65535))
        peer.send(b"".join(call(stream, FLOOD, b"1000") for stream in range(1, 121, 2)))
        until(lambda: gateway.metric("gateway_in_flight") >= 60, "the calls are under way")
        assert gateway.ask(bytes(1_000_000)) == bytes(1_000_000)
        closed = ("stalled", "silent")
        until(lambda: sum(map(gateway.metric, closed)) > 0, "the connection is given up")
        assert grown_bytes(before, gateway.process.pid) < 48 * MEGABYTE
        until(lambda: gateway.metric("gateway_in_flight") == 0, "the calls are given up")


def test_callers_without_windows_stop_no_other_stream_of_the_backends_connection(gateway: Attacked) -> None:
    """Each holds a stream's window; together they must not hold the connection's, which all calls share."""
    with unharmed(gateway, 48 * MEGABYTE), Raw(gateway.process.address, initial_window(0)) as peer:
        peer.send(b"".join(call(stream, FLOOD, b"1000") for stream in range(1, 81, 2)))
        headers = (came for came in peer.frames() if came.kind == raw.HEADERS)
        assert len([next(headers) for _ in range(40)]) == 40
        for _ in range(3):
            assert gateway.ask(bytes(1_000_000)) == bytes(1_000_000)


def test_tiny_messages_to_a_backend_that_never_reads_cost_their_bytes(gateway: Attacked) -> None:
    """All that 40 streams take, in frames of six bytes: what is kept for a repeat counts with its upkeep."""
    deaf = raw.request_block(f"{SERVICE}/Deaf")
    streams = range(1, 81, 2)
    with unharmed(gateway, 48 * MEGABYTE), Raw(gateway.process.address) as peer:
        peer.send(b"".join(raw.frame(raw.HEADERS, raw.END_HEADERS, stream, deaf) for stream in streams))
        tiny = raw.message(b"x")
        for stream in streams:
            # As many as the stream's window takes: 256 KiB.
            assert peer.send(raw.frame(raw.DATA, 0, stream, tiny) * (262_144 // len(tiny)))
        assert gateway.ask(bytes(100_000)) == bytes(100_000)


def test_a_backend_that_never_reads_holds_up_its_own_calls_alone(gateway: Attacked) -> None:
    """And their deadline ends them: that the write upstream is blocked must not stop the clock."""
    with unharmed(gateway, 48 * MEGABYTE):
        deaf = gateway.channel.stream_unary(f"{SERVICE}/Deaf")
        calls = [deaf.future((bytes(65536) for _ in range(200)), timeout=1.5) for _ in range(20)]
        assert gateway.ask(bytes(1_000_000)) == bytes(1_000_000)
        codes = {each.exception().code() for each in calls}
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
