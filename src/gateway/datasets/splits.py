"""Which split a row belongs to, such that what belongs together is never parted.

All rows of a call share their unit and their call's time, so both kinds of split keep a call, and every label of it,
whole. By unit, the place of a unit between 0 and 1 is a salted hash with a purpose of its own: it is the same in every
export, says nothing about holdout or arms, and is nested (who is in train at 0.7 is in train at 0.8). The route is not
part of it, so data sets of two routes can be put together. By time, a unit that is seen in a later split is taken out
of the earlier ones: what is tested on stays as it was.

The hash is BLAKE2b (RFC 7693) and not the data plane's xxHash: what stands in a file that is handed on must not lead
back to the salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.datasets.plan import Plan
from gateway.errors import DataSetError

__all__ = ["DROPPED", "MOST_UNITS", "Hasher", "Splitter", "UnitSet"]

DROPPED: Final = ("in_gap", "unit_in_later_split", "unit_unknown")
"""Why a row is in no split."""

MOST_UNITS: Final = 20_000_000
"""Units that are remembered while a data set is split by time: 160 MB."""

_IN_GAP, _LATER, _UNKNOWN = -1, -2, -3

Ints = NDArray[np.int64]


class Hasher:
    """Salted hashes for one purpose, 64 bits each.

    Args:
        salt_hex: 64 hex digits.
        purpose: at most 8 characters; hashes of two purposes have nothing to do with each other.
    """

    def __init__(self, salt_hex: str, purpose: str) -> None:
        self._start = hashlib.blake2b(
            key=bytes.fromhex(salt_hex), person=f"gateway:{purpose}".encode(), digest_size=8
        )

    def digest(self, data: bytes) -> bytes:
        state = self._start.copy()
        state.update(data)
        return state.digest()

    def text(self, data: bytes) -> str:
        """16 hex digits."""
        return self.digest(data).hex()

    def places(self, data: Sequence[bytes]) -> NDArray[np.float64]:
        """Numbers in [0, 1), evenly spread, shape (n,)."""
        made = np.frombuffer(b"".join(self.digest(one) for one in data), dtype=">u8")
        # 53 bits, so that the largest is below 1 as a double too
        return (made >> np.uint64(11)).astype(np.float64) / 2.0**53


class UnitSet:
    """A set of 64-bit numbers in a bounded array.

    Raises: DataSetError from `add`, past `most` of them.
    """

    def __init__(self, most: int = MOST_UNITS) -> None:
        self._most = most
        self._sorted = np.zeros(0, dtype=np.int64)
        self._parts: list[Ints] = []
        self._waiting = 0

    def add(self, units: Ints) -> None:
        self._parts.append(np.unique(units))
        self._waiting += len(self._parts[-1])
        if self._waiting > max(1_000_000, len(self._sorted)):
            self._merge()

    def contains(self, units: Ints) -> NDArray[np.bool_]:
        """Shape (n,)."""
        self._merge()
        if not len(self._sorted):
            return np.zeros(len(units), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self._sorted, units), len(self._sorted) - 1)
        return np.asarray(self._sorted[at] == units)

    def _merge(self) -> None:
        if self._parts:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._parts]))
            self._parts, self._waiting = [], 0
        if len(self._sorted) > self._most:
            raise DataSetError(
                f"more than {self._most:,} units stand in the later splits, and so many are not held in memory; "
                "narrow the window with --since and --until, or split by unit"
            )


class Splitter:
    """Assigns rows to the splits of a plan.

    Args:
        cuts_us: by time, where each split ends: rows at it or after it belong to a later one.
        later: by time, the units of each split after the first, in order.
    """

    def __init__(
        self, plan: Plan, salt_hex: str, cuts_us: Sequence[int] = (), later: Sequence[UnitSet] = ()
    ) -> None:
        self._plan = plan
        self._hasher = Hasher(salt_hex, "split")
        self._cuts_us = np.asarray(cuts_us, dtype=np.int64)
        self._later = later

    def assign(self, units: Sequence[int | None], decisions: Sequence[bytes], call_us: Sequence[int]) -> Ints:
        """The number of each row's split, or what of `DROPPED` it is: -1 - its index; shape (n,).

        Args:
            units: 64-bit, None where it is not known. decisions: ids. call_us: times of the calls.
        """
        split = self._plan.split
        if split is None:
            return np.zeros(len(units), dtype=np.int64)
        known = np.array([unit is not None for unit in units], dtype=np.bool_)
        if split.by == "unit":
            keys = [
                decision if unit is None else unit.to_bytes(8, "big", signed=True)
                for unit, decision in zip(units, decisions, strict=True)
            ]
            distinct = list(dict.fromkeys(keys))
            places = dict(zip(distinct, self._hasher.places(distinct).tolist(), strict=True))
            place = np.array([places[key] for key in keys])
            assigned = np.searchsorted(np.asarray(split.cuts), place, side="right").astype(np.int64)
        else:
            assigned = self.side(np.asarray(call_us, dtype=np.int64))
            numbers = np.array([0 if unit is None else unit for unit in units], dtype=np.int64)
            for index, there in enumerate(self._later):
                before = known & (assigned <= index) & (assigned >= 0)
                seen = np.zeros(len(units), dtype=np.bool_)
                seen[before] = there.contains(numbers[before])
                assigned[seen] = _LATER
        if self._plan.unknown_units == "drop":
            assigned[~known & (assigned >= 0)] = _UNKNOWN
        return assigned

    def side(self, call_us: Ints) -> Ints:
        """By time alone, whatever the unit; shape (n,)."""
        assigned = np.searchsorted(self._cuts_us, call_us, side="right").astype(np.int64)
        gap_us = 0 if self._plan.split is None else self._plan.split.gap_us
        if gap_us and len(self._cuts_us):
            for cut in self._cuts_us.tolist():
                assigned[(call_us >= cut) & (call_us < cut + gap_us)] = _IN_GAP
        return assigned


def dropped_reason(code: int) -> str:
    """The word for a negative number of `Splitter.assign`."""
    return DROPPED[-code - 1]


def counted(assigned: NDArray[Any]) -> dict[str, int]:
    """How many rows are in no split, by reason."""
    return {reason: int(np.sum(assigned == -1 - index)) for index, reason in enumerate(DROPPED)}
