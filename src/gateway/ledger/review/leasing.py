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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LeaseLost, NotFound
from gateway.ledger import schema
from gateway.ledger.labels import Facts, Truth
from gateway.ledger.review import finding, gold, taking
from gateway.ledger.review.events import ANSWER, VIEW, History, append, facts_of, history, mark
from gateway.ledger.review.rules import USUAL_QUEUE, QueueRule

__all__ = [
    "MAX_HOLD_US",
    "Lease",
    "NothingForYou",
    "Stage",
    "hand_over",
    "hand_over_gold",
    "heartbeat",
    "held",
    "lease",
    "locked",
]

MAX_HOLD_US: Final = 8 * 3_600_000_000
"""How long heartbeats keep a lease alive: a console that was left open holds its task for one working day."""

_task = schema.review_tasks
_decision = schema.decisions
_capture = schema.captures


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
    me = mark(reviewer)
    is_gold = dice is not None and rule.gold_share > 0.0 and dice.random() < rule.gold_share
    if not is_gold and connection.dialect.name == "postgresql":
        taken = taking.take(connection, queue, reviewer, me, lease_us, now_us, blind=not shown)
        if taken is not None:
            task = {column.name: taken[taking.TAKEN.c[column.name]] for column in _task.c}
            return _leased(connection, task, _content(taken), shown)
    finding.clear_lapsed(connection, queue, now_us)
    row = finding.urgent(connection, queue, me, now_us)
    if row is None:
        row = finding.usual(connection, queue, me)
        if row is None:
            return _nothing(connection, queue, me, now_us)
        if is_gold and dice is not None:
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
    return _take(connection, found, _content(found), reviewer, lease_us, now_us, shown)


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


def _nothing(connection: sa.Connection, queue: str, me: str, now_us: int) -> NothingForYou:
    free_again = sa.select(sa.func.min(_task.c.lease_until_us)).where(
        _task.c.queue == queue,
        finding.LEASED,
        finding.is_open(now_us),
        _task.c.gold.is_(None),
        ~_task.c.seen.contains(me),
    )
    still_open = finding.count_open(connection, queue, now_us)
    return NothingForYou(still_open, connection.execute(free_again).scalar_one())


_TAKE: Final = (
    sa.update(_task)
    .where(_task.c.id == sa.bindparam("number"))
    .values({name: sa.bindparam(name) for name in ("lease_token", "lease_until_us", "reviewer", "leased_us")})
)


def _take(
    connection: sa.Connection,
    found: sa.RowMapping,
    content: gold.Shown,
    reviewer: str,
    lease_us: int,
    now_us: int,
    shown: bool,
) -> Lease:
    token, until_us = found[_task.c.lease_token] + 1, now_us + lease_us
    values = {"lease_token": token, "lease_until_us": until_us, "reviewer": reviewer, "leased_us": now_us}
    connection.execute(_TAKE, {"number": found[_task.c.id], **values})
    append(connection, found, VIEW, reviewer, now_us, token=token, blind=not shown)
    task = {column.name: found[column] for column in _task.c}
    return _leased(connection, {**task, **values}, content, shown)


def _content(found: sa.RowMapping) -> gold.Shown:
    """What a joined row shows of the prediction."""
    return gold.Shown(
        facts_of(found),
        found[_decision.c.label],
        bytes(found[_capture.c.request]),
        bytes(found[_capture.c.answer]),
    )


def _leased(connection: sa.Connection, task: Mapping[str, Any], content: gold.Shown, shown: bool) -> Lease:
    """A task, by its columns' names, that the view is on record of."""
    others: tuple[Truth, ...] = ()
    if shown and task["stage"] == Stage.DECIDE and task["gold"] is None:
        standing = History(history(connection, task["id"])).standing(ANSWER)
        others = tuple(event.truth for event in standing)
    return Lease(
        task=task["id"],
        token=task["lease_token"],
        until_us=task["lease_until_us"],
        queue=task["queue"],
        decision=bytes(task["decision"]),
        row=task["row"],
        facts=content.facts,
        label=content.label,
        request=content.request,
        answer=content.answer,
        answer_by_us=task["urgent_until_us"],
        priority=task["priority"],
        due_us=None if task["due_us"] >= schema.NEVER_US else task["due_us"],
        deciding=task["stage"] == Stage.DECIDE,
        others=others,
    )
