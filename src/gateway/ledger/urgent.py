"""Review tasks that a caller waits for: made when people are asked, and gone when nobody waits any more.

A task nobody has begun when its time is up is taken away with its payload: it was kept for an answer that would reach
nobody. One that a reviewer has begun stays for them to finish (a label is a label), but is leased to nobody else. What
people say about such a call is a label like any other review's, but in no sample: there is no prediction of a model
that it could be right or wrong about, and no probability it was chosen with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.labels import REVIEW
from gateway.ledger.review import counts
from gateway.types import Outcome

__all__ = ["KEEP_LATE_US", "Urgent", "answers", "ask", "expire", "is_waited_for"]

KEEP_LATE_US: Final = 3_600_000_000
"""How long a task that somebody has begun is kept after its time, and for as long as heartbeats keep its lease."""

AT_ONCE: Final = 500
"""Tasks that one query looks for."""

_task = schema.review_tasks
_decision = schema.decisions


@dataclass(frozen=True, slots=True)
class Urgent:
    """A call that people are asked about. `rows`: which of its rows are to be answered; `request`: redacted."""

    decision: bytes
    rows: Sequence[int]
    queue: str
    route: str
    backend: str
    segment: str
    unit: int
    policy: int
    time_us: int
    until_us: int
    request: bytes


def ask(connection: sa.Connection, asked: Urgent, now_us: int) -> list[int]:
    """Make a task for each row. Returns: their ids, by row. The transaction is the caller's.

    A question that is asked again, as a sidecar does when its control dies, has the tasks that it had.
    """
    rows = asked.rows
    there = _there(connection, asked)
    if there:
        still = sa.update(_task).where(_task.c.id.in_(there), _task.c.done_us.is_(None))
        connection.execute(still.values(urgent_until_us=asked.until_us))
        return there
    connection.execute(sa.insert(_decision), [_facts(asked, row) for row in rows])
    connection.execute(
        sa.insert(schema.captures),
        {"decision": asked.decision, "time_us": asked.time_us, "request": asked.request, "answer": b""},
    )
    connection.execute(
        sa.insert(_task),
        [
            {
                "decision": asked.decision,
                "row": row,
                "queue": asked.queue,
                "home": asked.queue,
                "created_us": now_us,
                "lease_token": 0,
                "lease_until_us": 0,
                "reviewer": "",
                "urgent_until_us": asked.until_us,
            }
            for row in rows
        ],
    )
    counts.note(connection, asked.queue, "open", len(rows))
    made = sa.select(_task.c.id).where(_task.c.decision == asked.decision).order_by(_task.c.row)
    return [int(task) for task in connection.execute(made).scalars()]


def answers(connection: sa.Connection, tasks: Sequence[int]) -> dict[int, str]:
    """Labels that reviewers gave to tasks, the first of each; those without one are left out."""
    label = schema.labels
    found: dict[int, str] = {}
    for some in _some(tasks):
        query = (
            sa.select(_task.c.id, label.c.label)
            .select_from(
                _task.join(label, sa.and_(label.c.decision == _task.c.decision, label.c.row == _task.c.row))
            )
            .where(
                _task.c.id.in_(some),
                label.c.source == REVIEW,
                label.c.kind == "label",
                label.c.label.is_not(None),
            )
            .order_by(label.c.revision.desc())
        )
        found.update({int(row.id): row.label for row in connection.execute(query)})
    return found


def is_waited_for(connection: sa.Connection, task: int, now_us: int) -> bool:
    """Whether a caller may still wait for the answer to a task."""
    until = sa.select(_task.c.urgent_until_us).where(_task.c.id == task, _task.c.done_us.is_(None))
    return (connection.execute(until).scalar_one_or_none() or 0) > now_us


def expire(connection: sa.Connection, decisions: Sequence[bytes], now_us: int) -> None:
    """Nobody waits for these any more; and what nobody has begun of all whose time is up is taken away."""
    still = (_task.c.urgent_until_us > now_us, _task.c.done_us.is_(None))
    if decisions:
        given_up = sa.update(_task).where(_task.c.decision.in_(decisions), *still)
        connection.execute(given_up.values(urgent_until_us=now_us))
    over = (_task.c.urgent_until_us <= now_us, _task.c.done_us.is_(None))
    late = sa.or_(_task.c.urgent_until_us > now_us - KEEP_LATE_US, _task.c.lease_until_us > now_us)
    begun = sa.and_(_task.c.reviewer != "", late)
    # Locked, so that no reviewer begins one meanwhile; those that another process is at are its own to count.
    found = connection.execute(
        sa.select(_task.c.id, _task.c.decision, _task.c.row, _task.c.queue)
        .where(*over, ~begun)
        .with_for_update(skip_locked=True)
    ).all()
    if not found:
        return
    connection.execute(
        sa.delete(_task).where(_task.c.id == sa.bindparam("task")), [{"task": row.id} for row in found]
    )
    for row in found:
        counts.note(connection, row.queue, "open", -1)
    keys = [{"of": row.decision, "at": row.row} for row in found]
    # The record of a call that went on to a model and was sampled there has taken the place of what was kept here.
    not_sampled = sa.delete(_decision).where(
        _decision.c.decision == sa.bindparam("of"),
        _decision.c.row == sa.bindparam("at"),
        ~_decision.c.sampled,
    )
    connection.execute(not_sampled, keys)
    unused = sa.delete(schema.captures).where(
        schema.captures.c.decision == sa.bindparam("of"),
        ~sa.exists().where(_task.c.decision == schema.captures.c.decision),
    )
    connection.execute(unused, [{"of": of} for of in {row.decision for row in found}])


def _there(connection: sa.Connection, asked: Urgent) -> list[int]:
    """The tasks of the same question, by row; none where it is not the same."""
    query = (
        sa.select(_task.c.id, _task.c.row)
        .where(
            _task.c.decision == asked.decision,
            _task.c.home == asked.queue,
            _task.c.urgent_until_us.is_not(None),
        )
        .order_by(_task.c.row)
    )
    found = connection.execute(query).all()
    return [int(row.id) for row in found] if [row.row for row in found] == list(asked.rows) else []


def _some(tasks: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(tasks), AT_ONCE):
        yield tasks[at : at + AT_ONCE]


def _facts(asked: Urgent, row: int) -> dict[str, Any]:
    return {
        "decision": asked.decision,
        "row": row,
        "time_us": asked.time_us,
        "policy": asked.policy,
        "route": asked.route,
        "backend": asked.backend,
        "segment": asked.segment,
        "outcome": int(Outcome.HUMAN),
        "reason": "ok",
        "review_pi": 0.0,
        "sampled": False,
        "propensity": 1.0,
        "unit": asked.unit,
    }
