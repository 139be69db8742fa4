"""Who has which task, until when.

A lease has a token that grows with every lease of its task: an answer is taken only under the last one, so of
two people who both believe they hold a task one is refused, whatever their clocks say. A lease that ran out
while nobody else took the task is still the last one: work that was done is not thrown away.

Whom a task may not go to any more (they answered or skipped it) stands in the task itself, as a list of marks, and the
index of free tasks begins with that list. Without that, all the tasks that a reviewer has done and that wait for a
second opinion would be looked through at every lease. The distinct lists are few, and the index is asked for the first
task of each.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LeaseLost, NotFound
from gateway.ledger import schema
from gateway.ledger.labels import Facts, Truth
from gateway.ledger.review import counts, gold
from gateway.ledger.review.events import ANSWER, VIEW, History, append, facts_of, history, mark
from gateway.ledger.review.rules import USUAL_QUEUE, QueueRule

__all__ = [
    "MAX_HOLD_US",
    "Lease",
    "NothingForYou",
    "Stage",
    "count_open",
    "hand_over",
    "hand_over_gold",
    "heads",
    "heartbeat",
    "held",
    "is_open",
    "joined",
    "lease",
    "locked",
]

MAX_HOLD_US: Final = 8 * 3_600_000_000
"""How long heartbeats keep a lease alive: a console that was left open holds its task for one working day."""

MOST_LISTS: Final = 200
"""Distinct lists of marks that are looked at in order of priority; beyond, any task will do."""

MOST_LAPSED: Final = 1_000
"""Leases that ran out and are cleared in one go."""

EXACT_UP_TO: Final = 1_000
"""Open tasks are counted one by one up to here; beyond, the running count is told."""

_task = schema.review_tasks
_decision = schema.decisions
_capture = schema.captures
_free = sa.text(schema.FREE)


class Stage:
    """Where a task is: before reviewers, before the one who settles their disagreement, or set aside."""

    REVIEW: Final = 0
    DECIDE: Final = 1
    ASIDE: Final = 2


@dataclass(frozen=True, slots=True)
class Lease:
    """A task and the right to answer it. `request`, `answer`: the captured messages, redacted.

    `answer_by_us`: until when a caller waits for the answer; None where none does. `deciding`: reviewers disagreed, and
    this answer settles it; `others`: what they said, where it was asked for.
    """

    task: int
    token: int
    until_us: int
    queue: str
    decision: bytes
    row: int
    facts: Facts
    label: str | None
    request: bytes
    answer: bytes
    answer_by_us: int | None = None
    priority: int = 5
    due_us: int | None = None
    deciding: bool = False
    others: tuple[Truth, ...] = ()


@dataclass(frozen=True, slots=True)
class NothingForYou:
    """No task for this reviewer now, though `open_tasks` are open; zero of them: the queue is empty.

    `retry_us`: when the next lease of somebody else runs out; None when none will.
    """

    open_tasks: int
    retry_us: int | None = None


def lease(
    connection: sa.Connection,
    queue: str,
    reviewer: str,
    lease_us: int,
    now_us: int,
    rule: QueueRule = USUAL_QUEUE,
    dice: random.Random | None = None,
    shown: bool = False,
) -> Lease | NothingForYou:
    """Give the reviewer a task of the queue that is free and that they have not seen.

    Those that a caller waits for go first, whose time is up soonest before the others; then by priority, deadline and
    age. With the probability that the rule says it is one whose truth is known.

    Args:
        dice: decides about gold; none is given without it.
        shown: the reviewer also gets to see what the model and others said.
    """
    _clear_lapsed(connection, queue, now_us)
    me = mark(reviewer)
    row = connection.execute(_urgent(), {"queue": queue, "me": f"%{me}%", "now_us": now_us}).first()
    if row is None:
        row = _usual(connection, queue, me)
        if row is None:
            return _nothing(connection, queue, me, now_us)
        if dice is not None and rule.gold_share and dice.random() < rule.gold_share:
            known = gold.draw(connection, row._mapping, reviewer, rule, dice, now_us)
            if known is not None:
                return hand_over_gold(connection, known, reviewer, lease_us, now_us, shown=shown)
    return hand_over(connection, row, reviewer, lease_us, now_us, shown=shown)


def hand_over(
    connection: sa.Connection,
    row: sa.Row[*tuple[object, ...]],
    reviewer: str,
    lease_us: int,
    now_us: int,
    *,
    shown: bool,
) -> Lease:
    """Lease a task whose row is locked and joined; the view is on record."""
    found = row._mapping
    content = gold.Shown(
        facts_of(row),
        found[_decision.c.label],
        bytes(found[_capture.c.request]),
        bytes(found[_capture.c.answer]),
    )
    others: tuple[Truth, ...] = ()
    if shown and found[_task.c.stage] == Stage.DECIDE:
        standing = History(history(connection, found[_task.c.id])).standing(ANSWER)
        others = tuple(event.truth for event in standing)
    return _take(connection, found, content, reviewer, lease_us, now_us, shown, others)


def hand_over_gold(
    connection: sa.Connection, found: sa.RowMapping, reviewer: str, lease_us: int, now_us: int, *, shown: bool
) -> Lease:
    """Lease a gold task, which looks like any other."""
    content = gold.shown(connection, found)
    return _take(connection, found, content, reviewer, lease_us, now_us, shown)


def heartbeat(
    connection: sa.Connection, task: int, token: int, reviewer: str, lease_us: int, now_us: int
) -> int:
    """Extend a lease from now on; never shortens it. Returns: until when it is good.

    Raises: NotFound, no such task. LeaseLost: somebody else has it, it is answered, or was held for too long.
    """
    found = locked(connection, task)._mapping
    held(found, token, reviewer)
    last_us = found[_task.c.leased_us] + MAX_HOLD_US
    if now_us >= last_us:
        raise LeaseLost(f"task {task} was held for {MAX_HOLD_US // 3_600_000_000} hours; lease it again")
    until_us: int = max(found[_task.c.lease_until_us], min(now_us + lease_us, last_us))
    connection.execute(sa.update(_task).where(_task.c.id == task).values(lease_until_us=until_us))
    return until_us


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


def locked(connection: sa.Connection, task: int) -> sa.Row[*tuple[object, ...]]:
    """A task, and nobody else changes it until this transaction ends. Raises: NotFound."""
    # Numbers come from the wire without a sign; no task's is so large that it needs the last bit.
    row = None
    if 0 <= task < 2**63:
        query = sa.select(_task).where(_task.c.id == task).with_for_update()
        row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no review task {task}")
    return row


def held(found: sa.RowMapping, token: int, reviewer: str) -> None:
    """Raises: LeaseLost, unless the lease is the last one and the task is open."""
    task = found[_task.c.id]
    if found[_task.c.lease_token] != token or found[_task.c.reviewer] != reviewer:
        raise LeaseLost(f"the lease {token} of {reviewer!r} on task {task} was lost; lease another one")
    if found[_task.c.done_us] is not None:
        raise LeaseLost(f"task {task} is answered already; lease another one")


def _clear_lapsed(connection: sa.Connection, queue: str, now_us: int) -> None:
    """Free tasks whose lease has run out; the token stays, so that the last holder may still answer."""
    found = connection.execute(_lapsed(), {"queue": queue, "now_us": now_us}).scalars().all()
    if found:
        connection.execute(sa.update(_task).where(_task.c.id.in_(found)).values(lease_until_us=0))
    gold.forget_lapsed(connection, queue, now_us)


@cache
def _lapsed() -> sa.Select[Any]:
    """Tasks whose lease has run out. Parameters: queue, now_us.

    Statements are made once: making these anew took longer than the database does.
    """
    return (
        sa.select(_task.c.id)
        .where(
            _task.c.queue == sa.bindparam("queue"),
            sa.text("done_us IS NULL AND lease_until_us > 0"),
            _task.c.lease_until_us <= sa.bindparam("now_us"),
            _task.c.gold.is_(None),
        )
        .limit(MOST_LAPSED)
        .with_for_update(skip_locked=True)
    )


@cache
def _urgent() -> sa.Select[Any]:
    """The task that a caller waits for, whose time is up soonest. Parameters: queue, me (a pattern), now_us."""
    return (
        joined()
        .where(
            _task.c.queue == sa.bindparam("queue"),
            sa.text("done_us IS NULL AND urgent_until_us IS NOT NULL"),
            _task.c.urgent_until_us > sa.bindparam("now_us"),
            _task.c.lease_until_us == 0,
            _task.c.seen.not_like(sa.bindparam("me")),
        )
        .order_by(_task.c.urgent_until_us, _task.c.id)
        .limit(1)
        .with_for_update(of=_task, skip_locked=True)
    )


@cache
def _of_list() -> sa.Select[Any]:
    """The best of the free tasks with one list of marks. Parameters: queue, seen."""
    return (
        _of_queue()
        .where(_task.c.seen == sa.bindparam("seen"))
        .order_by(_task.c.priority, _task.c.due_us, _task.c.id)
    )


def _of_queue() -> sa.Select[Any]:
    free = joined().where(_task.c.queue == sa.bindparam("queue"), _free)
    return free.limit(1).with_for_update(of=_task, skip_locked=True)


def _usual(connection: sa.Connection, queue: str, me: str) -> sa.Row[*tuple[object, ...]] | None:
    """The first of the free tasks that the reviewer has not seen."""
    lists = connection.execute(heads(), {"queue": queue, "me": f"%{me}%"}).all()
    for found in lists:
        row = connection.execute(_of_list(), {"queue": queue, "seen": found.seen}).first()
        if row is not None:
            return row
    # More lists than were looked at: there may be one of others, further back.
    every = connection.execute(_LISTS, {"queue": queue}).scalar_one()
    if every < MOST_LISTS:
        return None
    unseen = _of_queue().where(_task.c.seen.not_like(sa.bindparam("me")))
    return connection.execute(unseen, {"queue": queue, "me": f"%{me}%"}).first()


def _lists() -> sa.CTE:
    """The distinct lists of a queue's free tasks, by one look into the index for each (a loose index scan)."""
    first = sa.select(sa.func.min(_task.c.seen)).where(_task.c.queue == sa.bindparam("queue"), _free)
    lists = sa.select(first.scalar_subquery().label("seen"), sa.literal(1).label("n")).cte(
        "lists", recursive=True
    )
    following = first.where(_task.c.seen > lists.c.seen).scalar_subquery()
    return lists.union_all(
        sa.select(following, lists.c.n + 1).where(lists.c.seen.is_not(None), lists.c.n < MOST_LISTS)
    )


@cache
def heads() -> sa.Select[Any]:
    """The lists that the reviewer is not in, in the order of the first task of each. Parameters: queue, me."""
    lists = _lists()
    head = _task.alias("head")
    first = (
        sa.select(_task.c.id)
        .where(_task.c.queue == sa.bindparam("queue"), _free, _task.c.seen == lists.c.seen)
        .order_by(_task.c.priority, _task.c.due_us, _task.c.id)
        .limit(1)
    )
    return (
        sa.select(lists.c.seen)
        .join(head, head.c.id == first.scalar_subquery())
        .where(lists.c.seen.is_not(None), lists.c.seen.not_like(sa.bindparam("me")))
        .order_by(head.c.priority, head.c.due_us, head.c.id)
    )


_LISTS: Final = sa.select(sa.func.count()).select_from(_lists())


def _nothing(connection: sa.Connection, queue: str, me: str, now_us: int) -> NothingForYou:
    leased = sa.text("done_us IS NULL AND lease_until_us > 0")
    free_again = sa.select(sa.func.min(_task.c.lease_until_us)).where(
        _task.c.queue == queue,
        leased,
        is_open(now_us),
        _task.c.gold.is_(None),
        ~_task.c.seen.contains(me),
    )
    still_open = count_open(connection, queue, now_us)
    return NothingForYou(still_open, connection.execute(free_again).scalar_one())


def count_open(connection: sa.Connection, queue: str, now_us: int) -> int:
    """Open tasks, one by one where they are few enough, else as they were added up."""
    some = (
        sa.select(_task.c.id)
        .where(_task.c.queue == queue, sa.text("done_us IS NULL"), is_open(now_us), _task.c.gold.is_(None))
        .limit(EXACT_UP_TO)
    )
    few = connection.execute(sa.select(sa.func.count()).select_from(some.subquery())).scalar_one()
    return few if few < EXACT_UP_TO else counts.read(connection, queue).get(queue, {}).get("open", few)


_GIVE: Final = sa.update(_task).where(_task.c.id == sa.bindparam("task"))


def _take(
    connection: sa.Connection,
    found: sa.RowMapping,
    content: gold.Shown,
    reviewer: str,
    lease_us: int,
    now_us: int,
    shown: bool,
    others: tuple[Truth, ...] = (),
) -> Lease:
    token, until_us = found[_task.c.lease_token] + 1, now_us + lease_us
    given = {"lease_token": token, "lease_until_us": until_us, "reviewer": reviewer, "leased_us": now_us}
    connection.execute(_GIVE, {"task": found[_task.c.id], **given})
    append(connection, found, VIEW, reviewer, now_us, token=token, blind=not shown)
    due_us = found[_task.c.due_us]
    return Lease(
        task=found[_task.c.id],
        token=token,
        until_us=until_us,
        queue=found[_task.c.queue],
        decision=bytes(found[_task.c.decision]),
        row=found[_task.c.row],
        facts=content.facts,
        label=content.label,
        request=content.request,
        answer=content.answer,
        answer_by_us=found[_task.c.urgent_until_us],
        priority=found[_task.c.priority],
        due_us=None if due_us >= schema.NEVER_US else due_us,
        deciding=found[_task.c.stage] == Stage.DECIDE,
        others=others,
    )
