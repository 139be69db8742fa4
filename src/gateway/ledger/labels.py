"""The truth about predictions: what a label is, when it is new, and how it is kept.

Append-only: what a source says about a row after it said something else is a further revision, and the last one counts.
The last one is that which came last; but where both say when it happened, a later one is not replaced by an earlier.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LabelError
from gateway.ledger import label_tally, schema
from gateway.ledger.locks import lock_labels

__all__ = [
    "REVIEW",
    "Facts",
    "Kept",
    "LabelRow",
    "RouteClasses",
    "Truth",
    "keep",
    "later",
    "superseded",
    "truth_of",
]

REVIEW: Final = "review"
"""The source of reviewers' answers: chosen with a known probability, so it alone may be weighted."""

MAX_LABEL: Final = 128
"""Characters of a label, where a route does not name its classes."""

MAX_STATEMENTS: Final = 64
"""Kept statements about one row, by source, kind and name: a caller who invents sources must not fill the disk."""

_SIGNAL: Final = re.compile(r"[a-z0-9_.-]{1,64}")

_AT_ONCE = 500  # ids in one IN (...): far below SQLite's 32,766 and PostgreSQL's 65,535 variables

Key = tuple[bytes, int, str, str, str]


@dataclass(frozen=True, slots=True)
class RouteClasses:
    """The labels that a route knows; `classes` is empty where it names none, `positive` None where none is."""

    classes: tuple[str, ...] = ()
    positive: str | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is said about a row: a label (by name, by yes or no, or both), a value, or a signal with one. Made by
    `truth_of`.
    """

    label: str | None = None
    positive: bool | None = None
    value: float | None = None
    signal: str = ""

    @property
    def kind(self) -> str:
        """`label`, `outcome` or `signal`; a source may say all of them about one row."""
        if self.signal:
            return "signal"
        return "label" if self.value is None else "outcome"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was known when the prediction was made; from its receipt, or from the ledger.

    `arm`, `propensity`: the backend that was drawn to be asked first, and its probability; None and 1 where nothing was
    explored.
    """

    time_us: int
    policy: int
    route: str
    backend: str
    segment: str
    outcome: int
    score: float | None
    flagged: bool | None
    review_pi: float
    sampled: bool
    arm: str | None = None
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label about one prediction.

    `event_us`: when it happened, None where nobody said. `waited`: it was received long before it can be kept, so that
    what came meanwhile counts. `agreement`: of `reviews` answers of reviewers, the share that say the same.
    """

    decision: bytes
    row: int
    source: str
    truth: Truth
    facts: Facts
    received_us: int
    author: str = ""
    event_us: int | None = None
    waited: bool = False
    agreement: float | None = None
    reviews: int | None = None


class Kept(Enum):
    """What became of a label: on disk, but for the last three."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CORRECTED = "corrected"
    PENDING = "pending"
    """It waits for its decision's record."""
    SUPERSEDED = "superseded"
    """What the source said before happened later, and counts."""
    CROWDED = "too_many_statements"
    """The row has `MAX_STATEMENTS` of other sources and names."""
    FULL = "pending_full"
    """As many wait for their decision's record as may."""


def truth_of(
    route: str,
    known: RouteClasses | None,
    *,
    label: str | None = None,
    positive: bool | None = None,
    value: float | None = None,
    signal: str | None = None,
) -> Truth:
    """What was said, in the one form in which the same statement is always equal to itself.

    Args:
        known: the route's classes; None where no such route is served any more: yes or no and values still count.
        label, positive, value: exactly one of them. signal: the name of one; then `value` is how much of it, 1 if None.
    Raises: LabelError, kinds `no_truth`, `bad_value`, `bad_signal`, `unknown_route`, `unknown_label`, `no_positive`.
    """
    if signal is not None:
        if not _SIGNAL.fullmatch(signal):
            wanted = "wanted a-z, 0-9, `_`, `-`, `.`, 1 to 64 of them"
            raise LabelError("bad_signal", f"signal {signal[:64]!r}: {wanted}, such as thumbs")
        value = 1.0 if value is None else value
    if value is not None:
        if not math.isfinite(value):
            raise LabelError("bad_value", f"value is {value}, wanted a finite number")
        return Truth(value=value, signal=signal or "")
    if label is not None:
        if known is None:
            raise LabelError(
                "unknown_route",
                f"route {route!r} is not served now, so its labels are not known; say positive",
            )
        names = (
            label in known.classes if known.classes else 1 <= len(label) <= MAX_LABEL and "\0" not in label
        )
        if not names:
            wanted = ", ".join(known.classes) or f"a name of 1 to {MAX_LABEL} characters"
            raise LabelError(
                "unknown_label", f"label {label[:MAX_LABEL]!r} is none of route {route!r}, wanted: {wanted}"
            )
        return Truth(label=label, positive=None if known.positive is None else label == known.positive)
    if positive is None:
        raise LabelError("no_truth", "neither label nor positive nor value is set; set one")
    if known is None:
        return Truth(positive=positive)
    if known.positive is None:
        raise LabelError(
            "no_positive", f"route {route!r} has no positive class, so yes or no means nothing; say the label"
        )
    if positive:
        return Truth(label=known.positive, positive=True)
    others = [name for name in known.classes if name != known.positive]
    return Truth(label=others[0] if len(others) == 1 else None, positive=False)


def later(new: LabelRow, event_us: int | None, received_us: int) -> bool:
    """Whether a statement counts instead of an earlier kept one that happened and came at these times."""
    if new.event_us is not None and event_us is not None:
        return new.event_us >= event_us
    # What comes counts; clocks may jump, so only where it is known to have waited is it asked when it came.
    return not new.waited or new.received_us >= received_us


def keep(connection: sa.Connection, rows: Sequence[LabelRow]) -> list[Kept]:
    """Write labels; what each one was, in order. The transaction is the caller's."""
    lock_labels(connection, alone=False)
    latest = _latest(connection, rows)
    spoken = Counter(key[:2] for key in latest)
    results, new = [], []
    changes: Counter[label_tally.Cell] = Counter()
    for row in rows:
        key = (row.decision, row.row, row.source, row.truth.kind, row.truth.signal)
        before = latest.get(key)
        kept = _judged(row, before, spoken[key[:2]])
        results.append(kept)
        if kept not in (Kept.ACCEPTED, Kept.CORRECTED):
            continue
        spoken[key[:2]] += before is None
        columns = _columns(row, 1 if before is None else before.revision + 1)
        if before is not None and before.cell is not None:
            changes[before.cell] -= 1
        if (cell := label_tally.cell_of(columns)) is not None:
            changes[cell] += 1
        latest[key] = _Said(columns["revision"], row.truth, row.event_us, row.received_us, cell)
        new.append(columns)
    if new:
        connection.execute(_INSERT, new)
        label_tally.apply(connection, changes)
    return results


@dataclass(frozen=True, slots=True)
class _Said:
    """The last revision of a statement, and where it is counted."""

    revision: int
    truth: Truth
    event_us: int | None
    received_us: int
    cell: label_tally.Cell | None


def _judged(row: LabelRow, before: _Said | None, spoken: int) -> Kept:
    """What a statement is beside the last one of its key; `spoken`: keys that the row has."""
    if before is None:
        full = spoken >= MAX_STATEMENTS and row.source != REVIEW
        return Kept.CROWDED if full else Kept.ACCEPTED
    if before.truth == row.truth and row.event_us in (None, before.event_us):
        return Kept.DUPLICATE
    return Kept.CORRECTED if later(row, before.event_us, before.received_us) else Kept.SUPERSEDED


def _latest(connection: sa.Connection, rows: Sequence[LabelRow]) -> dict[Key, _Said]:
    """The last revision of all that was said about the rows' decisions."""
    ids = list({row.decision for row in rows})
    found: dict[Key, _Said] = {}
    for start in range(0, len(ids), _AT_ONCE):
        for columns in connection.execute(_LAST_SAID, {"ids": ids[start : start + _AT_ONCE]}):
            row = columns._asdict()
            key = (bytes(row["decision"]), row["row"], row["source"], row["kind"], row["name"])
            truth = Truth(row["label"], row["positive"], row["value"], row["name"])
            cell = label_tally.cell_of(row)
            found[key] = _Said(row["revision"], truth, row["event_us"], row["received_us"], cell)
    return found


def superseded(label: sa.FromClause) -> sa.Exists:
    """Whether a label has a further revision, as a clause; `label` is the table or an alias of it."""
    after = schema.labels.alias("after")
    same = (after.c[name] == label.c[name] for name in ("decision", "row", "source", "kind", "name"))
    return sa.exists().where(*same, after.c.revision == label.c.revision + 1)


def _last_said() -> sa.Select[Any]:
    table = schema.labels
    names = ("decision", "row", "revision", "name", "value", "event_us", "received_us", *label_tally.FACTS)
    query = sa.select(*(table.c[name] for name in names)).where(~superseded(table))
    return query.where(table.c.decision.in_(sa.bindparam("ids", expanding=True)))


_INSERT: Final = sa.insert(schema.labels)
_LAST_SAID: Final = _last_said()
"""Made once: to put them together takes longer than to run them."""


def _columns(row: LabelRow, revision: int) -> dict[str, Any]:
    facts = row.facts
    return {
        "decision": row.decision,
        "row": row.row,
        "source": row.source,
        "kind": row.truth.kind,
        "name": row.truth.signal,
        "revision": revision,
        "label": row.truth.label,
        "positive": row.truth.positive,
        "value": row.truth.value,
        "author": row.author,
        "received_us": row.received_us,
        "event_us": row.event_us,
        "time_us": facts.time_us,
        "policy": facts.policy,
        "route": facts.route,
        "backend": facts.backend,
        "segment": facts.segment,
        "outcome": facts.outcome,
        "score": facts.score,
        "flagged": facts.flagged,
        "review_pi": facts.review_pi,
        "sampled": facts.sampled,
        "arm": facts.arm,
        "propensity": facts.propensity,
        "agreement": row.agreement,
        "reviews": row.reviews,
    }
