"""Where control is: one channel to each of its addresses, and which of them is talked to now.

gRPC balances calls by itself, but a sidecar has two long ones; so it stays with one control and goes to the next when
that fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

MOST_POLICY_BYTES: Final = 16 * 1024 * 1024
"""Of what control says: a policy with its lists. What it takes has gRPC's usual bound."""

__all__ = ["Controls", "Trust"]

OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),  # a control that vanished without a word is found within 15 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MOST_POLICY_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


@dataclass(frozen=True, slots=True)
class Trust:
    """How control is known and how the sidecar makes itself known: PEM texts, and a token."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    token: str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call of the sidecar's own carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


class Controls:
    """Channels, from the first call until `close`.

    Args: addresses: HOST:PORT or unix:/path, at least one.
    """

    def __init__(self, addresses: Sequence[str], trust: Trust) -> None:
        self.trust = trust
        self._addresses = tuple(addresses)
        self._channels = [self._channel(address) for address in self._addresses]
        self._at = 0

    def now(self) -> tuple[int, Any]:
        """The control that is talked to: its number, for `failed`, and the channel."""
        return self._at, self._channels[self._at]

    def address(self, at: int) -> str:
        """For logs."""
        return self._addresses[at]

    def failed(self, at: int) -> None:
        """Go to the next one, unless somebody has already."""
        if at == self._at:
            self._at = (at + 1) % len(self._channels)

    async def close(self) -> None:
        """Ends what is under way."""
        for channel in self._channels:
            await channel.close()

    def _channel(self, address: str) -> Any:
        if self.trust.ca is None:
            return grpc.aio.insecure_channel(address, OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.trust.ca, self.trust.key, self.trust.cert)
        return grpc.aio.secure_channel(address, credentials, OPTIONS)
