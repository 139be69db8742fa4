"""What is taken away when it is old, or when the ledger holds too much: a little at a time, counted and audited.

In: how long each kind is kept. Out: fewer rows. Never: a payload that an open task needs, the decision of such a task,
or more in one transaction than a caller who waits for the writer would notice. Labels outlive their decisions and
payloads: they carry the facts that they are counted by. What is deleted and the entry that says so are one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import audit, label_tally, rolling, schema
from gateway.ledger.grid import HOUR_US
from gateway.ledger.locks import lock_labels, may_tidy
from gateway.ledger.removal import AT_ONCE, chunks, remove_copies, remove_decisions
from gateway.ledger.size import used_bytes

__all__ = ["STEP_BYTES", "STEP_ROWS", "Keep", "Step", "step"]

STEP_ROWS: Final = 2_000
"""Rows that one step takes away, so that labels and leases do not wait behind a long one."""

STEP_BYTES: Final = 16 * 1024 * 1024
"""Payload that one step takes away, at least one capture."""

GOLD_AT_ONCE: Final = 20
"""Retired gold that one step takes away: each has a task for every reviewer who met it."""

TOOL_LINGER_US: Final = 30 * 24 * HOUR_US
"""How much longer than decisions it stays known what lies in a label tool: whoever looks there deletes it first."""

ROOM: Final = 0.95
"""Where the limit of size was met, this much of it is left, so that it is not met again at once."""

_capture, _decision, _task = schema.captures, schema.decisions, schema.review_tasks
_label = schema.labels


@dataclass(frozen=True, slots=True)
class Keep:
    """How long things are kept, in microseconds by the time of the prediction (or of the entry); None: for ever.

    `max_bytes`: what all of it may take; beyond, the oldest captures go, then the oldest decisions.
    """

    decisions_us: int | None = None
    captures_us: int | None = None
    labels_us: int | None = None
    tallies_us: int | None = None
    policies_us: int | None = None
    audit_us: int | None = None
    max_bytes: int | None = None


@dataclass(slots=True)
class Step:
    """What one step took away, by `<what>.age` or `<what>.size`; whether there is more to do.

    `over_bytes`: how much more the ledger holds than it may, when nothing is left that may be taken away.
    """

    deleted: Counter[str] = field(default_factory=Counter)
    more: bool = False
    over_bytes: int = 0


def step(connection: sa.Connection, keep: Keep, now_us: int) -> Step:
    """Take away some of what is too old, and then of what is too much. The transaction is the caller's."""
    done = Step()
    if not may_tidy(connection):
        return done
    for what, remove, age_us in (
        ("captures", _old_captures, keep.captures_us),
        ("decisions", _old_decisions, keep.decisions_us),
        ("gold", _old_gold, keep.decisions_us),
        ("tool_tasks", _old_tool_tasks, keep.decisions_us),
        ("labels", _old_labels, keep.labels_us),
        ("tallies", _old_tallies, keep.tallies_us),
        ("policies", _old_policies, keep.policies_us),
        ("audit", _old_entries, keep.audit_us),
        ("verdicts", _old_verdicts, keep.audit_us),
        ("acts", _old_acts, keep.audit_us),
    ):
        room = STEP_ROWS - done.deleted.total()
        if age_us is not None and room > 0:
            count = remove(connection, now_us - age_us, room)
            done.deleted[f"{what}.age"] += count
    done.more = done.deleted.total() >= STEP_ROWS
    if keep.max_bytes is not None and not done.more:
        _shrink(connection, keep.max_bytes, done)
    done.deleted = +done.deleted
    if done.deleted:
        audit.note(
            connection,
            time_us=now_us,
            actor="retention",
            action="retention.delete",
            subject="ledger",
            **{name.replace(".", "_by_"): count for name, count in sorted(done.deleted.items())},
        )
    return done


def _shrink(connection: sa.Connection, max_bytes: int, done: Step) -> None:
    used = used_bytes(connection)
    if used <= max_bytes:
        return
    target = int(max_bytes * ROOM)
    captures, _ = _oldest_captures(connection, None, STEP_ROWS, used - target)
    if captures:
        _delete_captures(connection, captures)
        done.deleted["captures.size"] += len(captures)
    elif decisions := _oldest_decisions(connection, None, STEP_ROWS):
        done.deleted["decisions.size"] += remove_decisions(connection, decisions)
    else:
        done.over_bytes = used - max_bytes
        return
    done.more = used_bytes(connection) > target


def _oldest_captures(
    connection: sa.Connection, before_us: int | None, most: int, most_bytes: int
) -> tuple[Sequence[bytes], int]:
    """The oldest captures that no open task needs, and their payload; at least one if there is one."""
    needed = sa.exists().where(_task.c.decision == _capture.c.decision, _task.c.done_us.is_(None))
    size = sa.func.length(_capture.c.request) + sa.func.length(_capture.c.answer)
    query = sa.select(_capture.c.decision, size).where(~needed).order_by(_capture.c.time_us).limit(most)
    if before_us is not None:
        query = query.where(_capture.c.time_us < before_us)
    found, payload = [], 0
    for decision, length in connection.execute(query):
        found.append(bytes(decision))
        payload += length
        if payload >= min(most_bytes, STEP_BYTES):
            break
    return found, payload


def _old_captures(connection: sa.Connection, before_us: int, room: int) -> int:
    found, payload = _oldest_captures(connection, before_us, room, STEP_BYTES)
    _delete_captures(connection, found)
    # What is large counts as many rows, so that the step is at its end.
    return len(found) if payload < STEP_BYTES else max(len(found), room)


def _delete_captures(connection: sa.Connection, decisions: Sequence[bytes]) -> None:
    for some in chunks(decisions):
        connection.execute(sa.delete(_capture).where(_capture.c.decision.in_(some)))


def _oldest_decisions(connection: sa.Connection, before_us: int | None, most: int) -> Sequence[bytes]:
    """Calls whose decisions are the oldest, and none of whose tasks is open."""
    needed = sa.exists().where(_task.c.decision == _decision.c.decision, _task.c.done_us.is_(None))
    query = sa.select(_decision.c.decision).where(~needed).order_by(_decision.c.time_us).limit(most)
    if before_us is not None:
        query = query.where(_decision.c.time_us < before_us)
    return list(dict.fromkeys(bytes(row[0]) for row in connection.execute(query)))


def _old_decisions(connection: sa.Connection, before_us: int, room: int) -> int:
    return remove_decisions(connection, _oldest_decisions(connection, before_us, room))


def _old_gold(connection: sa.Connection, before_us: int, room: int) -> int:
    """Gold that was retired before the time, with all that reviewers said of it; what is handed out stays."""
    gold = schema.review_gold
    old = sa.select(gold.c.id).where(gold.c.retired_us < before_us).order_by(gold.c.id)
    copies = connection.execute(old.limit(min(room, GOLD_AT_ONCE))).scalars().all()
    remove_copies(connection, copies)
    return len(copies)


def _old_tool_tasks(connection: sa.Connection, before_us: int, room: int) -> int:
    """Tasks that were sent to a label tool where nobody looks any more, and their answers: all else of them is gone."""
    sent, answer = schema.tool_tasks, schema.tool_answers
    there = sa.exists().where(_task.c.decision == sent.c.of_decision, _task.c.row == sent.c.of_row)
    old = sa.select(sent.c.of_decision, sent.c.of_row).where(
        sent.c.sent_us < before_us - TOOL_LINGER_US, ~there
    )
    found = connection.execute(old.limit(room)).all()
    for decision, row in found:
        for table in (answer, sent):
            connection.execute(
                sa.delete(table).where(table.c.of_decision == bytes(decision), table.c.of_row == row)
            )
    return len(found)


def _old_labels(connection: sa.Connection, before_us: int, room: int) -> int:
    """All that was said of the oldest predictions, out of their cells too."""
    query = sa.select(_label.c.decision).where(_label.c.time_us < before_us).order_by(_label.c.time_us)
    decisions = list(dict.fromkeys(bytes(row[0]) for row in connection.execute(query.limit(room))))
    if not decisions:
        _empty_cells(connection, before_us // HOUR_US)
        return 0
    lock_labels(connection, alone=True)
    label_tally.take_out(connection, label_tally.last_said(connection, decisions))
    gone = 0
    for some in chunks(decisions):
        gone += connection.execute(sa.delete(_label).where(_label.c.decision.in_(some))).rowcount
    return gone


def _empty_cells(connection: sa.Connection, before_hour: int) -> None:
    """Cells that labels were taken out of, where no more will come."""
    tally = schema.tally_labels
    rolled = rolling.rolled_of[tally]
    for table, *spans in ((tally,), (rolled, rolled.c.span.in_(rolling.SPANS))):
        connection.execute(sa.delete(table).where(*spans, table.c.hour < before_hour, table.c.labels == 0))


def _old_tallies(connection: sa.Connection, before_us: int, room: int) -> int:
    """Whole days, oldest hours first; those of labels go with their labels."""
    before = before_us // HOUR_US // 24 * 24
    gone = 0
    for tally in rolling.rolled_of:
        if tally is schema.tally_labels:
            continue
        while gone < room:
            oldest = connection.execute(sa.select(sa.func.min(tally.c.hour))).scalar()
            if oldest is None or oldest >= before:
                break
            # First what was rolled of the day: an hour that is gone must not be in a span that is read.
            gone += rolling.drop_before(connection, tally, oldest // 24 * 24 + 24)
            gone += connection.execute(sa.delete(tally).where(tally.c.hour == oldest)).rowcount
    return gone


def _old_policies(connection: sa.Connection, before_us: int, room: int) -> int:
    """Those that were followed by another before the time; what was in force then stays."""
    table = schema.policies
    old = sa.select(sa.func.max(table.c.version)).where(table.c.created_us < before_us)
    last = connection.execute(old).scalar()
    if last is None:
        return 0
    some = sa.select(table.c.version).where(table.c.version < last).order_by(table.c.version).limit(room)
    versions = connection.execute(some).scalars().all()
    return _delete(connection, table, table.c.version, versions)


def _old_entries(connection: sa.Connection, before_us: int, room: int) -> int:
    return _old_of(connection, schema.audit, before_us, room)


def _old_verdicts(connection: sa.Connection, before_us: int, room: int) -> int:
    return _old_of(connection, schema.verdicts, before_us, room)


def _old_acts(connection: sa.Connection, before_us: int, room: int) -> int:
    return _old_of(connection, schema.acts, before_us, room)


def _old_of(connection: sa.Connection, table: sa.Table, before_us: int, room: int) -> int:
    some = sa.select(table.c.id).where(table.c.time_us < before_us).order_by(table.c.time_us).limit(room)
    return _delete(connection, table, table.c.id, connection.execute(some).scalars().all())


def _delete(connection: sa.Connection, table: sa.Table, column: sa.Column[Any], values: Sequence[Any]) -> int:
    gone = 0
    for start in range(0, len(values), AT_ONCE):
        some = column.in_(values[start : start + AT_ONCE])
        gone += connection.execute(sa.delete(table).where(some)).rowcount
    return gone
