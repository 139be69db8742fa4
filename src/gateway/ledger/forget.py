"""A person's right: everything that can be found of one unit is taken away, in one transaction that the trail tells of.

A unit is known by its salted hash, which stands in the decisions that were kept. So what belongs to one is found by
those: their payloads, review tasks, and labels. What a person themselves said as a caller or reviewer stays, without
their name: in what happened to review tasks a made-up one stands in its place, since answers of one person belong
together, and what was answered must not look unanswered. Who did what to the gateway stays on the audit trail and with
the policies. Not to be found: labels by receipt about decisions that were never kept (nothing in them says whose
they are), and tallies, which are sums over many.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.ledger import audit, label_tally, schema
from gateway.ledger.locks import lock_labels
from gateway.ledger.removal import AT_ONCE, chunks, remove_gold, remove_tasks
from gateway.ledger.review.events import mark

__all__ = ["Authored", "Forgotten", "find_authored", "forget"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken away of a unit, in rows.

    `authored`: labels whose author's name was taken out. `renamed`: what else had it: events of review tasks, leases,
    gold, answers of label tools, and feedback that waits.
    """

    decisions: int
    captures: int
    open_tasks: int
    closed_tasks: int
    labels: int
    others: int
    authored: int
    renamed: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Authored:
    """Where a name stands, by the rows' ids. `met`: tasks whose list of those who have seen them has its mark."""

    name: str = ""
    labels: Sequence[int] = ()
    events: Sequence[int] = ()
    tasks: Sequence[int] = ()
    met: Sequence[int] = ()


def find_authored(connection: sa.Connection, name: str) -> Authored:
    """What has this name; reads all labels and reviews, so it is asked of a reader."""
    label, event, task = schema.labels, schema.review_events, schema.review_tasks
    if not name:  # which stands where there is nobody
        return Authored()

    def ids(column: sa.Column[int], where: sa.ColumnElement[bool]) -> Sequence[int]:
        return connection.execute(sa.select(column).where(where).distinct()).scalars().all()

    return Authored(
        name,
        labels=ids(label.c.id, label.c.author == name),
        events=ids(event.c.id, event.c.reviewer == name),
        tasks=ids(task.c.id, task.c.reviewer == name),
        met=ids(event.c.task, event.c.reviewer == name),
    )


def forget(connection: sa.Connection, unit: int, authored: Authored, *, actor: str, now_us: int) -> Forgotten:
    """Take away what there is of a unit. The transaction is the caller's.

    Args:
        unit: its salted hash, as it stands in `decisions`. authored: what to take the name of its author out of.
    """
    if connection.dialect.name == "sqlite":
        # What is deleted is overwritten, else it could still be read in the file.
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    label = schema.labels
    held = (schema.decisions, schema.review_gold)  # a copy may outlive its decision
    by_unit = sa.union(*(sa.select(table.c.decision).where(table.c.unit == unit) for table in held))
    found = [bytes(row[0]) for row in connection.execute(by_unit)]
    lock_labels(connection, alone=True)
    label_tally.take_out(connection, label_tally.last_said(connection, found))
    removed = (remove_gold(connection, found), remove_tasks(connection, found))
    open_tasks, closed_tasks = (sum(counts) for counts in zip(*removed, strict=True))
    gone = dict.fromkeys(("decisions", "captures", "labels", "others"), 0)
    for table in schema.metadata.sorted_tables:
        if "decision" not in table.c or table is schema.review_tasks:
            continue
        what = table.name if table.name in gone else "others"
        for some in chunks(found):
            gone[what] += connection.execute(sa.delete(table).where(table.c.decision.in_(some))).rowcount
    done = Forgotten(
        open_tasks=open_tasks,
        closed_tasks=closed_tasks,
        authored=_put(connection, label.c.author, authored.labels, ""),
        renamed=_rename(connection, authored),
        **gone,
    )
    audit.note(
        connection,
        time_us=now_us,
        actor=actor,
        action="unit.forget",
        subject="a unit",  # its hash would say, to whoever knows the salt, that this person was here
        **done.as_dict(),
    )
    return done


def _rename(connection: sa.Connection, authored: Authored) -> int:
    """Take a name out of all but labels. Returns: rows."""
    if not authored.name:
        return 0
    event, task = schema.review_events, schema.review_tasks
    nobody = f"forgotten-{secrets.token_hex(8)}"  # random: whoever knows the name cannot try it
    renamed = _put(connection, event.c.reviewer, authored.events, nobody)
    renamed += _put(connection, task.c.reviewer, authored.tasks, nobody)
    old, new = mark(authored.name), mark(nobody)
    for start in range(0, len(authored.met), AT_ONCE):
        some = task.c.id.in_(authored.met[start : start + AT_ONCE])
        for row in connection.execute(sa.select(task.c.id, task.c.seen).where(some, task.c.seen != "")).all():
            stand = (row.seen[at : at + len(old)] for at in range(0, len(row.seen), len(old)))
            seen = "".join(sorted(new if one == old else one for one in stand))
            if seen != row.seen:
                connection.execute(sa.update(task).where(task.c.id == row.id).values(seen=seen))
    # An answer of a label tool is taken back under the name that its event has.
    for table, instead in (
        (schema.tool_answers, nobody),
        (schema.review_gold, ""),
        (schema.pending_labels, ""),
    ):
        changed = sa.update(table).where(table.c.author == authored.name).values(author=instead)
        renamed += connection.execute(changed).rowcount
    return renamed


def _put(connection: sa.Connection, column: sa.Column[str], ids: Sequence[int], text: str) -> int:
    """Write a text into some rows of a table. Returns: rows."""
    table, rows = column.table, 0
    for start in range(0, len(ids), AT_ONCE):
        some = table.c.id.in_(ids[start : start + AT_ONCE])
        rows += connection.execute(sa.update(table).where(some).values({column: text})).rowcount
    return rows
