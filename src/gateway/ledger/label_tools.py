"""Review tasks that lie in a label tool: where, and under which lease; `tool_answers` tells what is said about them.

A task that lies in a tool is leased to the tool's holder, a reviewer of that name, so nobody here gets it meanwhile.
When the lease has run out it is free for everybody; the holder may take it again if nobody else did, and it still lies
there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import review, schema

__all__ = [
    "Sent",
    "State",
    "forget",
    "is_task",
    "look_up",
    "mark_sent",
    "recall",
    "release",
    "sent",
    "take",
]

_task = schema.review_tasks
_sent = schema.tool_tasks
_answer = schema.tool_answers

_AT_ONCE: Final = 500  # ids in one IN (...): far below what any database takes
_AT_A_TIME: Final = 50  # leases in one transaction, which feedback waits for


class State(Enum):
    """What has become of a task that was sent."""

    OPEN = "open"
    """Under the holder's lease, or nobody's since."""
    ANSWERED = "answered"
    """By the tool."""
    LEASED = "leased"
    """By somebody else, who has not answered yet."""
    ELSEWHERE = "elsewhere"
    """Answered by somebody else."""
    GONE = "gone"
    """No longer kept: too old, or deleted for a person's sake."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A task in a tool. `remote`: its number there, None while it is not known whether it arrived.

    `sent_us`: when it was leased to be sent; microseconds since 1970.
    """

    decision: bytes
    row: int
    place: str
    queue: str
    task: int
    token: int
    remote: int | None
    sent_us: int
    state: State

    @property
    def key(self) -> tuple[bytes, int]:
        """Decision id and row."""
        return self.decision, self.row


def take(
    connection: sa.Connection,
    queue: str,
    holder: str,
    place: str,
    at_most: int,
    hold_us: int,
    now_us: int,
    *,
    again: bool = False,
) -> tuple[int, list[tuple[review.Lease, Sent]]]:
    """Lease some tasks of a queue for a tool, no more than it holds `at_most` with them.

    Args:
        again: what is known to lie there is sent once more.
    Returns: how many were leased; and those that are to be sent, with what their users are to see. They have no number
    there: until one is told by `mark_sent`, nobody knows whether they arrived.
    """
    mine = (_task.c.reviewer == holder, _task.c.lease_until_us > now_us)
    held = sa.select(sa.func.count()).select_from(_joined()).where(_sent.c.place == place, *_open(), *mine)
    room = min(at_most - connection.execute(held).scalar_one(), _AT_A_TIME)
    taken, new = 0, []
    for _ in range(room):
        leased = review.lease(connection, queue, holder, hold_us, now_us)
        if isinstance(leased, review.NothingForYou):
            break
        taken += 1
        before = look_up(connection, [(leased.decision, leased.row)])
        values: dict[str, Any] = {"queue": queue, "task": leased.task, "token": leased.token}
        if before and before[0].place == place:
            connection.execute(sa.update(_sent).where(*is_task(before[0])).values(values))
            if again:
                new.append((leased, replace(before[0], token=leased.token, state=State.OPEN)))
            continue
        forget(connection, before)
        values |= {"place": place, "remote": None, "sent_us": now_us}
        key = {"of_decision": leased.decision, "of_row": leased.row}
        connection.execute(sa.insert(_sent), {**key, **values})
        new.append((leased, Sent(leased.decision, leased.row, **values, state=State.OPEN)))
    return taken, new


def sent(
    connection: sa.Connection,
    place: str,
    states: Collection[State],
    *,
    limit: int,
    after: tuple[bytes, int] = (b"", -1),
    done_after_us: int = 0,
) -> list[Sent]:
    """Tasks that lie at a place, by decision and row, from after one on; answered ones only if not before a time."""
    wanted = {
        State.OPEN: sa.and_(*_open()),
        State.ANSWERED: sa.and_(_same(), _task.c.done_us >= done_after_us),
        State.LEASED: sa.and_(_task.c.lease_token != _sent.c.token, _task.c.done_us.is_(None)),
        State.ELSEWHERE: sa.and_(_task.c.lease_token != _sent.c.token, _task.c.done_us.is_not(None)),
        State.GONE: _task.c.id.is_(None),
    }
    further = sa.or_(
        _sent.c.of_decision > after[0], sa.and_(_sent.c.of_decision == after[0], _sent.c.of_row > after[1])
    )
    query = (
        _query()
        .where(_sent.c.place == place, further, sa.or_(*(wanted[state] for state in states)))
        .order_by(_sent.c.of_decision, _sent.c.of_row)
        .limit(limit)
    )
    return [_made(row) for row in connection.execute(query)]


def look_up(connection: sa.Connection, keys: Sequence[tuple[bytes, int]]) -> list[Sent]:
    """What was sent of these decisions and rows."""
    found = []
    wanted = set(keys)
    decisions = list({decision for decision, _ in keys})
    for start in range(0, len(decisions), _AT_ONCE):
        query = _query().where(_sent.c.of_decision.in_(decisions[start : start + _AT_ONCE]))
        found += [one for row in connection.execute(query) if (one := _made(row)).key in wanted]
    return found


def recall(
    connection: sa.Connection, place: str, *, remote: Sequence[int] = (), answers: Sequence[int] = ()
) -> list[Sent]:
    """Tasks by their number in the tool, or by the number of an answer that was looked at there."""
    by_answer = sa.exists().where(
        _answer.c.of_decision == _sent.c.of_decision,
        _answer.c.of_row == _sent.c.of_row,
        _answer.c.answer.in_(answers),
    )
    query = _query().where(_sent.c.place == place, sa.or_(_sent.c.remote.in_(remote), by_answer))
    return [_made(row) for row in connection.execute(query)]


def mark_sent(connection: sa.Connection, tasks: Sequence[Sent], remote: Sequence[int]) -> None:
    """They lie in the tool under these numbers."""
    for task, number in zip(tasks, remote, strict=True):
        connection.execute(sa.update(_sent).where(*is_task(task)).values(remote=number))


def release(connection: sa.Connection, tasks: Sequence[Sent], holder: str) -> None:
    """They did not get into the tool: whoever leases next may have them, the tool too."""
    for task in tasks:
        mine = (_task.c.id == task.task, _task.c.lease_token == task.token, _task.c.done_us.is_(None))
        connection.execute(sa.update(_task).where(*mine, _task.c.reviewer == holder).values(lease_until_us=0))
    forget(connection, tasks)


def forget(connection: sa.Connection, tasks: Sequence[Sent]) -> None:
    """They are not in the tool any more, or nobody looks there for them."""
    for task in tasks:
        at = (_answer.c.of_decision == task.decision, _answer.c.of_row == task.row)
        connection.execute(sa.delete(_answer).where(*at))
        connection.execute(sa.delete(_sent).where(*is_task(task)))


def is_task(task: Sent) -> tuple[sa.ColumnElement[bool], ...]:
    """The task's own row."""
    return (_sent.c.of_decision == task.decision, _sent.c.of_row == task.row)


def _same() -> sa.ColumnElement[bool]:
    return _task.c.lease_token == _sent.c.token


def _open() -> tuple[sa.ColumnElement[bool], ...]:
    return (_same(), _task.c.done_us.is_(None))


def _joined() -> sa.FromClause:
    # By decision as well: the number of a task that was deleted may be given again.
    same = (
        _task.c.id == _sent.c.task,
        _task.c.decision == _sent.c.of_decision,
        _task.c.row == _sent.c.of_row,
    )
    return _sent.outerjoin(_task, sa.and_(*same))


def _query() -> sa.Select[Any]:
    return sa.select(_sent, _task.c.id, _task.c.lease_token, _task.c.done_us).select_from(_joined())


def _made(row: sa.Row[Any]) -> Sent:
    found = row._mapping
    done = found[_task.c.done_us] is not None
    if found[_task.c.id] is None:
        state = State.GONE
    elif found[_task.c.lease_token] == found[_sent.c.token]:
        state = State.ANSWERED if done else State.OPEN
    else:
        state = State.ELSEWHERE if done else State.LEASED
    names = ("place", "queue", "task", "token", "remote", "sent_us")
    key = bytes(found[_sent.c.of_decision]), found[_sent.c.of_row]
    return Sent(*key, **{name: found[_sent.c[name]] for name in names}, state=state)
