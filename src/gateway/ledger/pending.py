"""Feedback that came before its decision's record: kept as it was said, and counted when the record is there.

A receipt carries all that is to be known of its prediction; a decision id carries but its time, and the record may come
later by another way (a batch that is still being added up, a sidecar's spool). So what is said by id of a decision
young enough to be on its way waits here, on disk, by decision, row, source, kind and name: the last statement of each.
When the record comes it is judged and kept like any other; what never gets a record is dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LabelError
from gateway.ledger import schema
from gateway.ledger.labels import Facts, Kept, LabelRow, RouteClasses, Truth, keep, truth_of
from gateway.ledger.review import facts_of

__all__ = ["AT_ONCE", "PendingRow", "Resolved", "hold", "resolve", "waiting"]

AT_ONCE: Final = 1_000
"""Statements that are judged in one transaction."""

_pending = schema.pending_labels
_decision = schema.decisions
_KEY: Final = ("decision", "row", "source", "kind", "name")


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A statement as it was said: what it means for the route is not known yet.

    `truth`: of `label` and `positive` only that which was said. `expires_us`: when the record is given up.
    """

    decision: bytes
    row: int
    source: str
    truth: Truth
    received_us: int
    expires_us: int
    author: str = ""
    event_us: int | None = None


@dataclass(slots=True)
class Resolved:
    """What became of statements that waited: kept, by what they were; dropped, by reason. `left`: wait on."""

    kept: Counter[Kept] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    left: int = 0


def hold(connection: sa.Connection, rows: Sequence[PendingRow], limit: int) -> list[Kept]:
    """Keep statements until their decisions' records come. The transaction is the caller's.

    Args:
        limit: statements that may wait in all.
    Returns: PENDING, SUPERSEDED or FULL each, in order.
    """
    room = limit - waiting(connection)
    results = []
    for row in rows:
        values = _columns(row)
        same = sa.and_(*(_pending.c[name] == values[name] for name in _KEY))
        before = connection.execute(
            sa.select(_pending.c.id, _pending.c.event_us).where(same).with_for_update()
        ).first()
        if before is not None:
            earlier = None not in (row.event_us, before.event_us) and row.event_us < before.event_us
            if not earlier:
                connection.execute(sa.update(_pending).where(_pending.c.id == before.id).values(values))
            results.append(Kept.SUPERSEDED if earlier else Kept.PENDING)
        elif room <= 0:
            results.append(Kept.FULL)
        else:
            connection.execute(sa.insert(_pending), values)
            room -= 1
            results.append(Kept.PENDING)
    return results


def resolve(
    connection: sa.Connection, classes: Callable[[str], RouteClasses | None], now_us: int
) -> Resolved:
    """Judge statements whose record has come, at most `AT_ONCE`; give up those whose time is over.

    A label of a route that is not served here is left until then: this gateway may not have its policy yet, or another
    may have it.

    Args:
        classes: a route -> its classes, None for one that is not served.
    The transaction is the caller's. Several gateways may do this at once.
    """
    done = Resolved()
    same = sa.and_(_decision.c.decision == _pending.c.decision, _decision.c.row == _pending.c.row)
    rows: list[LabelRow] = []
    over: list[int] = []
    last = 0
    while room := AT_ONCE - len(over):  # what is left must not keep from its turn what comes after it
        query = (
            sa.select(_pending, _decision)
            .join(_decision, same)
            .where(_pending.c.id > last)
            .order_by(_pending.c.id)
            .limit(room)
            .with_for_update(of=_pending, skip_locked=True)
        )
        page = connection.execute(query).all()
        for found in page:
            last = found._mapping[_pending.c.id]
            try:
                rows.append(_judged(found._mapping, facts_of(found._mapping), classes))
            except LabelError as error:
                if error.kind == "unknown_route" and found._mapping[_pending.c.expires_us] > now_us:
                    continue
                done.dropped[f"pending_{error.kind}"] += 1
            over.append(last)
        if len(page) < room:
            break
    for kept in keep(connection, rows):
        if kept is Kept.CROWDED:
            done.dropped[f"pending_{kept.value}"] += 1
        else:
            done.kept[kept] += 1
    if over:
        connection.execute(sa.delete(_pending).where(_pending.c.id.in_(over)))
    known = sa.exists().where(same)
    expired = connection.execute(sa.delete(_pending).where(_pending.c.expires_us <= now_us, ~known))
    done.dropped["pending_expired"] += expired.rowcount
    done.left = waiting(connection)
    return done


def waiting(connection: sa.Connection) -> int:
    """How many statements wait."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(_pending)).scalar_one())


def _judged(found: Any, facts: Facts, classes: Callable[[str], RouteClasses | None]) -> LabelRow:
    said = partial(truth_of, facts.route, classes(facts.route))
    column = _pending.c
    return LabelRow(
        decision=bytes(found[column.decision]),
        row=found[column.row],
        source=found[column.source],
        truth=said(
            label=found[column.label],
            positive=found[column.positive],
            value=found[column.value],
            signal=found[column.name] or None,
        ),
        facts=facts,
        received_us=found[column.received_us],
        author=found[column.author],
        event_us=found[column.event_us],
        waited=True,
    )


def _columns(row: PendingRow) -> dict[str, Any]:
    return {
        "decision": row.decision,
        "row": row.row,
        "source": row.source,
        "kind": row.truth.kind,
        "name": row.truth.signal,
        "label": row.truth.label,
        "positive": row.truth.positive,
        "value": row.truth.value,
        "author": row.author,
        "received_us": row.received_us,
        "event_us": row.event_us,
        "expires_us": row.expires_us,
    }
