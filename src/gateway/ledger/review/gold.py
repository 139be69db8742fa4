"""Tasks whose truth is known: mixed in among the others to see how often a reviewer is right, never counted as labels.

A gold task that is handed out is a task of its own, for one reviewer, with a made-up decision id: it has the time,
priority and deadline of the task whose turn it was, so that nothing tells it apart. Its payload was copied when it was
made, as that of the prediction itself is kept for some time only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from gateway.errors import LabelError, NotFound
from gateway.ledger import schema
from gateway.ledger.database import insert_once
from gateway.ledger.labels import REVIEW, Facts, Truth, superseded
from gateway.ledger.review import counts
from gateway.ledger.review.events import facts_of, packed, unpacked
from gateway.ledger.review.rules import QueueRule

__all__ = [
    "KEEP_LAPSED_US",
    "MOST_GOLD",
    "GoldTask",
    "Shown",
    "draw",
    "forget_lapsed",
    "listed",
    "make",
    "make_agreed",
    "retire",
    "shown",
    "truth_of_gold",
]

MOST_GOLD: Final = 1_000
"""Gold tasks of a queue; a reviewer sees each of them once."""

KEEP_LAPSED_US: Final = 24 * 3_600_000_000
"""How long one that was handed out and not answered waits for its reviewer after the lease has run out."""

_task = schema.review_tasks
_gold = schema.review_gold
_decision = schema.decisions
_event = schema.review_events
_label = schema.labels


@dataclass(frozen=True, slots=True)
class GoldTask:
    """A prediction whose truth is known. `retired_us`: since when it is handed out no more; None while it is."""

    id: int
    queue: str
    route: str
    decision: bytes
    row: int
    truth: Truth
    author: str
    created_us: int
    retired_us: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a gold task shows, as a task of its own would."""

    facts: Facts
    label: str | None
    request: bytes
    answer: bytes


def draw(
    connection: sa.Connection,
    neighbour: sa.RowMapping,
    reviewer: str,
    rule: QueueRule,
    dice: random.Random,
    now_us: int,
) -> sa.RowMapping | None:
    """A gold task instead of the one whose turn it is, not leased yet; None where the reviewer has seen them all."""
    queue = neighbour[_task.c.queue]
    given = sa.select(_task).where(
        sa.text("gold IS NOT NULL"), _task.c.reviewer == reviewer, _task.c.queue == queue
    )
    waiting = given.where(_task.c.done_us.is_(None), _task.c.lease_until_us <= now_us).limit(1)
    row = connection.execute(waiting).first()
    if row is None:
        number = _unseen(connection, queue, reviewer, dice)
        if number is None:
            return None
        made = _insert(connection, number, neighbour, reviewer, rule, dice)
        row = connection.execute(sa.select(_task).where(_task.c.id == made)).one()
    return row._mapping


def shown(connection: sa.Connection, found: sa.RowMapping) -> Shown:
    """What the gold task that was handed out as this task shows: its prediction, as old as the task says."""
    query = sa.select(_gold).where(_gold.c.id == found[_task.c.gold])
    known = connection.execute(query).one()._mapping
    facts, label = unpacked(known[_gold.c.facts])
    facts = replace(facts, time_us=found[_task.c.created_us])
    return Shown(facts, label, bytes(known[_gold.c.request]), bytes(known[_gold.c.answer]))


def forget_lapsed(connection: sa.Connection, queue: str, now_us: int) -> None:
    """Take away those that were handed out and not answered for long; what was shown stays on record."""
    lapsed = sa.delete(_task).where(
        _task.c.queue == queue,
        sa.text("done_us IS NULL AND lease_until_us > 0"),
        _task.c.lease_until_us <= now_us - KEEP_LAPSED_US,
        _task.c.gold.is_not(None),
    )
    counts.note(connection, queue, "open", -connection.execute(lapsed).rowcount)


def truth_of_gold(connection: sa.Connection, gold: int) -> tuple[str, Truth]:
    """The route of a gold task, and what is true of it."""
    row = connection.execute(
        sa.select(_gold.c.route, _gold.c.label, _gold.c.positive).where(_gold.c.id == gold)
    ).one()
    return row.route, Truth(row.label, row.positive)


def make(
    connection: sa.Connection, decision: bytes, row: int, truth: Truth | None, author: str, now_us: int
) -> bool:
    """Make a reviewed prediction gold, by the truth that is given, or by the label that reviews gave it.

    Returns: False where it is gold already. Raises: NotFound, nothing of it is kept, or no longer its payload.
    LabelError: nobody has said what is true of it; or the queue has as much gold as it may have.
    """
    query = (
        sa.select(_task, _decision, schema.captures.c.request, schema.captures.c.answer)
        .join(_decision, sa.and_(_decision.c.decision == _task.c.decision, _decision.c.row == _task.c.row))
        .join(schema.captures, schema.captures.c.decision == _task.c.decision)
        .where(_task.c.decision == decision, _task.c.row == row, _task.c.gold.is_(None))
    )
    found = connection.execute(query).first()
    if found is None:
        raise NotFound(
            f"no review task of decision {decision.hex()}, row {row}, is kept with its payload; take another one"
        )
    queue = found._mapping[_task.c.home]
    table = sa.select(sa.func.count()).select_from(_gold).where(_gold.c.queue == queue)
    if connection.execute(table.where(_gold.c.retired_us.is_(None))).scalar_one() >= MOST_GOLD:
        raise LabelError(
            "too_much_gold", f"queue {queue!r} has {MOST_GOLD} gold tasks, the most it may have; retire some"
        )
    truth = truth or _said(connection, decision, row)
    if truth is None:
        raise LabelError(
            "no_truth", f"nobody has reviewed decision {decision.hex()}, row {row}; say its label"
        )
    before = connection.execute(table).scalar_one()
    values = {
        "decision": decision,
        "row": row,
        "queue": queue,
        "label": truth.label,
        "positive": truth.positive,
        "author": author,
        "created_us": now_us,
        "unit": found._mapping[_decision.c.unit],
        "route": found._mapping[_decision.c.route],
        "facts": packed(facts_of(found._mapping), found._mapping[_decision.c.label]),
        "request": found._mapping[schema.captures.c.request],
        "answer": found._mapping[schema.captures.c.answer],
    }
    insert_once(connection, _gold, [values])
    return bool(connection.execute(table).scalar_one() > before)


def make_agreed(connection: sa.Connection, queue: str, most: int, author: str, now_us: int) -> int:
    """Make gold of the tasks of a queue on which reviewers agreed, the latest first. Returns: how many were made."""
    there = sa.exists().where(_gold.c.decision == _task.c.decision, _gold.c.row == _task.c.row)
    agreed = sa.exists().where(
        _label.c.decision == _task.c.decision,
        _label.c.row == _task.c.row,
        _label.c.source == REVIEW,
        _label.c.kind == "label",
        _label.c.agreement == 1.0,
        ~superseded(_label),  # they may have agreed once, and not any more
    )
    kept = sa.exists().where(schema.captures.c.decision == _task.c.decision)
    query = (
        sa.select(_task.c.decision, _task.c.row)
        .where(
            _task.c.home == queue,
            sa.text("done_us IS NOT NULL AND reviews > 1 AND gold IS NULL"),
            ~there,
            agreed,
            kept,
        )
        .order_by(_task.c.done_us.desc())
        .limit(most)
    )
    found = connection.execute(query).all()
    return sum(make(connection, bytes(row.decision), row.row, None, author, now_us) for row in found)


def retire(connection: sa.Connection, gold: int, now_us: int) -> None:
    """Hand it out no more; what reviewers said about it still counts. Raises: NotFound."""
    retired = sa.update(_gold).where(_gold.c.id == gold).values(retired_us=now_us)
    if not connection.execute(retired).rowcount:
        raise NotFound(f"there is no gold task {gold}")


def listed(connection: sa.Connection, queue: str | None = None) -> list[GoldTask]:
    """All of a queue, or of every queue, oldest first."""
    columns = [column for column in _gold.c if column.name not in ("request", "answer", "facts", "unit")]
    query = sa.select(*columns).order_by(_gold.c.queue, _gold.c.id)
    if queue is not None:
        query = query.where(_gold.c.queue == queue)
    return [
        GoldTask(
            row.id,
            row.queue,
            row.route,
            bytes(row.decision),
            row.row,
            Truth(row.label, row.positive),
            row.author,
            row.created_us,
            row.retired_us,
        )
        for row in connection.execute(query)
    ]


def _said(connection: sa.Connection, decision: bytes, row: int) -> Truth | None:
    """The label that reviews gave a prediction; None where there is none, or it was taken back."""
    query = (
        sa.select(_label.c.label, _label.c.positive)
        .where(
            _label.c.decision == decision,
            _label.c.row == row,
            _label.c.source == REVIEW,
            _label.c.kind == "label",
        )
        .order_by(_label.c.revision.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None or tuple(found) == (None, None) else Truth(*found)


def _unseen(connection: sa.Connection, queue: str, reviewer: str, dice: random.Random) -> int | None:
    """A gold task that the reviewer has not met, neither as gold nor before it was."""
    handed = sa.exists().where(
        sa.text("gold IS NOT NULL"), _task.c.gold == _gold.c.id, _task.c.reviewer == reviewer
    )
    met = sa.exists().where(
        _event.c.task == _task.c.id,
        _event.c.reviewer == reviewer,
        _task.c.decision == _gold.c.decision,
        _task.c.row == _gold.c.row,
    )
    of_queue = (_gold.c.queue == queue, _gold.c.retired_us.is_(None))
    ends = sa.select(sa.func.min(_gold.c.id), sa.func.max(_gold.c.id)).where(*of_queue)
    first, last = connection.execute(ends).one()
    if first is None:
        return None
    fresh = sa.select(_gold.c.id).where(*of_queue, ~handed, ~met).order_by(_gold.c.id).limit(1)
    start = dice.randint(first, last)
    found = connection.execute(fresh.where(_gold.c.id >= start)).scalar()
    return found if found is not None else connection.execute(fresh.where(_gold.c.id < start)).scalar()


def _insert(
    connection: sa.Connection,
    gold: int,
    neighbour: sa.RowMapping,
    reviewer: str,
    rule: QueueRule,
    dice: random.Random,
) -> int:
    row = connection.execute(sa.select(_gold.c.row).where(_gold.c.id == gold)).scalar_one()
    queue = neighbour[_task.c.queue]
    values = {
        "decision": _made_up(bytes(neighbour[_task.c.decision]), dice),
        "row": row,
        "queue": queue,
        "home": queue,
        "created_us": neighbour[_task.c.created_us],
        # Where tasks need several answers, the second reviewer of one gets a token that has grown before.
        "lease_token": dice.randrange(rule.reviews_required),
        "lease_until_us": 0,
        "reviewer": reviewer,
        "priority": neighbour[_task.c.priority],
        "due_us": neighbour[_task.c.due_us],
        "gold": gold,
    }
    counts.note(connection, queue, "open", 1)
    made: Sequence[int] = connection.execute(sa.insert(_task), values).inserted_primary_key or ()
    return made[0]


def _made_up(neighbour: bytes, dice: random.Random) -> bytes:
    """An id as if it had been made in the same millisecond (UUIDv7, RFC 9562): time, version and variant stay."""
    noise = dice.randbytes(16)
    mixed = bytearray(neighbour[:6] + noise[6:])
    mixed[6] = neighbour[6] & 0xF0 | noise[6] & 0x0F
    mixed[8] = neighbour[8] & 0xC0 | noise[8] & 0x3F
    return bytes(mixed)
