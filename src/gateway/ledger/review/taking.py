"""A lease in one statement, for PostgreSQL: each further one would be a round trip to the server.

It does what `leasing.lease` does step by step, where nothing is out of the ordinary: no lease has run out, and the
first of the free tasks can be had. Where something is, it takes nothing, and the steps are gone through one by one.
SQLite has no statement that changes two tables, nor round trips to spare.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.review import counts, gold
from gateway.ledger.review.events import VIEW
from gateway.ledger.review.finding import LEASED, joined, lists

__all__ = ["TAKEN", "take"]

AT_A_TIME: Final = 10
"""Free tasks that are looked at; beyond, as many reviewers lease at this very moment, or their records are gone."""

_task = schema.review_tasks
_event = schema.review_events
_decision = schema.decisions
_capture = schema.captures

_free = sa.text(schema.FREE)
_NOW: Final = sa.bindparam("now_us", type_=sa.BigInteger)
_QUEUE: Final = sa.bindparam("of_queue", type_=sa.Text)
_REVIEWER: Final = sa.bindparam("reviewer_name", type_=sa.Text)
_UNSEEN: Final = sa.bindparam("unseen", type_=sa.Text)


def take(
    connection: sa.Connection,
    queue: str,
    reviewer: str,
    me: str,
    lease_us: int,
    now_us: int,
    *,
    blind: bool,
) -> sa.RowMapping | None:
    """Lease the task whose turn it is, and note the view; None where it takes a closer look.

    Args:
        me: the mark of the reviewer.
    Returns: the task as it is now (by `TAKEN`), its decision, `request` and `answer`.
    """
    values = {
        "of_queue": queue,
        "reviewer_name": reviewer,
        "unseen": f"%{me}%",
        "now_us": now_us,
        "until_us": now_us + lease_us,
        "blind_view": blind,
    }
    found = connection.execute(_TAKE, values).first()
    if found is None:
        return None
    counts.note(connection, queue, VIEW + "s", 1)
    return found._mapping


def _lapsed() -> sa.Exists:
    """Whether a lease of the queue has run out that `finding.clear_lapsed` would clear."""
    forgotten = _task.c.lease_until_us <= _NOW - sa.literal_column(str(gold.KEEP_LAPSED_US))
    return (
        sa.select(_task.c.id)
        .where(_task.c.queue == _QUEUE, LEASED, _task.c.lease_until_us <= _NOW)
        .where(sa.or_(_task.c.gold.is_(None), forgotten))
        .exists()
    )


def _urgent() -> sa.CTE:
    """As `finding.urgent`."""
    return (
        joined()
        .with_only_columns(_task.c.id)
        .where(
            _task.c.queue == _QUEUE,
            sa.text("done_us IS NULL AND urgent_until_us IS NOT NULL"),
            _task.c.urgent_until_us > _NOW,
            _task.c.lease_until_us == sa.literal_column("0"),
            _task.c.seen.not_like(_UNSEEN),
            ~_lapsed(),
        )
        .order_by(_task.c.urgent_until_us, _task.c.id)
        .limit(sa.literal_column("1"))
        .with_for_update(of=_task, skip_locked=True)
        .cte("urgent_one")
    )


def _usual(urgent: sa.CTE) -> sa.CTE:
    """As `finding.usual`, of the list that goes first."""
    of, head, few = lists(), _task.alias("head"), _task.alias("few")
    order = ("priority", "due_us", "id")
    first = (
        sa.select(_task.c.id)
        .where(_task.c.queue == _QUEUE, _free, _task.c.seen == of.c.seen)
        .order_by(*(_task.c[name] for name in order))
        .limit(sa.literal_column("1"))
    )
    best = (
        sa.select(of.c.seen)
        .join(head, head.c.id == first.scalar_subquery())
        .where(of.c.seen.is_not(None), of.c.seen.not_like(_UNSEEN))
        .order_by(*(head.c[name] for name in order))
        .limit(sa.literal_column("1"))
    )
    some = (
        sa.select(few.c.id)
        .where(few.c.queue == _QUEUE, _free, few.c.seen == best.scalar_subquery())
        .order_by(*(few.c[name] for name in order))
        .limit(sa.literal_column(str(AT_A_TIME)))
    )
    nothing_urgent = ~sa.select(urgent.c.id).exists()
    return (
        joined()
        .with_only_columns(_task.c.id)
        # Said once more, for a task that somebody has changed since: the row is looked at again when it is locked.
        .where(_task.c.queue == _QUEUE, _free, _task.c.seen.not_like(_UNSEEN))
        .where(_task.c.id.in_(some), nothing_urgent, ~_lapsed())
        .order_by(*(_task.c[name] for name in order))
        .limit(sa.literal_column("1"))
        .with_for_update(of=_task, skip_locked=True)
        .cte("usual_one")
    )


def _taken() -> sa.CTE:
    urgent = _urgent()
    usual = _usual(urgent)
    chosen = sa.union_all(sa.select(urgent.c.id), sa.select(usual.c.id)).scalar_subquery()
    return (
        sa.update(_task)
        .where(_task.c.id == chosen)
        .values(
            lease_token=_task.c.lease_token + sa.literal_column("1"),
            lease_until_us=sa.bindparam("until_us", type_=sa.BigInteger),
            reviewer=_REVIEWER,
            leased_us=_NOW,
        )
        .returning(*_task.c)
        .cte("taken")
    )


TAKEN: Final = _taken()
"""The task that was leased, as it is now."""


def _take() -> sa.Select[Any]:
    view = {
        "task": TAKEN.c.id,
        "time_us": _NOW,
        "kind": sa.literal_column(f"'{VIEW}'"),
        "reviewer": _REVIEWER,
        "token": TAKEN.c.lease_token,
        "blind": sa.bindparam("blind_view", type_=sa.Boolean),
    }
    viewed = sa.insert(_event).from_select(list(view), sa.select(*view.values())).cte("viewed")
    same_row = sa.and_(_decision.c.decision == TAKEN.c.decision, _decision.c.row == TAKEN.c.row)
    return (
        sa.select(*TAKEN.c, *_decision.c, _capture.c.request, _capture.c.answer)
        .select_from(TAKEN)
        .join(_decision, same_row)
        .join(_capture, _capture.c.decision == TAKEN.c.decision)
        .add_cte(viewed)
    )


_TAKE: Final = _take()
