"""What happened to a task, in order, for ever: shown, answered, skipped, taken back. The last one counts.

view     a reviewer was given the task
answer   a reviewer's answer; `decide`: the answer of the one who settles a disagreement
skip     a reviewer gave it back for good
undo     the reviewer took back their last answer or skip
reveal   after the answer a reviewer was shown the model's and the others'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import schema
from gateway.ledger.labels import Facts, Truth
from gateway.ledger.review import counts

__all__ = [
    "ANSWER",
    "DECIDE",
    "REVEAL",
    "SKIP",
    "UNDO",
    "VIEW",
    "Event",
    "History",
    "append",
    "facts_of",
    "find_facts",
    "history",
    "mark",
    "marks",
    "packed",
    "same",
    "unpacked",
]

VIEW: Final = "view"
ANSWER: Final = "answer"
DECIDE: Final = "decide"
SKIP: Final = "skip"
UNDO: Final = "undo"
REVEAL: Final = "reveal"

NOTHING: Final = Truth()

_event = schema.review_events
_INSERT: Final = sa.insert(_event)
_decision = schema.decisions
_FACTS: Final = tuple(field.name for field in fields(Facts))


@dataclass(frozen=True, slots=True)
class Event:
    """One of them. `blind`: nothing of the model or of others had been shown before."""

    kind: str
    reviewer: str
    token: int
    truth: Truth
    blind: bool


class History:
    """All that happened to one task."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._last: dict[str, Event] = {}
        for event in events:
            if event.kind in (ANSWER, DECIDE, SKIP):
                self._last[event.reviewer] = event
            elif event.kind == UNDO:
                self._last.pop(event.reviewer, None)

    def last(self, reviewer: str) -> Event | None:
        """The reviewer's answer or skip that stands."""
        return self._last.get(reviewer)

    def standing(self, kind: str) -> list[Event]:
        """What stands of a kind, one a reviewer, in order of their first."""
        return [event for event in self._last.values() if event.kind == kind]

    def undone(self, reviewer: str, token: int) -> bool:
        """Whether the reviewer took back what they had done under that lease."""
        kinds = [event.kind for event in self._events if (event.reviewer, event.token) == (reviewer, token)]
        return bool(kinds) and kinds[-1] == UNDO

    def blind(self, reviewer: str) -> bool:
        """Whether the reviewer has been shown nothing yet of the model or of others."""
        return all(event.blind for event in self._events if event.reviewer == reviewer)


def append(
    connection: sa.Connection,
    found: Mapping[Any, Any],
    kind: str,
    reviewer: str,
    now_us: int,
    *,
    token: int,
    truth: Truth = NOTHING,
    blind: bool = True,
    reason: str | None = None,
) -> Event:
    """Write an event of a task, and count it."""
    values = {
        "task": found[schema.review_tasks.c.id],
        "time_us": now_us,
        "kind": kind,
        "reviewer": reviewer,
        "token": token,
        "label": truth.label,
        "positive": truth.positive,
        "blind": blind,
        "reason": reason,
    }
    connection.execute(_INSERT, values)
    counts.note(connection, found[schema.review_tasks.c.queue], kind + "s", 1)
    return Event(kind, reviewer, token, truth, blind)


def history(connection: sa.Connection, task: int) -> list[Event]:
    """What happened to a task, oldest first."""
    columns = (_event.c.kind, _event.c.reviewer, _event.c.token, _event.c.label, _event.c.positive)
    query = sa.select(*columns, _event.c.blind).where(_event.c.task == task).order_by(_event.c.id)
    return [
        Event(kind, reviewer, token, Truth(label, positive), bool(blind))
        for kind, reviewer, token, label, positive, blind in connection.execute(query)
    ]


def mark(reviewer: str) -> str:
    """What stands for a reviewer in a task's list of those who have seen it: 16 characters, whatever the name.

    64 bits of SHA-256: a team of a thousand has two names with one mark with probability 3e-14.
    """
    return hashlib.sha256(reviewer.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def marks(reviewers: Iterable[str]) -> str:
    """The list, which is the same for the same people."""
    return "".join(sorted(mark(reviewer) for reviewer in reviewers))


def same(one: Truth, other: Truth) -> bool:
    """Whether two answers agree: on the label where both say it, else on yes or no."""
    if one.label is not None and other.label is not None:
        return one.label == other.label
    return one.positive is not None and one.positive == other.positive


def facts_of(found: sa.RowMapping) -> Facts:
    """A decision's row, joined with what else, as facts."""
    return Facts(**{name: found[_decision.c[name]] for name in _FACTS})


def find_facts(
    connection: sa.Connection, wanted: Sequence[tuple[bytes, int]]
) -> dict[tuple[bytes, int], Facts]:
    """Facts of the decisions that were kept, by id and row."""
    found = {}
    ids = list({decision for decision, _ in wanted})
    for start in range(0, len(ids), 500):
        query = sa.select(_decision).where(_decision.c.decision.in_(ids[start : start + 500]))
        for row in connection.execute(query):
            found[bytes(row._mapping[_decision.c.decision]), row._mapping[_decision.c.row]] = facts_of(
                row._mapping
            )
    return {key: found[key] for key in wanted if key in found}


def packed(facts: Facts, label: str | None) -> str:
    """Facts and the model's label as JSON, to be kept with a gold task."""
    return json.dumps({**{name: getattr(facts, name) for name in _FACTS}, "label": label})


def unpacked(text: str) -> tuple[Facts, str | None]:
    """What `packed` made."""
    found = json.loads(text)
    label = found.pop("label")
    return Facts(**found), label
