"""Receipts are read where they are written: in the data plane, so that there is one form and one comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway import errors
from gateway._dataplane import ReceiptError as Unreadable
from gateway._dataplane import verify_receipt as verify

__all__ = ["verify_receipt"]


def verify_receipt(receipt: str, keys: Sequence[bytes]) -> Mapping[str, Any]:
    """The fields of a receipt that one of the keys signed.

    Returns: id (16 bytes), time_ms, policy, route, backend, segment, arm and propensity (None and 1 where nothing was
        explored), and rows: score, flagged, sampled, outcome, class, review_pi each.
    Raises: ReceiptError, its kind one of malformed, foreign (no such key), forged.
    """
    try:
        return verify(receipt, list(keys))
    except Unreadable as error:
        kind, message = error.args
        raise errors.ReceiptError(kind, message) from None
