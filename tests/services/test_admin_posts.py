"""What the admin port takes: only where something is there to take it, and no more than is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.services.admin import MOST_BODY_BYTES, AdminServer, Post

TAKEN: list[bytes] = []


def refusal(headers: Mapping[str, str]) -> tuple[int, str] | None:
    return None if headers.get("x-word") == "Abc" else (403, "wanted the word")


def take(body: bytes) -> tuple[int, str]:
    TAKEN.append(body)
    return 202, "taken"


@asynccontextmanager
async def admin(folder: Path) -> AsyncIterator[str]:
    TAKEN.clear()
    server = AdminServer(
        "127.0.0.1:0",
        http_socket=str(folder / "http"),
        open_socket=str(folder / "open"),
        not_ready=lambda: None,
        metrics=lambda: b"",
        posts={"/hook": Post(refusal, take)},
    )
    yield await server.start()
    await server.stop()


async def ask(address: str, head: str, body: bytes = b"") -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    try:
        writer.write(body)
        await writer.drain()
        return (await reader.read()).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


async def test_a_post_is_handed_over_whole(tmp_path: Path) -> None:
    """With its headers in small letters, and what it answers goes back."""
    async with admin(tmp_path) as address:
        said = await ask(address, "POST /hook HTTP/1.1\r\nX-Word: Abc", b"b" * 100_000)
    assert said.startswith("HTTP/1.1 202")
    assert said.endswith("taken\n")
    assert [len(body) for body in TAKEN] == [100_000]


async def test_whoever_lacks_the_secret_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """Else anybody could have the gateway hold 4 MiB a connection, and wait for them."""
    async with admin(tmp_path) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /hook HTTP/1.1\r\nhost: x\r\nx-word: other\r\ncontent-length: 1000000\r\n\r\n")
        async with asyncio.timeout(5):  # of the body's ten; none of it was sent
            assert (await reader.readline()).startswith(b"HTTP/1.1 403")
        writer.close()
    assert TAKEN == []


async def test_what_is_too_long_is_refused(tmp_path: Path) -> None:
    """Nobody fills the gateway's memory by the admin port."""
    async with admin(tmp_path) as address:
        said = await ask(address, "POST /hook HTTP/1.1\r\nX-Word: Abc", b"b" * (MOST_BODY_BYTES + 1))
    assert said.startswith("HTTP/1.1 413") or said == "", "closed before it was all sent"
    assert TAKEN == []


async def test_nothing_else_takes_a_post_and_the_hook_takes_no_get(tmp_path: Path) -> None:
    """As before there were hooks."""
    async with admin(tmp_path) as address:
        assert (await ask(address, "POST /healthz HTTP/1.1", b"x")).startswith("HTTP/1.1 405")
        assert (await ask(address, "POST /other HTTP/1.1", b"x")).startswith("HTTP/1.1 405")
        assert (await ask(address, "GET /hook HTTP/1.1")).startswith("HTTP/1.1 404")
    assert TAKEN == []
