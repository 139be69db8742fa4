"""What sidecars push: batches added up on a thread of their own, and stored as groups that are counted once.

Several batches are stored together or not at all, without the writer's wait for company: a sidecar waits for its
answer, and of one run no batch may be stored before an earlier one, which would then be taken for stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from gateway.ledger import tallies
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Limits
from gateway.ledger.segments import Segments
from gateway.ledger.storing import Group, Stored, store

__all__ = ["Intake"]


class Intake:
    """`reduce` and `keep` in turn: what was added up is kept before the next is."""

    def __init__(self, ledger: Ledger, limits: Limits | None = None) -> None:
        self._ledger = ledger
        self._limits = limits or Limits()
        self._segments = Segments(self._limits.segments)

    def reduce(self, batch: tallies.Batch, run: bytes, sequence: int) -> Group:
        """The sums of one batch."""
        delta = tallies.Delta()
        tallies.reduce_batch(batch, delta, self._segments, self._limits)
        return Group(f"sidecar:{run.hex()}", sequence, delta)

    def keep(self, groups: Sequence[Group], now_us: int) -> Future[list[bool]]:
        """Store all or none; by group, whether it was counted now (else it had been before).

        Groups of one run come in the order of their sequence. Ends with LedgerUnavailable as every job.
        """
        made: Future[list[bool]] = Future()

        def done(job: Future[Stored]) -> None:
            if (error := job.exception()) is not None:
                made.set_exception(error)
                return
            stored = job.result()
            self._segments.settle(stored.claimed)
            for group, fresh in zip(groups, stored.fresh, strict=True):
                self._ledger.count("stored.records" if fresh else "known.records", group.delta.records)
            for name, count in stored.dropped.items():
                self._ledger.count("dropped." + name, count)
            made.set_result(stored.fresh)

        work = partial(
            store,
            groups=groups,
            segments=self._segments,
            limits=self._limits,
            now_us=now_us,
            rules=self._ledger.review_rules,
        )
        self._ledger.submit(work).add_done_callback(done)
        return made
