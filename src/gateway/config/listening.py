"""What callers may ask of the listener: limits by connection and by worker."""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar

from pydantic import Field

from gateway.config.fields import Block, Count, Number

__all__ = ["ListenLimits", "is_loopback"]

Seconds = Annotated[Number, Field(gt=0, le=86_400)]


class ListenLimits(Block):
    """What callers may ask of the listener; docs/limits.md says what happens past each."""

    usual: ClassVar[str] = "{calls: 16384, streams: 1024}"

    connections: Count = Field(8192, description="connections that one worker holds; more are closed")
    calls: Count = Field(
        16_384, description="calls under way on one worker; more get RESOURCE_EXHAUSTED at once"
    )
    streams: Annotated[Count, Field(le=65_536)] = Field(
        1024, description="calls under way on one connection; more are refused, to be tried elsewhere"
    )
    header_bytes: Annotated[Count, Field(ge=4096, le=16_777_216)] = Field(
        65_536, description="metadata of a call, as HTTP/2 counts it: names, values and 32 bytes for each"
    )
    handshake_s: Seconds = Field(10.0, description="how long a peer may take to begin HTTP/2")
    keepalive_s: Seconds = Field(60.0, description="how long a caller may be silent before it is pinged")
    keepalive_timeout_s: Seconds = Field(20.0, description="how long it may take to answer that")
    ping_interval_s: Seconds = Field(
        10.0, description="a caller's pings that come sooner, with nothing sent in between, are strikes"
    )
    ping_strikes: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        2, description="strikes past this close the connection as too_many_pings"
    )

    def document(self) -> dict[str, int]:
        """As the data plane takes them: milliseconds for seconds."""
        return {
            f"{name[:-2]}_ms" if name.endswith("_s") else name: round(
                value * (1000 if name.endswith("_s") else 1)
            )
            for name, value in self.model_dump().items()
        }


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
