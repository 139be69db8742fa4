"""A name server of a test's own: one UDP socket on loopback, answering what the test says."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from types import TracebackType

__all__ = ["NameServer"]

A, AAAA, IN = 1, 28, 1
NXDOMAIN, SERVFAIL = 3, 2
QUESTION_AT = 12


class NameServer:
    """Answers A and AAAA of every name with `addresses`; `code` makes it fail. `asked` counts questions by type."""

    def __init__(self, *addresses: str, ttl_s: int = 0) -> None:
        self.addresses = list(addresses)
        self.ttl_s = ttl_s
        self.code = 0
        self.asked = {A: 0, AAAA: 0}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, sender = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(query), sender)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes:
        end = query.index(0, QUESTION_AT) + 5
        kind = struct.unpack(">H", query[end - 4 : end - 2])[0]
        self.asked[kind] = self.asked.get(kind, 0) + 1
        version = {A: 4, AAAA: 6}.get(kind)
        found = [ipaddress.ip_address(text) for text in self.addresses if not self.code]
        records = b"".join(
            # A pointer to the question's name.
            struct.pack(">HHHIH", 0xC000 | QUESTION_AT, kind, IN, self.ttl_s, len(address.packed))
            + address.packed
            for address in found
            if address.version == version
        )
        count = sum(address.version == version for address in found)
        head = query[:2] + struct.pack(">HHHHH", 0x8580 | self.code, 1, count, 0, 0)
        return head + query[QUESTION_AT:end] + records
