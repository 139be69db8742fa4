"""Tallies of long windows in few rows: the hours of a day, and of 32 days, added up once they are over.

A score has a thousand bins, so a year of hours is millions of cells. What is rolled holds the same sums once more, by
spans of 24 and 768 hours; a window is read as the fewest spans that make it up exactly, to the hour. What comes late
for hours that were rolled is added to both, in one transaction, so it never matters whether something was rolled yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.adding import add_up
from gateway.ledger.locks import may_tidy

__all__ = ["ROLLED", "SPANS", "Piece", "add", "cover", "drop_before", "pieces", "roll", "rolled", "rolled_of"]

SPANS: Final = (768, 24)
"""Hours; each is a multiple of the next."""

LAG_H: Final = 2
"""A span is rolled so long after its end, when little more is to come for it."""

ALWAYS: Final = 10**9
"""Hours from 1970 to beyond every window."""


def _rolled(tally: sa.Table) -> sa.Table:
    """The same tally with the hours of a span in one."""
    same = [
        sa.Column(one.name, one.type, primary_key=one.primary_key, autoincrement=False, nullable=False)
        for one in tally.c
    ]
    span = sa.Column("span", sa.SmallInteger, primary_key=True, autoincrement=False)
    return sa.Table(
        "rolled_" + tally.name.removeprefix("tally_"), schema.metadata, span, *same, sqlite_with_rowid=False
    )


rolled_of: Final = {
    tally: _rolled(tally)
    for tally in (
        schema.tally_calls,
        schema.tally_scores,
        schema.tally_overhead,
        schema.tally_shadow,
        schema.tally_labels,
    )
}
"""Each tally, and its rolled form."""

rolled = sa.Table(
    "rolled",
    schema.metadata,
    sa.Column("tally", sa.Text, primary_key=True),
    sa.Column("span", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("first_hour", sa.Integer, nullable=False),
    sa.Column("end_hour", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

ROLLED: Final = tuple(
    {"tally": tally.name, "span": span, "first_hour": -ALWAYS, "end_hour": -ALWAYS}
    for tally in rolled_of
    for span in SPANS
)
"""What stands in `rolled` at first; it is there before anyone adds, as it is what they hold while they do."""

Key = tuple[Any, ...]

_state = rolled


@dataclass(frozen=True, slots=True)
class Piece:
    """Hours of a window, from `first` to before `end`, read in spans of `span` hours; 1 is the tally itself."""

    span: int
    first: int
    end: int


def add(connection: sa.Connection, tally: sa.Table, sums: Mapping[Key, Sequence[float]]) -> None:
    """Raise the sums under keys, in the order of the tally's columns. The transaction is the caller's."""
    if not sums:
        return
    names = [column.name for column in tally.c]
    rows = [dict(zip(names, (*key, *more), strict=True)) for key, more in sums.items()]
    add_up(connection, tally, rows)
    for span, (_, end) in sorted(_ranges(connection, tally, held=True).items()):
        late: dict[Key, list[float]] = {}
        width = len(tally.primary_key)
        for row in rows:
            start = row["hour"] - row["hour"] % span
            if start < end:
                key, *more = (start, *list(row.values())[1:width]), *list(row.values())[width:]
                there = late.get(key)
                late[key] = more if there is None else [a + b for a, b in zip(there, more, strict=True)]
        spanned = [dict(zip(["span", *names], (span, *key, *late[key]), strict=True)) for key in late]
        add_up(connection, rolled_of[tally], spanned)


def roll(connection: sa.Connection, tally: sa.Table, span: int, now_hour: int) -> bool:
    """Roll the next span of a tally, where one is over. Returns: whether there was one.

    The transaction is the caller's; it writes one span, so it is short.
    """
    if not may_tidy(connection):
        return False
    ranges = _ranges(connection, tally, locked=True)
    _, end = ranges[span]
    smaller = SPANS[SPANS.index(span) + 1 :]
    source = rolled_of[tally] if smaller else tally
    mine = [source.c.span == smaller[0]] if smaller else []
    ready = ranges.get(smaller[0], (0, -ALWAYS))[1] if smaller else now_hour - LAG_H
    first = connection.execute(
        sa.select(sa.func.min(source.c.hour)).where(*mine, source.c.hour >= end)
    ).scalar()
    if first is None or (start := first - first % span) + span > ready:
        return False
    keys = [column for column in tally.c if column.primary_key and column.name != "hour"]
    sums = [column for column in tally.c if not column.primary_key]
    grouped = [source.c[column.name] for column in keys]
    whole = (
        sa.select(
            sa.literal(span),
            sa.literal(start),
            *grouped,
            *(sa.cast(sa.func.sum(source.c[column.name]), column.type) for column in sums),
        )
        .where(*mine, source.c.hour >= start, source.c.hour < start + span)
        .group_by(*grouped)
    )
    names = ["span", "hour", *(column.name for column in (*keys, *sums))]
    connection.execute(sa.insert(rolled_of[tally]).from_select(names, whole))
    of = (_state.c.tally == tally.name, _state.c.span == span)
    connection.execute(sa.update(_state).where(*of).values(end_hour=start + span))
    return True


def cover(
    connection: sa.Connection,
    tally: sa.Table,
    columns: Sequence[str],
    since: int | None,
    until: int | None,
    *where: tuple[str, Any],
    longest: int = SPANS[0],
) -> sa.Subquery:
    """The rows of some hours as one table to select from, to be summed: each hour is in it once.

    Args:
        columns: those wanted. since, until: first hour, and the hour after the last; None leaves a side open.
        where: a column and the value that it must have. longest: hours of the longest span that is read; `hour` is
        the first of each row's span.
    """
    lowest = -ALWAYS if since is None else since
    highest = ALWAYS if until is None else until
    parts = []
    ranges = {span: of for span, of in _ranges(connection, tally).items() if span <= longest}
    for piece in pieces(lowest, highest, ranges):
        table = tally if piece.span == 1 else rolled_of[tally]
        part = sa.select(*(table.c[name] for name in columns)).where(
            table.c.hour >= piece.first,
            table.c.hour < piece.end,
            *(table.c[name] == value for name, value in where),
        )
        parts.append(part if piece.span == 1 else part.where(table.c.span == piece.span))
    if not parts:
        parts = [sa.select(*(tally.c[name] for name in columns)).where(sa.false())]
    return sa.union_all(*parts).subquery()


def pieces(since: int, until: int, ranges: Mapping[int, tuple[int, int]]) -> list[Piece]:
    """The fewest pieces that make up the hours from `since` to before `until`.

    Args:
        ranges: by span, the first hour that was rolled and the hour after the last; both on the span's grid.
    """
    found: list[Piece] = []
    left = [(since, until)]
    for span in SPANS:
        first, end = ranges.get(span, (0, 0))
        rest = []
        for low, high in left:
            start, stop = max(-(-low // span) * span, first), min(high // span * span, end)
            if start >= stop:
                rest.append((low, high))
                continue
            found.append(Piece(span, start, stop))
            rest += [(low, start), (stop, high)]
        left = rest
    return found + [Piece(1, low, high) for low, high in left if low < high]


def drop_before(connection: sa.Connection, tally: sa.Table, hour: int) -> int:
    """Take away what was rolled of the hours before `hour`; the tally's own hours are the caller's. Returns: rows.

    A longer span that the cut goes through is taken away whole: its hours are read in shorter ones from now on.
    """
    gone = 0
    table = rolled_of[tally]
    for span in _ranges(connection, tally, locked=True):
        first = -(-hour // span) * span
        old = (table.c.span == span, table.c.hour < first)
        gone += connection.execute(sa.delete(table).where(*old)).rowcount
        of = (_state.c.tally == tally.name, _state.c.span == span, _state.c.first_hour < first)
        connection.execute(sa.update(_state).where(*of).values(first_hour=first))
    return gone


def _ranges(
    connection: sa.Connection, tally: sa.Table, *, held: bool = False, locked: bool = False
) -> dict[int, tuple[int, int]]:
    """By span, which hours are rolled; held (or locked), nobody rolls (or adds) until this transaction ends."""
    found = connection.execute(_STATE[held, locked], {"of": tally.name})
    return {row[0]: (row[1], row[2]) for row in found}


def _state_of(*, held: bool, locked: bool) -> sa.Select[Any]:
    query = sa.select(_state.c.span, _state.c.first_hour, _state.c.end_hour)
    query = query.where(_state.c.tally == sa.bindparam("of"))
    return query.order_by(_state.c.span).with_for_update(read=held) if held or locked else query


_STATE: Final = {
    ways: _state_of(held=ways[0], locked=ways[1]) for ways in ((False, False), (True, False), (False, True))
}
"""By (held, locked); put together once."""
