"""A backend's headers and trailers: whole up to the limit, a status that names the limit past it, never cut short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.wire import raw
from tests.wire.clients import infer_by_grpcio
from tests.wire.http2 import GRPC, Http2Server, Stream, answer_fully
from tests.wire.plane import document, model, route, running, static

LIMIT = 64 * 1024
OK = [("grpc-status", "0")]


def sized(total: int, fields: int, own: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """So many fields beside one's own that all of it takes `total` bytes as HTTP/2 counts them."""
    left = total - sum(len(name) + len(value) + 32 for name, value in own)
    each, rest = divmod(left, fields)
    sizes = [each + (rest if at == 0 else 0) for at in range(fields)]
    return [(f"x-{at:05}", "v" * (size - 7 - 32)) for at, size in enumerate(sizes)]


def block(stream: Stream, fields: list[tuple[str, str]], *, end: bool) -> bytes:
    """HEADERS and CONTINUATION. Written by hand: the library's encoder takes seconds for a megabyte."""
    text = raw.header_block(fields)
    parts = [text[at : at + 16_384] for at in range(0, len(text), 16_384)]
    kinds = [raw.HEADERS] + [raw.CONTINUATION] * (len(parts) - 1)
    frames = []
    for at, (kind, part) in enumerate(zip(kinds, parts, strict=True), 1):
        flags = (raw.END_HEADERS if at == len(parts) else 0) | (raw.END_STREAM if end and at == 1 else 0)
        frames.append(raw.frame(kind, flags, stream.id, part))
    return b"".join(frames)


def in_trailers(total: int, fields: int, *, status_last: bool = False) -> Callable[[Stream], None]:
    def behave(stream: Stream) -> None:
        extra = sized(total, fields, OK)
        stream.connection.send_headers(stream.id, GRPC)
        stream.connection.send_data(stream.id, stream.body)
        stream.raw += block(stream, [*extra, *OK] if status_last else [*OK, *extra], end=True)

    return behave


def in_headers(total: int, fields: int) -> Callable[[Stream], None]:
    def behave(stream: Stream) -> None:
        extra = sized(total, fields, GRPC[1:])  # `:status` is no field
        stream.raw += block(stream, [*GRPC, *extra], end=False)
        stream.raw += raw.frame(raw.DATA, 0, stream.id, stream.body) + block(stream, OK, end=True)

    return behave


def ask(address: str) -> tuple[grpc.StatusCode, str, int]:
    """Status, words, and how many bytes of what the backend added came, names and 32 bytes for each counted."""
    options = [("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
    with (
        running(document([model("odd", address)], [], default_backend="odd")) as (plane, _),
        grpc.insecure_channel(plane.address, options=options) as channel,
    ):
        try:
            _, call = channel.unary_unary("/test.Echo/Unary").with_call(b"x", timeout=10)
        except grpc.RpcError as error:
            call = error
        pairs = [*call.initial_metadata(), *call.trailing_metadata()]
        came = sum(len(key) + len(value) + 32 for key, value in pairs if key.startswith("x-0"))
        return call.code(), call.details(), came


@pytest.mark.parametrize("fields", [1, 2, 40])
@pytest.mark.parametrize(("where", "own"), [(in_headers, GRPC[1:]), (in_trailers, OK)])
def test_metadata_up_to_the_limit_come_whole(
    where: Callable[..., Any], own: list[tuple[str, str]], fields: int
) -> None:
    """64 KB as HTTP/2 counts them."""
    with Http2Server(where(LIMIT, fields)) as odd:
        code, _, came = ask(odd.address)
    assert code is grpc.StatusCode.OK
    assert came == LIMIT - sum(len(name) + len(value) + 32 for name, value in own)


@pytest.mark.parametrize("size", [LIMIT + 1, 70_000, 150_000, 240_000])
@pytest.mark.parametrize("fields", [1, 3, 60])
@pytest.mark.parametrize("status_last", [False, True])
def test_longer_trailers_fail_the_call_and_name_the_limit(size: int, fields: int, status_last: bool) -> None:
    """Never the part of them that fits, as if it were all."""
    with Http2Server(in_trailers(size, fields, status_last=status_last)) as odd:
        code, words, came = ask(odd.address)
    assert came == 0
    if size / fields < 150_000 and size < 150_000:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"wanted at most {LIMIT}" in words
    else:  # so long that the connection is given up
        assert code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("size", [LIMIT + 1, 70_000, 1_000_000])
def test_longer_headers_fail_the_call(size: int) -> None:
    with Http2Server(in_headers(size, 1)) as odd:
        code, words, came = ask(odd.address)
    assert came == 0
    if size < 100_000:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"wanted at most {LIMIT}" in words
    else:
        assert code is grpc.StatusCode.UNAVAILABLE


def test_a_route_falls_back_where_the_metadata_are_too_long() -> None:
    """And the next call on a new connection is as good as any."""
    long = [True]

    def behave(stream: Stream) -> None:
        if long:
            in_trailers(300_000, 1)(stream)
        else:
            answer_fully(stream, b"", {"grpc-status": "3"})

    with Http2Server(behave) as odd:
        policy = document([model("odd", odd.address), static()], [route(["odd", "ham"])])
        with running(policy) as (_, channel):
            assert infer_by_grpcio(channel, "spam").said["attempts"] == "odd:backend_error,ham:ok"
            long.clear()
            # The caller's own affair: nobody else is asked.
            assert infer_by_grpcio(channel, "spam").said["attempts"] == "odd:backend_error"
