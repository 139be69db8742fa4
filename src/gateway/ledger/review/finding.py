"""Finding tasks: free ones that a reviewer has not seen, urgent ones, and those whose lease has run out.

Statements are put together once, as that costs more than running them; and each has an index of its own, over those
tasks only that it is about.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.review import counts, gold

__all__ = ["LEASED", "clear_lapsed", "count_open", "is_open", "joined", "lists", "urgent", "usual"]

MOST_LISTS: Final = 200
"""Distinct lists of marks that are looked at in order of priority; beyond, any task will do."""

MOST_LAPSED: Final = 1_000
"""Leases that ran out and are cleared in one go."""

AT_A_TIME: Final = 50
"""Free tasks that are looked at together for one that can be given out."""

EXACT_UP_TO: Final = 1_000
"""Open tasks are counted one by one up to here; beyond, the running count is told."""

_task = schema.review_tasks
_decision = schema.decisions
_capture = schema.captures
_free = sa.text(schema.FREE)


def is_open(now_us: int) -> sa.ColumnElement[bool]:
    """Whether a task that is not done may still be leased; not where a caller waited and has gone."""
    return sa.or_(_task.c.urgent_until_us.is_(None), _task.c.urgent_until_us > now_us)


def joined() -> sa.Select[Any]:
    """Tasks with their facts and payloads."""
    same_row = sa.and_(_decision.c.decision == _task.c.decision, _decision.c.row == _task.c.row)
    return (
        sa.select(_task, _decision, _capture.c.request, _capture.c.answer)
        .join(_decision, same_row)
        .join(_capture, _capture.c.decision == _task.c.decision)
    )


_QUEUE: Final = _task.c.queue == sa.bindparam("of_queue")
_NOW: Final = sa.bindparam("now_us", type_=sa.BigInteger)
_UNSEEN: Final = _task.c.seen.not_like(sa.bindparam("me"))
LEASED: Final = sa.text("done_us IS NULL AND lease_until_us > 0")


def clear_lapsed(connection: sa.Connection, queue: str, now_us: int) -> None:
    """Free tasks whose lease has run out; the token stays, so that the last holder may still answer."""
    found = connection.execute(_LAPSED, {"of_queue": queue, "now_us": now_us}).all()
    free = [row.id for row in found if row.gold is None]
    if free:
        connection.execute(sa.update(_task).where(_task.c.id.in_(free)).values(lease_until_us=0))
    if len(free) < len(found):
        gold.forget_lapsed(connection, queue, now_us)


_LAPSED: Final = (
    sa.select(_task.c.id, _task.c.gold)
    .where(_QUEUE, LEASED, _task.c.lease_until_us <= _NOW)
    .limit(MOST_LAPSED)
    .with_for_update(skip_locked=True)
)


def urgent(connection: sa.Connection, queue: str, me: str, now_us: int) -> sa.Row[*tuple[object, ...]] | None:
    """The free task whose caller has the least time left. `me`: the mark of the reviewer, who has not seen it."""
    return connection.execute(_URGENT, {"of_queue": queue, "me": f"%{me}%", "now_us": now_us}).first()


_URGENT: Final = (
    joined()
    .where(
        _QUEUE,
        sa.text("done_us IS NULL AND urgent_until_us IS NOT NULL"),
        _task.c.urgent_until_us > _NOW,
        _task.c.lease_until_us == sa.literal_column("0"),
        _UNSEEN,
    )
    .order_by(_task.c.urgent_until_us, _task.c.id)
    .limit(1)
    .with_for_update(of=_task, skip_locked=True)
)


def usual(connection: sa.Connection, queue: str, me: str) -> sa.Row[*tuple[object, ...]] | None:
    """The first of the free tasks that the reviewer has not seen."""
    unseen = {"of_queue": queue, "me": f"%{me}%"}
    for found in connection.execute(_HEADS, unseen).all():
        for page in itertools.count():
            some = {"of_queue": queue, "seen": found.seen, "start": page * AT_A_TIME}
            row = connection.execute(_FIRST, some).first()
            if row is not None:
                return row
            # All of them are being given out elsewhere, or wait for their record.
            if len(connection.execute(_SOME, some).all()) < AT_A_TIME:
                break
    # More lists than were looked at: there may be one of others, further back.
    if connection.execute(_LISTS, {"of_queue": queue}).scalar_one() < MOST_LISTS:
        return None
    return connection.execute(_ANY, unseen).first()


_few = _task.alias("few")
_SOME: Final = (
    sa.select(_few.c.id)
    .where(_few.c.queue == sa.bindparam("of_queue"), _free, _few.c.seen == sa.bindparam("seen"))
    .order_by(_few.c.priority, _few.c.due_us, _few.c.id)
    .limit(sa.literal_column(str(AT_A_TIME)))
    .offset(sa.bindparam("start", type_=sa.Integer))
)
"""The first few by the index alone, then what belongs to them: left to itself, a planner may join first."""

_ANY: Final = joined().where(_QUEUE, _free, _UNSEEN).limit(1).with_for_update(of=_task, skip_locked=True)
_FIRST: Final = (
    joined()
    .where(_QUEUE, _free, _task.c.seen == sa.bindparam("seen"), _task.c.id.in_(_SOME))
    .order_by(_task.c.priority, _task.c.due_us, _task.c.id)
    .limit(1)
    .with_for_update(of=_task, skip_locked=True)
)


def lists() -> sa.CTE:
    """The distinct lists of a queue's free tasks, by one look into the index for each (a loose index scan)."""
    first = sa.select(sa.func.min(_task.c.seen)).where(_task.c.queue == sa.bindparam("of_queue"), _free)
    found = sa.select(first.scalar_subquery().label("seen"), sa.literal(1).label("n")).cte(
        "lists", recursive=True
    )
    following = first.where(_task.c.seen > found.c.seen).scalar_subquery()
    return found.union_all(
        sa.select(following, found.c.n + 1).where(found.c.seen.is_not(None), found.c.n < MOST_LISTS)
    )


def _heads() -> sa.Select[Any]:
    """The lists that the reviewer is not in, in the order of the first task of each. Parameters: of_queue, me."""
    of = lists()
    head = _task.alias("head")
    first = (
        sa.select(_task.c.id)
        .where(_task.c.queue == sa.bindparam("of_queue"), _free, _task.c.seen == of.c.seen)
        .order_by(_task.c.priority, _task.c.due_us, _task.c.id)
        .limit(1)
    )
    return (
        sa.select(of.c.seen)
        .join(head, head.c.id == first.scalar_subquery())
        .where(of.c.seen.is_not(None), of.c.seen.not_like(sa.bindparam("me")))
        .order_by(head.c.priority, head.c.due_us, head.c.id)
    )


_LISTS: Final = sa.select(sa.func.count()).select_from(lists())
_HEADS: Final = _heads()


def count_open(connection: sa.Connection, queue: str, now_us: int) -> int:
    """Open tasks, one by one where they are few enough, else as they were added up."""
    some = (
        sa.select(_task.c.id)
        .where(_task.c.queue == queue, sa.text("done_us IS NULL"), is_open(now_us), _task.c.gold.is_(None))
        .order_by(_task.c.created_us)
        .limit(EXACT_UP_TO)
    )
    few = connection.execute(sa.select(sa.func.count()).select_from(some.subquery())).scalar_one()
    return few if few < EXACT_UP_TO else counts.read(connection, queue).get(queue, {}).get("open", few)
