"""The hash by which a unit stands in records: `xxh3_64(salt || unit)`, as the data plane makes it.

Made here a second time, for looking units up; a test holds it to what a real gateway recorded.
"""

from __future__ import annotations

__all__ = ["unit_hash"]


def unit_hash(salt_hex: str, unit: str) -> int:
    """A unit's hash as the ledger keeps it: signed, as databases have no unsigned numbers."""
    import xxhash

    found = xxhash.xxh3_64_intdigest(bytes.fromhex(salt_hex) + unit.encode())
    return found - 2**64 if found >= 2**63 else found
