"""What sidecars push: each batch is counted exactly once, whoever sends it again and to which control.

The sequence of the last batch of a run is raised in the transaction that adds the batch's sums: after any crash either
both are there or neither. Rows of `fleet_runs` are locked in one order, so that two controls wait for each other
and never both for the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema, tallies
from gateway.ledger.database import insert_once
from gateway.ledger.limits import Limits

__all__ = ["RUN_DAYS", "Pushed", "Reducer", "Taken", "prune", "take"]

RUN_DAYS: Final = 90
"""How long a run that sends nothing is remembered. A spool that comes back later would be counted again: a sidecar
gives up what is older than 60 days.
"""

DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Pushed:
    """A batch, added up."""

    run: bytes
    sequence: int
    sidecar: str
    delta: tallies.Delta


@dataclass(frozen=True, slots=True)
class Taken:
    """`fresh`: by batch, whether it was counted now (else it had been before). The rest is of the fresh ones."""

    fresh: list[bool]
    records: int
    dropped: Counter[str]


class Reducer:
    """Adds batches up, on one thread; remembers which segments there are, as they are bounded."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._segments = tallies.Segments(self._limits.segments)

    def reduce(self, batch: tallies.Batch) -> tallies.Delta:
        """The sums of one batch."""
        delta = tallies.Delta()
        tallies.reduce_batch(batch, delta, self._segments, self._limits)
        return delta


def take(connection: sa.Connection, pushed: Sequence[Pushed], limits: Limits, now_us: int) -> Taken:
    """Count those that were not counted before; the transaction is the caller's.

    Batches of one run stand in the order of their sequence.
    """
    table = schema.fleet_runs
    fresh = [False] * len(pushed)
    for run in sorted({batch.run for batch in pushed}):
        of = [(at, batch) for at, batch in enumerate(pushed) if batch.run == run]
        name = of[0][1].sidecar
        insert_once(
            connection, table, [{"run": run, "sidecar": name, "last": 0, "batches": 0, "updated_us": now_us}]
        )
        last = connection.execute(
            sa.select(table.c.last).where(table.c.run == run).with_for_update()
        ).scalar_one()
        count = 0
        for at, batch in of:
            if batch.sequence > last:
                fresh[at], last, count = True, batch.sequence, count + 1
        if count:
            raised = {"last": last, "batches": table.c.batches + count, "updated_us": now_us}
            connection.execute(sa.update(table).where(table.c.run == run).values(raised))
    whole = tallies.Delta()
    for batch, counts in zip(pushed, fresh, strict=True):
        if counts:
            whole.merge(batch.delta)
    dropped = Counter(whole.dropped)
    if any(fresh):
        dropped += tallies.store(connection, whole, limits)
    return Taken(fresh, whole.records, dropped)


def prune(connection: sa.Connection, now_us: int) -> int:
    """Forget runs that sent nothing for `RUN_DAYS`; returns how many."""
    table = schema.fleet_runs
    old = table.c.updated_us < now_us - RUN_DAYS * DAY_US
    return connection.execute(sa.delete(table).where(old)).rowcount
