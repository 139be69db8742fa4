"""Peers that send what costs them nothing: the connection is closed with a word, memory stays, others are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import hpack
import pytest

from tests.wire import raw
from tests.wire.attacked import Attacked, unharmed
from tests.wire.echo import EchoServer
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.raw import CALM, Raw, frame, request_block

MANY = 200_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with EchoServer(workers=64) as server:
        settings = {
            "backends": {"echo": {"grpc": server.address, "max_in_flight": 100_000}},
            "default_backend": "echo",
        }
        with (
            GatewayProcess(tmp_path_factory.mktemp("attack"), settings) as process,
            grpc.insecure_channel(process.address) as channel,
        ):
            made = Attacked(process, channel)
            for _ in range(200):
                made.ask()
            yield made


@pytest.fixture(name="unharmed")
def not_harmed(gateway: Attacked) -> Iterator[Attacked]:
    """Memory before and after, and a call beside and after the attack."""
    with unharmed(gateway):
        yield gateway


HEADER_BLOCK = request_block()
OPEN = frame(raw.HEADERS, raw.END_HEADERS, 1, HEADER_BLOCK)

FLOODS = {
    "settings": (b"", frame(raw.SETTINGS)),
    "settings that change windows": (
        OPEN,
        frame(raw.SETTINGS, 0, 0, b"\0\4\0\1\0\0") + frame(raw.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"),
    ),
    "priority": (b"", frame(raw.PRIORITY, 0, 1, b"\0\0\0\3\1")),
    "windows": (b"", frame(raw.WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "answers to pings": (b"", frame(raw.PING, raw.ACK, 0, bytes(8))),
    "unknown frames": (b"", frame(0xFA, 0, 0, b"x")),
    "data shorter than a message's head": (OPEN, frame(raw.DATA, 0, 1, b"\0")),
    "empty data": (OPEN, frame(raw.DATA, 0, 1)),
    "padding alone": (OPEN, frame(raw.DATA, 8, 1, b"\0")),
    "empty continuations": (
        frame(raw.HEADERS, 0, 1, HEADER_BLOCK),
        frame(raw.CONTINUATION, 0, 1),
    ),
    "continuations": (
        frame(raw.HEADERS, 0, 1, HEADER_BLOCK),
        frame(raw.CONTINUATION, 0, 1, b"\0\1x\1y" * 200),
    ),
    "trailers that never end": (
        OPEN + frame(raw.HEADERS, raw.END_STREAM, 1, b"\0\1x\1y"),
        frame(raw.CONTINUATION, 0, 1, b"\0\1x\1y"),
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_answered_by_one_word(unharmed: Attacked, name: str) -> None:
    """ENHANCE_YOUR_CALM, and no more than some thousand frames are looked at."""
    before, piece = FLOODS[name]
    with Raw(unharmed.process.address) as peer:
        peer.send(before)
        peer.flood(piece, MANY)
        assert peer.goaway().code == CALM


def test_pings_past_grpcs_rule_are_too_many(unharmed: Attacked) -> None:
    """gRPC's clients know the words, and ping half as often from then on."""
    with Raw(unharmed.process.address) as peer:
        # What the other side sends makes a ping welcome: its greeting has to be over.
        assert any(came.kind == raw.SETTINGS and came.flags == raw.ACK for came in peer.frames())
        for _ in range(4):
            assert peer.send(frame(raw.PING, 0, 0, bytes(8)))
        goaway = peer.goaway()
        assert (goaway.code, goaway.words) == (CALM, b"too_many_pings")
        assert list(peer.frames()) == []
        assert peer.closed, "the connection ends, and not by a reset"


def test_rapid_reset_is_stopped_soon(unharmed: Attacked) -> None:
    """CVE-2023-44487: streams that are opened and reset at once, for which each backend would be asked."""
    with Raw(unharmed.process.address) as peer:
        for first in range(1, 100_000, 1000):
            streams = range(first, first + 1000, 2)
            burst = b"".join(
                frame(raw.HEADERS, raw.END_HEADERS, stream, HEADER_BLOCK)
                + frame(raw.RST_STREAM, 0, stream, b"\0\0\0\x08")
                for stream in streams
            )
            if not peer.send(burst):
                break
        assert peer.goaway().code == CALM


def test_rapid_reset_of_calls_that_were_taken_up_is_stopped_as_well(unharmed: Attacked) -> None:
    """Each call has reached the backend and is answered when it is reset, so that `h2` counts none of them."""
    ping_pong = request_block("/test.Echo/PingPong")
    message = b"\0\0\0\0\1x"
    with Raw(unharmed.process.address) as peer:
        for first in range(1, 40_000, 32):
            streams = range(first, first + 32, 2)
            opened = peer.send(
                b"".join(
                    frame(raw.HEADERS, raw.END_HEADERS, stream, ping_pong)
                    + frame(raw.DATA, 0, stream, message)
                    for stream in streams
                )
            )
            waiting = set(streams)
            goaway = None
            for came in peer.frames() if opened else ():
                waiting -= {came.stream} if came.kind == raw.DATA else set()
                goaway = came if came.kind == raw.GOAWAY else None
                if goaway or not waiting:
                    break
            if goaway or not opened or waiting:
                break
            peer.send(b"".join(frame(raw.RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in streams))
        assert goaway is not None
        assert (goaway.code, goaway.words) == (CALM, b"too_many_resets")


def test_an_hpack_bomb_is_not_unpacked(unharmed: Attacked) -> None:
    """A header of 4 KB in the table, named by one byte 16,000 times: 64 MB for 16 KB."""
    encoder = hpack.Encoder()
    first = encoder.encode([("x-bomb", "b" * 4000)])
    bomb = HEADER_BLOCK + first + b"\xbe" * 12_000
    with Raw(unharmed.process.address) as peer:
        peer.send(frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, 1, bomb))
        goaway = peer.goaway()
        assert goaway.code == CALM


def test_metadata_up_to_the_limit_passes_and_above_it_is_refused(unharmed: Attacked) -> None:
    """64 KB as HTTP/2 counts them; the call beyond gets HTTP's own status for it, and the connection lives."""
    with Raw(unharmed.process.address) as peer:
        for stream, size in ((1, 63_000), (3, 66_000)):
            block = request_block("/test.Echo/Unary", ("x-long", "v" * size))
            parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
            peer.send(frame(raw.HEADERS, raw.END_STREAM, stream, parts[0]))
            for at, part in enumerate(parts[1:], 2):
                peer.send(frame(raw.CONTINUATION, raw.END_HEADERS if at == len(parts) else 0, stream, part))
        statuses = {}
        for came in peer.frames(5):
            if came.kind == raw.HEADERS and came.stream not in statuses:
                statuses[came.stream] = dict(hpack.Decoder().decode(came.payload)).get(":status")
            assert came.kind != raw.GOAWAY
            if len(statuses) == 2:
                break
    assert statuses == {1: "200", 3: "431"}


def test_streams_past_the_limit_are_refused_and_the_rest_go_on(unharmed: Attacked) -> None:
    """10,000 streams on one connection: 1,024 are taken, as many refused, to be tried elsewhere; then it is ended."""
    hang = request_block("/test.Echo/PingPong")
    refused: set[int] = set()
    ended = None
    with Raw(unharmed.process.address) as peer:
        for stream in range(1, 20_001, 2):
            if not peer.send(frame(raw.HEADERS, raw.END_HEADERS, stream, hang)):
                break
        for came in peer.frames(5):
            if came.kind == raw.RST_STREAM:
                assert came.code == 7
                refused.add(came.stream)
            if came.kind == raw.GOAWAY:
                ended = came
                break
        assert unharmed.ask() == b"still"
    assert ended is not None
    assert ended.code == CALM
    assert min(refused) == 2 * 1024 + 1, "the first 1,024 streams are the limit's"
    assert 1000 <= len(refused) <= 1024


def test_limits_of_the_settings_are_the_listeners(tmp_path: Path) -> None:
    """As `gateway serve` hands them on."""
    settings = {"backends": {"none": {"grpc": "127.0.0.1:1"}}, "default_backend": "none"}
    process = GatewayProcess(tmp_path, settings)
    listen = {"inference": process.address, "admin": process.admin}
    process.write(settings | {"listen": listen | {"limits": {"streams": 7, "keepalive_s": 0.3}}})
    with process, Raw(process.address) as peer:
        came = peer.until(raw.SETTINGS)
        assert came is not None
        assert b"\0\3\0\0\0\7" in came.payload
        assert peer.until(raw.PING) is not None


def test_an_ordinary_keepalive_is_no_attack(tmp_path: Path) -> None:
    """Pings no oftener than the rule says go on for ever, without a call or a byte in between."""
    settings = {"backends": {"none": {"grpc": "127.0.0.1:1"}}, "default_backend": "none"}
    process = GatewayProcess(tmp_path, settings)
    listen = {"inference": process.address, "admin": process.admin}
    process.write(settings | {"listen": listen | {"limits": {"ping_interval_s": 0.1, "ping_strikes": 0}}})
    ping, pause = frame(raw.PING, 0, 0, bytes(8)), threading.Event()
    with process, Raw(process.address) as peer:
        for _ in range(15):
            assert not pause.wait(0.15)
            assert peer.send(ping)
            answer = peer.until(raw.PING)
            assert answer is not None
            assert answer.flags == raw.ACK
        # One that comes at once is too many: the rule was in force.
        assert peer.send(ping)
        assert peer.goaway().words == b"too_many_pings"


def test_what_was_closed_is_counted(gateway: Attacked) -> None:
    """By reason, as everything that is dropped."""
    for reason in ("control_frames", "pings", "resets", "protocol"):
        until(lambda reason=reason: gateway.metric(reason) > 0, f"{reason} in the metrics")
