"""The last policy on disk: a sidecar that starts while control is away serves by it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from google.protobuf.message import DecodeError

from gateway.v1 import fleet_pb2

__all__ = ["KeptPolicy", "digest"]


class KeptPolicy:
    """A file that only this user reads, as it holds the salt and the receipt keys."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> fleet_pb2.FleetPolicy | None:
        """The policy; None where there is none, or the file is damaged."""
        with contextlib.suppress(OSError, DecodeError):
            policy = fleet_pb2.FleetPolicy.FromString(self._file.read_bytes())
            if policy.version and policy.hash == digest(policy.document, policy.serving):
                return policy
        return None

    def write(self, policy: fleet_pb2.FleetPolicy) -> None:
        """Raises: OSError; then the old one stays."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(policy.SerializeToString())
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self._file)


def digest(document: str, serving: str) -> bytes:
    """What a `FleetPolicy` is known by besides its version."""
    return hashlib.sha256(f"{document}\0{serving}".encode()).digest()
