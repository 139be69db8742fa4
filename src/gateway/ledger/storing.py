"""Groups of records go into the database once, whoever sends them and however often.

A group has a writer and a number, and how far each writer has come is written in the same transaction. So a group may
be stored again when nobody knows what became of its commit (the connection broke while it was under way), or when its
acknowledgement was lost on the way to a sidecar: the second time it changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from gateway.ledger import tallies
from gateway.ledger.database import advance
from gateway.ledger.limits import Limits
from gateway.ledger.review import counts
from gateway.ledger.review.rules import USUAL, ReviewRules
from gateway.ledger.schema import writers
from gateway.ledger.segments import OTHER_SEGMENT, Claim, Segments, claim
from gateway.ledger.tallies import Delta

__all__ = ["Group", "Stored", "forget_writers", "store"]


@dataclass(frozen=True, slots=True)
class Group:
    """What is stored whole or not at all. Numbers of one writer come in order; one at or below the last was stored."""

    writer: str
    number: int
    delta: Delta


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did. `fresh`: by group, whether it was new; `dropped`: what of them found no place, named."""

    fresh: list[bool]
    claimed: Claim
    dropped: Counter[str] = field(default_factory=Counter)


def store(
    connection: sa.Connection,
    groups: Sequence[Group],
    segments: Segments,
    limits: Limits,
    now_us: int,
    rules: ReviewRules = USUAL,
) -> Stored:
    """Write those groups that are new. The transaction is the caller's, who settles `claimed` when it is committed."""
    # In one order everywhere: of two processes that got the same groups, one waits for the other.
    order = sorted(range(len(groups)), key=lambda at: (groups[at].writer, groups[at].number))
    fresh = [False] * len(groups)
    for at in order:
        fresh[at] = advance(connection, groups[at].writer, groups[at].number, now_us)
    deltas = [group.delta for group, new in zip(groups, fresh, strict=True) if new]
    if not deltas:
        return Stored(fresh, Claim())
    claimed = claim(connection, segments.unclaimed(), segments.limit)
    whole = deltas[0]
    if len(deltas) > 1:
        whole = Delta()
        for delta in deltas:
            whole.merge(delta)
    with counts.counting(connection):
        dropped = tallies.store(connection, _renamed(whole, claimed.refused), limits, rules)
    return Stored(fresh, claimed, dropped + whole.dropped)


def forget_writers(connection: sa.Connection, before_us: int) -> None:
    """Every process that ever wrote has a row: take those away that have written nothing since `before_us`."""
    connection.execute(sa.delete(writers).where(writers.c.time_us < before_us))


def _renamed(delta: Delta, refused: Collection[tuple[str, str]]) -> Delta:
    """The same with some (route, segment) pairs counted as "(other)"."""
    if not refused:
        return delta
    other = replace(delta, sums=defaultdict(dict))
    for table, rows in delta.sums.items():
        names = [column.name for column in table.c]
        at = names.index("segment") if "segment" in names else None
        for key, sums in rows.items():
            is_refused = at is not None and (key[names.index("route")], key[at]) in refused
            renamed = (*key[:at], OTHER_SEGMENT, *key[at + 1 :]) if is_refused and at is not None else key
            other.add(table, renamed, sums)
    other.decisions = [
        {**row, "segment": OTHER_SEGMENT} if (row["route"], row["segment"]) in refused else row
        for row in delta.decisions
    ]
    return other
