"""The audit trail: who did what to what, and when. Append-only; only age takes entries away.

An entry is written in the transaction that does what it tells of, so neither is ever on disk without the other. What
names a person (a unit's id, a payload) never stands in it: the trail outlives what was deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema

__all__ = ["MAX_TEXT", "Entry", "entries", "note"]

MAX_TEXT: Final = 1_000
"""Characters of an actor, a subject or a text in the details; what is longer is cut, and says so."""

_ACTION: Final = re.compile(r"[a-z]+(?:\.[a-z_]+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail. `time_us`: microseconds since 1970; `details`: a JSON object."""

    id: int
    time_us: int
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


def note(
    connection: sa.Connection, *, time_us: int, actor: str, action: str, subject: str, **details: Any
) -> None:
    """Append an entry; the transaction is the caller's.

    Args:
        actor: who: a reviewer, `serve`, `autopilot`, the user of a command.
        action: what, as `noun.verb`, such as `policy.keep`; docs/retention.md lists them.
        subject: to what: `policy 3`, `task 17`, a file.
        details: what else is to be known; JSON values.
    Raises: ValueError, when the action has another form; TypeError, when a detail is no JSON value.
    """
    if not _ACTION.fullmatch(action):
        raise ValueError(f"action {action!r}, wanted `noun.verb` in small letters, such as policy.keep")
    said = {name: _cut(value) if isinstance(value, str) else value for name, value in details.items()}
    connection.execute(
        sa.insert(schema.audit),
        {
            "time_us": time_us,
            "actor": _cut(actor),
            "action": action,
            "subject": _cut(subject),
            "details": json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        },
    )


def entries(
    connection: sa.Connection,
    *,
    since_us: int | None = None,
    action: str | None = None,
    limit: int = 1_000,
) -> Sequence[Entry]:
    """The newest `limit` entries, oldest first.

    Args:
        action: `policy.keep`, or `policy` for every action of that noun; None for all.
    """
    table = schema.audit
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if since_us is not None:
        query = query.where(table.c.time_us >= since_us)
    if action is not None:
        query = query.where(
            sa.or_(table.c.action == action, table.c.action.startswith(action + ".", autoescape=True))
        )
    found = [
        Entry(row.id, row.time_us, row.actor, row.action, row.subject, json.loads(row.details))
        for row in connection.execute(query)
    ]
    return found[::-1]


def _cut(text: str) -> str:
    # PostgreSQL takes no NUL in a text.
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text):,} characters)"
