"""How much each caller may send: a token bucket for each, in a table of bounded size.

In memory and for one process: it keeps a caller who runs wild from the ledger's one writer, and is no account.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.errors import RateLimited

__all__ = ["MAX_CALLERS", "Rate", "Rates"]

MAX_CALLERS: Final = 4_096
"""Callers that have a bucket of their own; while all of these are in use, further ones share one."""

_OTHERS: Final = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s`: what a caller may send in the long run, a second. `burst`: what it may send at once."""

    per_s: float
    burst: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Rates:
    """Not thread-safe: for one event loop.

    Args:
        rate: as it is now, since the settings may change; None: no limit.
        clock_s: a clock that only goes on.
    """

    def __init__(
        self, rate: Callable[[], Rate | None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._clock_s = clock_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str, count: int) -> None:
        """Take `count` from the caller's bucket, or nothing. More than a burst is taken when the bucket is full.

        Raises: RateLimited, with how long to wait.
        """
        rate = self._rate()
        if rate is None:
            return
        now_s = self._clock_s()
        bucket = self._bucket(caller, rate, now_s)
        bucket.tokens = self._level(bucket, rate, now_s)
        bucket.at_s = now_s
        wanted = min(float(count), rate.burst)
        if bucket.tokens < wanted:
            wait_s = (wanted - bucket.tokens) / rate.per_s
            raise RateLimited(
                f"{count} items from {caller or 'this caller'} are more than it may send now: {rate.per_s:g} a second, "
                f"{rate.burst:g} at once (feedback.per_caller_per_s, feedback.burst); nothing was kept, "
                f"send them again in {wait_s:.3g} s",
                wait_s,
            )
        bucket.tokens -= count  # below zero where the call is longer than a burst: it is paid for afterwards

    def _level(self, bucket: _Bucket, rate: Rate, now_s: float) -> float:
        return min(rate.burst, bucket.tokens + (now_s - bucket.at_s) * rate.per_s)

    def _bucket(self, caller: str, rate: Rate, now_s: float) -> _Bucket:
        found = self._buckets.get(caller)
        if found is None:
            if len(self._buckets) >= MAX_CALLERS and not self._forgot_one(rate, now_s):
                caller = _OTHERS
            found = self._buckets.setdefault(caller, _Bucket(rate.burst, now_s))
        self._buckets.move_to_end(caller)
        return found

    def _forgot_one(self, rate: Rate, now_s: float) -> bool:
        """Forget who was longest silent, if its bucket is full again: then it is as good as new."""
        caller, bucket = next(iter(self._buckets.items()))
        if caller == _OTHERS:
            self._buckets.move_to_end(caller)
            caller, bucket = next(iter(self._buckets.items()))
        if self._level(bucket, rate, now_s) < rate.burst:
            return False
        del self._buckets[caller]
        return True
