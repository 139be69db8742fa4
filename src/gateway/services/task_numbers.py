"""The numbers that tasks have outside: the ledger's count up, so they tell which tasks are new.

A task whose truth is known is made when it is handed out, so its number in the ledger stands out. Outside, every task
has another number, by a keyed permutation: a Feistel network of four rounds over 52 bits (Luby and Rackoff 1988, SIAM
J. Comput. 17:373-386). It is no secret that is worth breaking; below 2^53, so that JavaScript keeps the numbers whole.
"""

from __future__ import annotations

import hashlib
from typing import Final

from gateway.errors import NotFound

__all__ = ["TaskNumbers"]

_HALF: Final = 26
_MASK: Final = (1 << _HALF) - 1
_ROUNDS: Final = 4


class TaskNumbers:
    """Turns the ledger's numbers into those outside, and back.

    Args:
        key: the same in every process that serves one ledger; at most 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def outside(self, task: int) -> int:
        """The number that reviewers see. `task`: below 2^52."""
        left, right = task >> _HALF, task & _MASK
        for number in range(_ROUNDS):
            left, right = right, left ^ self._round(number, right)
        return left << _HALF | right

    def inside(self, task: int) -> int:
        """The ledger's number.

        Raises: NotFound, for one that no task has.
        """
        if not 0 <= task < 1 << 2 * _HALF:
            raise NotFound(f"there is no review task {task}")
        left, right = task >> _HALF, task & _MASK
        for number in reversed(range(_ROUNDS)):
            left, right = right ^ self._round(number, left), left
        return left << _HALF | right

    def _round(self, number: int, half: int) -> int:
        data = bytes([number]) + half.to_bytes(4, "big")
        return int.from_bytes(hashlib.blake2b(data, digest_size=4, key=self._key).digest(), "big") & _MASK
