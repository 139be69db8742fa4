"""A person's right: everything that can be found of one unit is taken away, in one transaction that the trail tells of.

A unit is known by its salted hash, which stands in the decisions that were kept. So what belongs to one is found by
those: their payloads, review tasks, and labels. What a person themselves said as a caller or reviewer stays as a label,
without their name. Not to be found: labels by receipt about decisions that were never kept (nothing in them says whose
they are), and tallies, which are sums over many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.ledger import audit, label_tally, schema
from gateway.ledger.locks import lock_labels
from gateway.ledger.removal import AT_ONCE, chunks, remove_gold, remove_tasks

__all__ = ["Forgotten", "find_authored", "forget"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken away of a unit, in rows. `authored`: labels whose author's name was taken out."""

    decisions: int
    captures: int
    open_tasks: int
    closed_tasks: int
    labels: int
    others: int
    authored: int

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


def find_authored(connection: sa.Connection, name: str) -> Sequence[int]:
    """The labels whose author has this name; reads all labels, so it is asked of a reader."""
    label = schema.labels
    return connection.execute(sa.select(label.c.id).where(label.c.author == name)).scalars().all()


def forget(
    connection: sa.Connection, unit: int, authored: Sequence[int], *, actor: str, now_us: int
) -> Forgotten:
    """Take away what there is of a unit. The transaction is the caller's.

    Args:
        unit: its salted hash, as it stands in `decisions`. authored: labels to take the author's name out of.
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
    renamed = 0
    for start in range(0, len(authored), AT_ONCE):
        some_ids = label.c.id.in_(authored[start : start + AT_ONCE])
        renamed += connection.execute(sa.update(label).where(some_ids).values(author="")).rowcount
    done = Forgotten(open_tasks=open_tasks, closed_tasks=closed_tasks, authored=renamed, **gone)
    audit.note(
        connection,
        time_us=now_us,
        actor=actor,
        action="unit.forget",
        subject="a unit",  # its hash would say, to whoever knows the salt, that this person was here
        **done.as_dict(),
    )
    return done
