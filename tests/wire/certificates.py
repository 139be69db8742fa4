"""Certificates as a test wants them: whose, by whom, good from when till when, in files or not."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["SPIFFE", "Authority", "Pair", "swap"]

SPIFFE = "spiffe://acme/ns/prod/sa/web"
HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in PEM; `der` is the certificate alone."""

    cert: bytes
    key: bytes
    der: bytes

    def write(self, folder: Path, name: str = "tls") -> tuple[str, str]:
        """Put both into files; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        cert, key = folder / f"{name}.crt", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.touch(mode=0o600)
        key.write_bytes(self.key)
        return str(cert), str(key)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), -1, 365)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.cert = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start_days: float, end_days: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=start_days))
            .not_valid_after(now + datetime.timedelta(days=end_days))
        )

    def issue(self, *names: str, common: str = "", start_days: float = -1, end_days: float = 90) -> Pair:
        """A certificate for these alternative names: URIs, hosts, addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
        builder = self._builder(x509.Name(attributes), key.public_key(), start_days, end_days)
        if names:
            alternative = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternative, critical=not common)
        made = builder.sign(self._key, hashes.SHA256())
        return Pair(
            made.public_bytes(serialization.Encoding.PEM),
            _key_pem(key),
            made.public_bytes(serialization.Encoding.DER),
        )

    def write(self, folder: Path, name: str = "ca.crt") -> str:
        """Put the authority's certificate into a file; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(self.cert)
        return str(folder / name)

    def channel(
        self, address: str, pair: Pair | None = None, options: Sequence[tuple[str, object]] = ()
    ) -> grpc.Channel:
        """A secure channel that trusts this authority."""
        own = {} if pair is None else {"private_key": pair.key, "certificate_chain": pair.cert}
        credentials = grpc.ssl_channel_credentials(self.cert, **own)
        return grpc.secure_channel(address, credentials, options=list(options))

    def server(self, pair: Pair, *, mutual: bool = False) -> grpc.ServerCredentials:
        """Credentials of a grpcio server; with `mutual` callers need a certificate of this authority."""
        return grpc.ssl_server_credentials(
            [(pair.key, pair.cert)], self.cert if mutual else None, require_client_auth=mutual
        )


def swap(volume: Path, files: dict[str, bytes]) -> None:
    """Put files into a volume as Kubernetes does: a new folder, and one rename of the link `..data`.

    The volume's own entries are links into `..data`, so all files change at once.
    """
    volume.mkdir(parents=True, exist_ok=True)
    fresh = volume / f"..{len(list(volume.iterdir()))}"
    fresh.mkdir()
    for name, held in files.items():
        (fresh / name).write_bytes(held)
        (fresh / name).chmod(0o600)
    link = volume / "..data_tmp"
    link.symlink_to(fresh.name)
    os.replace(link, volume / "..data")
    for name in files:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(Path("..data") / name)
