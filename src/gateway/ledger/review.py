"""The review queue: who has which task, until when, and what was answered.

A lease has a token that grows with every lease of its task: an answer is taken only under the last one, so of
two people who both believe they hold a task one is refused, whatever their clocks say. A lease that ran out
while nobody else took the task is still the last one: work that was done is not thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.errors import LeaseLost, NotFound
from gateway.ledger import schema
from gateway.ledger.labels import REVIEW, Facts, Kept, LabelRow, Truth, keep
from gateway.ledger.urgent import is_open

__all__ = ["Lease", "NothingForYou", "QueueStats", "find_facts", "lease", "skip", "stats", "submit"]

_task = schema.review_tasks
_decision = schema.decisions
_skip = schema.review_skips


@dataclass(frozen=True, slots=True)
class Lease:
    """A task and the right to answer it. `request`, `answer`: the captured messages, redacted.

    `answer_by_us`: until when a caller waits for the answer; None where none does.
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


@dataclass(frozen=True, slots=True)
class NothingForYou:
    """No task for this reviewer now, though `open_tasks` are open; zero of them: the queue is empty.

    `retry_us`: when the next lease of somebody else runs out; None when none will.
    """

    open_tasks: int
    retry_us: int | None = None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Tasks of a queue; `open_tasks` has the leased ones in it. `oldest_us`: when the oldest open one was made."""

    queue: str
    open_tasks: int
    leased: int
    done: int
    skips: int
    oldest_us: int | None


def lease(
    connection: sa.Connection, queue: str, reviewer: str, lease_us: int, now_us: int
) -> Lease | NothingForYou:
    """Give the reviewer a task of the queue that is free and that they did not skip.

    Those that a caller waits for go first, whose time is up soonest before the others; then the oldest.
    """
    skipped = sa.exists().where(_skip.c.task == _task.c.id, _skip.c.reviewer == reviewer)
    mine = (_task.c.queue == queue, _task.c.done_us.is_(None), ~skipped)
    free = (
        sa.select(_task, _decision, schema.captures.c.request, schema.captures.c.answer)
        .join(_decision, sa.and_(_decision.c.decision == _task.c.decision, _decision.c.row == _task.c.row))
        .join(schema.captures, schema.captures.c.decision == _task.c.decision)
        .where(*mine, _task.c.lease_until_us <= now_us)
        .limit(1)
        .with_for_update(of=_task, skip_locked=True)
    )
    urgent = free.where(_task.c.urgent_until_us > now_us).order_by(_task.c.urgent_until_us, _task.c.id)
    usual = free.where(_task.c.urgent_until_us.is_(None)).order_by(_task.c.id)
    row = connection.execute(urgent).first() or connection.execute(usual).first()
    if row is None:
        free_again = sa.select(sa.func.min(_task.c.lease_until_us)).where(
            *mine, is_open(now_us), _task.c.lease_until_us > now_us
        )
        still_open = sa.select(sa.func.count()).select_from(_task).where(*mine[:2], is_open(now_us))
        return NothingForYou(
            connection.execute(still_open).scalar_one(), connection.execute(free_again).scalar_one()
        )
    found = row._mapping
    token, until_us = found[_task.c.lease_token] + 1, now_us + lease_us
    connection.execute(
        sa.update(_task)
        .where(_task.c.id == found[_task.c.id])
        .values(lease_token=token, lease_until_us=until_us, reviewer=reviewer)
    )
    return Lease(
        task=found[_task.c.id],
        token=token,
        until_us=until_us,
        queue=queue,
        decision=bytes(found[_task.c.decision]),
        row=found[_task.c.row],
        facts=facts_of(row),
        label=found[_decision.c.label],
        request=bytes(found[schema.captures.c.request]),
        answer=bytes(found[schema.captures.c.answer]),
        answer_by_us=found[_task.c.urgent_until_us],
    )


def submit(
    connection: sa.Connection,
    task: int,
    token: int,
    reviewer: str,
    truth: Callable[[str], Truth],
    now_us: int,
) -> Kept:
    """Keep a reviewer's answer as a label of source `review`, and close the task.

    Args:
        truth: makes of the task's route what was said; may raise LabelError.
    Raises: NotFound, no such task. LeaseLost, somebody else has it.
    """
    _possible(task)
    row = connection.execute(
        sa.select(_task, _decision)
        .join(_decision, sa.and_(_decision.c.decision == _task.c.decision, _decision.c.row == _task.c.row))
        .where(_task.c.id == task)
        .with_for_update(of=_task)
    ).first()
    found = _held(row, task, token, reviewer)
    facts = facts_of(found)
    label = LabelRow(
        decision=bytes(found._mapping[_task.c.decision]),
        row=found._mapping[_task.c.row],
        source=REVIEW,
        truth=truth(facts.route),
        facts=facts,
        received_us=now_us,
        author=reviewer,
    )
    [kept] = keep(connection, [label])
    if kept is not Kept.DUPLICATE:
        connection.execute(sa.update(_task).where(_task.c.id == task).values(done_us=now_us))
    return kept


def skip(connection: sa.Connection, task: int, token: int, reviewer: str, reason: str, now_us: int) -> None:
    """Give a task back for good; sent twice it counts once.

    Raises: NotFound, no such task. LeaseLost, somebody else has it or it is answered.
    """
    _possible(task)
    before = sa.select(_skip.c.task).where(_skip.c.task == task, _skip.c.reviewer == reviewer)
    if connection.execute(before).first() is not None:
        return
    row = connection.execute(sa.select(_task).where(_task.c.id == task).with_for_update()).first()
    if _held(row, task, token, reviewer)._mapping[_task.c.done_us] is not None:
        raise LeaseLost(f"task {task} is answered already; it cannot be skipped")
    values = {"task": task, "reviewer": reviewer, "reason": reason, "time_us": now_us}
    connection.execute(sa.insert(_skip), values)
    # Without a reviewer no answer fits the lease any more, though its token is still the last one.
    connection.execute(sa.update(_task).where(_task.c.id == task).values(lease_until_us=0, reviewer=""))


def stats(connection: sa.Connection, queue: str | None, now_us: int) -> list[QueueStats]:
    """One row a queue that ever had a task, by name."""
    open_now = sa.and_(_task.c.done_us.is_(None), is_open(now_us))
    skips = sa.select(sa.func.count()).select_from(_skip.join(_task, _task.c.id == _skip.c.task))
    query = (
        sa.select(
            _task.c.queue,
            _count(open_now),
            _count(sa.and_(open_now, _task.c.lease_until_us > now_us)),
            _count(_task.c.done_us.is_not(None)),
            sa.func.min(sa.case((open_now, _task.c.created_us))),
        )
        .group_by(_task.c.queue)
        .order_by(_task.c.queue)
    )
    if queue is not None:
        query = query.where(_task.c.queue == queue)
    found = []
    for name, open_tasks, leased, done, oldest_us in connection.execute(query).all():
        skipped = connection.execute(skips.where(_task.c.queue == name)).scalar_one()
        found.append(QueueStats(name, open_tasks, leased, done, skipped, oldest_us))
    return found


def find_facts(
    connection: sa.Connection, wanted: Sequence[tuple[bytes, int]]
) -> dict[tuple[bytes, int], Facts]:
    """Facts of the decisions that were kept, by id and row."""
    found = {}
    ids = list({decision for decision, _ in wanted})
    for start in range(0, len(ids), 500):
        query = sa.select(_decision).where(_decision.c.decision.in_(ids[start : start + 500]))
        for row in connection.execute(query):
            found[bytes(row._mapping[_decision.c.decision]), row._mapping[_decision.c.row]] = facts_of(row)
    return {key: found[key] for key in wanted if key in found}


def facts_of(row: sa.Row[*tuple[object, ...]]) -> Facts:
    """A decision's row, joined with what else, as facts."""
    found = row._mapping
    names = "time_us policy route backend segment outcome score flagged review_pi sampled arm propensity"
    return Facts(**{name: found[_decision.c[name]] for name in names.split()})


def _possible(task: int) -> None:
    """Numbers come from the wire without a sign; no task's is so large that it needs the last bit."""
    if not 0 <= task < 2**63:
        raise NotFound(f"there is no review task {task}")


def _held(
    row: sa.Row[*tuple[object, ...]] | None, task: int, token: int, reviewer: str
) -> sa.Row[*tuple[object, ...]]:
    """The task, if the lease is the last one."""
    if row is None:
        raise NotFound(f"there is no review task {task}")
    found = row._mapping
    if found[_task.c.lease_token] != token or found[_task.c.reviewer] != reviewer:
        raise LeaseLost(f"the lease {token} of {reviewer!r} on task {task} was lost; lease another one")
    return row


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """How many rows meet a condition; COUNT skips NULL, and FILTER is not in every SQLite."""
    return sa.func.count(sa.case((condition, 1)))
