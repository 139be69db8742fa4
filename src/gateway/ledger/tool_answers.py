"""Answers that were taken from a label tool.

An answer is written under the name of who gave it, whom the tool's holder hands its lease to; the lease's token decides
whose answer counts, as between any two reviewers. Each version of an answer is taken once: a tool that is read again
and again must not undo what somebody corrected here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LeaseLost
from gateway.ledger import review, schema
from gateway.ledger.label_tools import Sent, State, is_task
from gateway.ledger.labels import Kept, Truth
from gateway.ledger.review import finding, leasing
from gateway.ledger.review.events import mark
from gateway.ledger.review.rules import USUAL

__all__ = ["TAKEN_BACK", "Answered", "Known", "give_back", "known", "note", "submit", "undo"]

TAKEN_BACK: Final = "taken back"
"""The version of an answer that is not there any more."""

_AGAIN_US: Final = 3_600_000_000  # of what was taken back: until the next round holds it as any other

_task = schema.review_tasks
_sent = schema.tool_tasks
_answer = schema.tool_answers


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as a tool has it. `version` changes whenever the answer does."""

    answer: int
    version: str
    author: str


@dataclass(frozen=True, slots=True)
class Known:
    """An answer that was looked at before. `token`: of the lease it was taken under, None where it could not be.

    `skipped`: it was a skip and no label.
    """

    answer: int
    version: str
    author: str
    token: int | None
    skipped: bool = False


def known(connection: sa.Connection, task: Sent) -> dict[int, Known]:
    """The answers to a task that were looked at, by their number in the tool."""
    query = sa.select(_answer).where(_answer.c.of_decision == task.decision, _answer.c.of_row == task.row)
    return {
        row.answer: Known(row.answer, row.version, row.author, row.token, row.skipped)
        for row in connection.execute(query)
    }


def submit(
    connection: sa.Connection,
    task: Sent,
    holder: str,
    answered: Answered,
    truth: Callable[[str], Truth],
    now_us: int,
    before: Known | None = None,
    rules: review.ReviewRules = USUAL,
) -> Kept:
    """Keep an answer as its author's, and that this version was taken; with the last that is wanted there is a label.

    Args:
        rules: how many answers the queue wants.
        before: the same answer when it was looked at last; where it was taken, this corrects it.
    Raises: as `review.submit`; LeaseLost too, where the author has said something about the task before.
    """
    if before is not None and before.token is not None and before.skipped:
        task, before = undo(connection, task, holder, before, now_us, rules), None
    if before is not None and before.token is not None:
        token = before.token
    else:
        token = _hand_over(connection, task, holder, answered.author, now_us)
    kept = review.submit(connection, task.task, token, answered.author, truth, now_us, rules)
    note(connection, task, answered, token)
    return kept


def give_back(
    connection: sa.Connection,
    task: Sent,
    holder: str,
    reason: str,
    now_us: int,
    answered: Answered | None = None,
    before: Known | None = None,
    rules: review.ReviewRules = USUAL,
) -> None:
    """Skip a task, for the annotator who did, who does not get it again, or for the holder where it is nobody's answer.

    Args:
        before: the same answer when it was looked at last; a label is taken back first.
    Raises: as `review.skip`; LeaseLost too, where the author has said something about the task before.
    """
    if before is not None and before.token is not None and answered is not None:
        if before.skipped:
            note(connection, task, answered, before.token, skipped=True)
            return
        task = undo(connection, task, holder, before, now_us, rules)
    reviewer = holder if answered is None else answered.author
    token = _hand_over(connection, task, holder, reviewer, now_us)
    review.skip(connection, task.task, token, reviewer, reason, now_us, rules)
    if answered is not None:
        note(connection, task, answered, token, skipped=True)


def undo(
    connection: sa.Connection,
    task: Sent,
    holder: str,
    taken: Known,
    now_us: int,
    rules: review.ReviewRules = USUAL,
    hold_us: int = _AGAIN_US,
) -> Sent:
    """Take back an answer or a skip of the tool's; the task is the holder's again if it is nobody else's.

    Returns: the task under the lease that holds now.
    Raises: as `review.undo`.
    """
    assert taken.token is not None, "what was not taken cannot be taken back"
    leased = review.undo(connection, task.task, taken.token, taken.author, hold_us, now_us, rules)
    if leased is not None:
        task = replace(task, token=leased.token, state=State.OPEN)
        connection.execute(sa.update(_sent).where(*is_task(task)).values(token=leased.token))
        same = (_task.c.id == task.task, _task.c.lease_token == leased.token)
        connection.execute(sa.update(_task).where(*same).values(reviewer=holder))
    note(connection, task, Answered(taken.answer, TAKEN_BACK, taken.author), None)
    return task


def note(
    connection: sa.Connection, task: Sent, answered: Answered, token: int | None, *, skipped: bool = False
) -> None:
    """Remember that this version of an answer was looked at; `token`: of the lease under which it counts."""
    values: dict[str, Any] = {
        "version": answered.version,
        "author": answered.author,
        "token": token,
        "skipped": skipped,
    }
    key = (
        _answer.c.of_decision == task.decision,
        _answer.c.of_row == task.row,
        _answer.c.answer == answered.answer,
    )
    if not connection.execute(sa.update(_answer).where(*key).values(values)).rowcount:
        row = {"of_decision": task.decision, "of_row": task.row, "answer": answered.answer, **values}
        connection.execute(sa.insert(_answer), row)


def _hand_over(connection: sa.Connection, task: Sent, holder: str, reviewer: str, now_us: int) -> int:
    """Let the lease be theirs who answer: the holder's, or one of what nobody has. Returns: its token.

    Where somebody else has it, nothing is done, and the token is of no use.
    Raises: NotFound. LeaseLost, where they have said something about the task that stands: nobody counts as two.
    """
    found = leasing.locked(connection, task.task)._mapping
    if mark(reviewer) in found[_task.c.seen]:
        raise LeaseLost(
            f"{reviewer!r} has answered or skipped the task {task.task} before; what was said first counts"
        )
    if found[_task.c.lease_token] != task.token or found[_task.c.done_us] is not None:
        return task.token
    if found[_task.c.reviewer] == holder:
        connection.execute(sa.update(_task).where(_task.c.id == task.task).values(reviewer=reviewer))
    elif not found[_task.c.reviewer] and found[_task.c.queue] == task.queue:
        row = connection.execute(finding.joined().where(_task.c.id == task.task)).first()
        if row is not None:
            leased = leasing.hand_over(connection, row, reviewer, _AGAIN_US, now_us, shown=False)
            connection.execute(sa.update(_sent).where(*is_task(task)).values(token=leased.token))
            return leased.token
    return task.token
