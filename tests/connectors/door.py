"""A way to a server that can be shut: connections are carried through it, or refused and cut."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.wire.gateway_process import free_ports

__all__ = ["Door"]


class Door:
    """Listens on a port of its own while it is open."""

    def __init__(self, port: int) -> None:
        [self.port] = free_ports(1)
        self._to = port
        self._listening: socket.socket | None = None
        self._held: list[socket.socket] = []

    def open(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(32)
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def shut(self) -> None:
        """Refuse who comes, and cut who is inside."""
        listening, self._listening = self._listening, None
        held, self._held = self._held, []
        for one in [listening, *held]:
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = listening.accept()
                outside = socket.create_connection(("127.0.0.1", self._to))
                self._held += [inside, outside]
                for pair in ((inside, outside), (outside, inside)):
                    threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
