"""Which segments each route has shown; bounded, as callers choose them by metadata.

The bound holds for the ledger, not for one process or one run of it: what was admitted stands in a table. While a batch
is reduced a segment that is new here is taken for admitted; whether it is, the transaction says that stores it, which
alone knows what other processes brought. Where it is not, `Claim.refused` is renamed in what is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.locks import lock_segments

__all__ = ["OTHER_SEGMENT", "Claim", "Segments", "claim", "known"]

OTHER_SEGMENT: Final = "(other)"
"""Where segments are counted that came after the limit was reached."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of (route, segment) pairs that were new to a process.

    Where a route is full, `admitted` has all that it has, so that the process need not ask again.
    """

    admitted: frozenset[Pair] = frozenset()
    refused: frozenset[Pair] = frozenset()


class Segments:
    """One process's view: what it knows to be in the table, and what it has seen since."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: dict[str, set[str]] = defaultdict(set)
        self._new: dict[str, set[str]] = defaultdict(set)
        self._full: set[str] = set()

    def admit(self, route: str, segment: str) -> str:
        """The segment, or "(other)" where the route has too many already."""
        if segment in self._known[route]:
            return segment
        new = self._new[route]
        if segment in new:
            return segment
        if segment in ("", OTHER_SEGMENT):  # no segment of anybody's choosing
            return segment
        if route in self._full or len(self._known[route]) + len(new) >= self.limit:
            return OTHER_SEGMENT
        new.add(segment)
        return segment

    def unclaimed(self) -> frozenset[Pair]:
        """Pairs that no transaction has claimed yet."""
        return frozenset((route, segment) for route, new in self._new.items() for segment in new)

    def settle(self, claimed: Claim) -> None:
        """Take over what a transaction that is committed has claimed."""
        for route, segment in claimed.admitted:
            self._known[route].add(segment)
            self._new[route].discard(segment)
        for route, segment in claimed.refused:
            self._full.add(route)
            self._new[route].discard(segment)

    def learn(self, pairs: Iterable[Pair]) -> None:
        """Take over what is in the table."""
        for route, segment in pairs:
            self._known[route].add(segment)


def known(connection: sa.Connection) -> list[Pair]:
    """All that was admitted; at most the limit of each route that ever was."""
    table = schema.segments
    return [(row.route, row.segment) for row in connection.execute(sa.select(table))]


def claim(connection: sa.Connection, wanted: frozenset[Pair], limit: int) -> Claim:
    """Admit pairs, in order, while their route has room; those that another process admitted are admitted anyhow."""
    if not wanted:
        return Claim()
    lock_segments(connection)
    table = schema.segments
    routes = sorted({route for route, _ in wanted})
    there: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(sa.select(table).where(table.c.route.in_(routes))):
        there[row.route].add(row.segment)
    new, refused = [], set()
    for route, segment in sorted(wanted):
        if segment in there[route]:
            continue
        if len(there[route]) >= limit:
            refused.add((route, segment))
        else:
            there[route].add(segment)
            new.append({"route": route, "segment": segment})
    if new:
        connection.execute(sa.insert(table), new)
    full = {route for route, _ in refused}
    others = {(route, segment) for route in full for segment in there[route]}
    return Claim((wanted | others) - refused, frozenset(refused))
