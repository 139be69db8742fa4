"""The port on which control serves a fleet, in plain text or by TLS."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

import grpc

from gateway.config.tls import ListenTls

__all__ = ["Port"]


@dataclass(frozen=True, slots=True)
class Port:
    """`address`: HOST:PORT or unix:/path. `cert`, `key`, `client_ca`: PEM files; without `cert` plain text."""

    address: str
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None

    @classmethod
    def of(cls, address: str, tls: ListenTls | None) -> Port:
        """As the settings say."""
        return cls(address) if tls is None else cls(address, tls.cert, tls.key, tls.client_ca)

    def add_to(self, server: grpc.aio.Server) -> str:
        """Returns: the address really bound. Raises: OSError, with the address or file."""
        try:
            if self.cert is None or self.key is None:
                bound = server.add_insecure_port(self.address)
            else:
                bound = server.add_secure_port(self.address, self._credentials(self.cert, self.key))
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {self.address}: {error}") from error
        if self.address.startswith("unix:"):
            return self.address
        return f"{self.address.rpartition(':')[0]}:{bound}"

    def _credentials(self, cert: str, key: str) -> grpc.ServerCredentials:
        """The files are read again when they change: gRPC asks before each handshake."""

        def read() -> grpc.ServerCertificateConfiguration:
            root = None if self.client_ca is None else Path(self.client_ca).read_bytes()
            pair = (Path(key).read_bytes(), Path(cert).read_bytes())
            return grpc.ssl_server_certificate_configuration([pair], root_certificates=root)

        used = read()

        def fetch() -> grpc.ServerCertificateConfiguration:
            nonlocal used
            with contextlib.suppress(OSError):  # those in use stay
                used = read()
            return used

        return grpc.dynamic_ssl_server_credentials(
            used, fetch, require_client_authentication=self.client_ca is not None
        )
