"""How a queue stands, how far its reviewers agree, and how often each of them is right.

What is asked all the time is read from running counts and from indexes over the few rows that are meant; what would be
many rows is counted up to a bound that has a name.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.labels import Truth
from gateway.ledger.review import counts, gold
from gateway.ledger.review.events import ANSWER, SKIP, UNDO, same
from gateway.ledger.review.finding import count_open, is_open
from gateway.ledger.review.leasing import Stage
from gateway.quality.agreement import Agreement, cohen_kappa, fleiss_kappa
from gateway.quality.intervals import wilson_interval

__all__ = ["COUNTED_UP_TO", "MOST_COMPARED", "Accuracy", "QueueStats", "accuracy", "agreement", "stats"]

COUNTED_UP_TO: Final = 10_000
"""Leased, disputed, skipped and late tasks are counted up to here, and told as that many where there are more."""

MOST_COMPARED: Final = 2_000
"""Agreement is that of the last so many tasks with several answers."""

_task = schema.review_tasks
_event = schema.review_events


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Tasks of a queue; `open_tasks` has the leased ones in it. `oldest_us`: when the oldest open one was made.

    Of the open ones: `disputed`, reviewers disagreed or would not judge, and somebody else settles it; `skipped`, one
    reviewer at least gave it back; `aside`, so many have seen it that it is given to nobody; `overdue`, past its
    deadline. All four and `leased` up to COUNTED_UP_TO.
    """

    queue: str
    open_tasks: int
    leased: int
    done: int
    skips: int
    oldest_us: int | None
    disputed: int = 0
    skipped: int = 0
    aside: int = 0
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How one reviewer did on a queue's gold. `low`, `high`: Wilson's 95 % interval; all None without an answer."""

    queue: str
    reviewer: str
    answers: int
    right: int
    skips: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


def stats(connection: sa.Connection, queue: str | None, now_us: int) -> list[QueueStats]:
    """One row a queue that has or had tasks, by name; not where all that it had was taken away."""
    return [
        _queue_stats(connection, name, counted, now_us)
        for name, counted in counts.read(connection, queue).items()
        if counted.get("open") or counted.get("done")
    ]


def agreement(connection: sa.Connection, queue: str) -> Agreement | None:
    """How far the reviewers of a queue agree, on the last tasks that several of them answered blind.

    Cohen's kappa where there were two of them; Fleiss' where there were more. Before anybody settled the disagreements.
    Returns: None where no task has several answers.
    """
    recent = (
        sa.select(_task.c.id)
        .where(_task.c.home == queue, sa.text("done_us IS NOT NULL AND reviews > 1 AND gold IS NULL"))
        .order_by(_task.c.done_us.desc())
        .limit(MOST_COMPARED)
    )
    said = _said(connection, _event.c.task.in_(recent))
    rows = [answers for answers in said.values() if len(answers) > 1]
    if not rows:
        return None
    reviewers = sorted({reviewer for answers in rows for reviewer in answers})
    names = sorted({_category(truth) for answers in rows for truth in answers.values()})
    number = {name: index for index, name in enumerate(names)}
    if len(reviewers) == 2:
        one, other = (
            np.array([number[_category(answers[name])] for answers in rows], dtype=np.int64)
            for name in reviewers
        )
        return cohen_kappa(one, other, len(names))
    table = np.zeros((len(rows), len(names)), dtype=np.int64)
    for at, answers in enumerate(rows):
        for truth in answers.values():
            table[at, number[_category(truth)]] += 1
    return fleiss_kappa(table)


def accuracy(connection: sa.Connection, queue: str | None = None) -> list[Accuracy]:
    """By queue and reviewer, how many gold tasks were answered right; what was said after a look does not count."""
    query = sa.select(_task.c.id, _task.c.queue, _task.c.reviewer, _task.c.gold).where(
        sa.text("gold IS NOT NULL"), _task.c.done_us.is_not(None)
    )
    if queue is not None:
        query = query.where(_task.c.queue == queue)
    handed = connection.execute(query).all()
    done = sa.select(_task.c.id).where(sa.text("gold IS NOT NULL"), _task.c.done_us.is_not(None))
    said = _said(connection, _event.c.task.in_(done))
    truths = {known.id: known.truth for known in gold.listed(connection, queue)}
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in handed:
        truth = said.get(row.id, {}).get(row.reviewer)
        at = sums[row.queue, row.reviewer]
        if truth is None:
            at[2] += 1
        else:
            at[0] += 1
            at[1] += same(truth, truths[row.gold])
    return [_accuracy(*key, *sums[key]) for key in sorted(sums)]


def _accuracy(queue: str, reviewer: str, answers: int, right: int, skips: int) -> Accuracy:
    if not answers:
        return Accuracy(queue, reviewer, 0, 0, skips)
    low, high = wilson_interval(right, answers)
    return Accuracy(queue, reviewer, answers, right, skips, right / answers, low, high)


def _queue_stats(connection: sa.Connection, queue: str, counted: dict[str, int], now_us: int) -> QueueStats:
    of_queue = _task.c.queue == queue
    waits = sa.text("done_us IS NULL")
    leased = (sa.text("done_us IS NULL AND lease_until_us > 0"), _task.c.lease_until_us > now_us)
    stuck = sa.text("done_us IS NULL AND (stage > 0 OR skips > 0)")
    due = sa.text(f"done_us IS NULL AND due_us < {schema.NEVER_US}")
    ours = _task.c.gold.is_(None)
    oldest = (
        sa.select(_task.c.created_us)
        .where(of_queue, waits, is_open(now_us), ours)
        .order_by(_task.c.created_us)
        .limit(1)
    )
    handed = _up_to(connection, of_queue, *leased, ~ours)
    return QueueStats(
        queue,
        # Gold that somebody holds looks like a task here too.
        open_tasks=count_open(connection, queue, now_us) + handed,
        leased=_up_to(connection, of_queue, *leased, is_open(now_us)),
        done=counted.get("done", 0),
        skips=counted.get("skips", 0),
        oldest_us=connection.execute(oldest).scalar(),
        disputed=_up_to(connection, of_queue, stuck, _task.c.stage == Stage.DECIDE, ours),
        skipped=_up_to(connection, of_queue, stuck, _task.c.skips > 0, ours),
        aside=_up_to(connection, of_queue, stuck, _task.c.stage == Stage.ASIDE, ours),
        overdue=_up_to(connection, of_queue, due, _task.c.due_us < now_us, ours),
    )


def _up_to(connection: sa.Connection, *conditions: sa.ColumnElement[bool] | sa.TextClause) -> int:
    some = sa.select(_task.c.id).where(*conditions).limit(COUNTED_UP_TO).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def _said(connection: sa.Connection, tasks: sa.ColumnElement[bool]) -> dict[int, dict[str, Truth]]:
    """By task and reviewer, the last answer that was given before anything was shown."""
    columns = (_event.c.task, _event.c.reviewer, _event.c.kind, _event.c.label, _event.c.positive)
    query = sa.select(*columns, _event.c.blind).where(tasks, _event.c.kind.in_((ANSWER, SKIP, UNDO)))
    found: dict[int, dict[str, Truth]] = defaultdict(dict)
    for task, reviewer, kind, label, positive, unseen in connection.execute(query.order_by(_event.c.id)):
        if kind != ANSWER:
            found[task].pop(reviewer, None)
        elif unseen:
            found[task][reviewer] = Truth(label, positive)
    return found


def _category(truth: Truth) -> str:
    """What an answer is compared as."""
    return truth.label if truth.label is not None else f"positive={truth.positive}"
