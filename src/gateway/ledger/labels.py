"""The truth about predictions: what a label is, when it is new, and how it is kept.

Append-only: what a source says about a row after it said something else is a further revision, and the last one counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa

from gateway.errors import LabelError
from gateway.ledger import schema

__all__ = ["REVIEW", "Facts", "Kept", "LabelRow", "RouteClasses", "Truth", "keep", "truth_of"]

REVIEW: Final = "review"
"""The source of reviewers' answers: chosen with a known probability, so it alone may be weighted."""

MAX_LABEL: Final = 128
"""Characters of a label, where a route does not name its classes."""

_AT_ONCE = 500  # ids in one IN (...): far below SQLite's 32,766 and PostgreSQL's 65,535 variables

Key = tuple[bytes, int, str, str]


@dataclass(frozen=True, slots=True)
class RouteClasses:
    """The labels that a route knows; `classes` is empty where it names none, `positive` None where none is."""

    classes: tuple[str, ...] = ()
    positive: str | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is said about a row: a label (by name, by yes or no, or both), or a value. Made by `truth_of`."""

    label: str | None = None
    positive: bool | None = None
    value: float | None = None

    @property
    def kind(self) -> str:
        """`label` or `outcome`; a source may say both about one row."""
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
    """One label about one prediction. `agreement`: of `reviews` answers of reviewers, the share that say the same."""

    decision: bytes
    row: int
    source: str
    truth: Truth
    facts: Facts
    received_us: int
    author: str = ""
    agreement: float | None = None
    reviews: int | None = None


class Kept(Enum):
    """What became of a label; all of them are on disk."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CORRECTED = "corrected"


def truth_of(
    route: str,
    known: RouteClasses | None,
    *,
    label: str | None = None,
    positive: bool | None = None,
    value: float | None = None,
) -> Truth:
    """What was said, in the one form in which the same statement is always equal to itself.

    Args:
        known: the route's classes; None where no such route is served any more: yes or no and values still count.
        label, positive, value: exactly one of them.
    Raises: LabelError, kinds `no_truth`, `bad_value`, `unknown_route`, `unknown_label`, `no_positive`.
    """
    if value is not None:
        if not math.isfinite(value):
            raise LabelError("bad_value", f"value is {value}, wanted a finite number")
        return Truth(value=value)
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


def keep(connection: sa.Connection, rows: Sequence[LabelRow]) -> list[Kept]:
    """Write labels; what each one was, in order. The transaction is the caller's."""
    latest = _latest(connection, rows)
    results, new = [], []
    for row in rows:
        key = (row.decision, row.row, row.source, row.truth.kind)
        revision, before = latest.get(key, (0, None))
        if before == row.truth:
            results.append(Kept.DUPLICATE)
            continue
        results.append(Kept.CORRECTED if revision else Kept.ACCEPTED)
        latest[key] = (revision + 1, row.truth)
        new.append(_columns(row, revision + 1))
    if new:
        connection.execute(sa.insert(schema.labels), new)
    return results


def _latest(connection: sa.Connection, rows: Sequence[LabelRow]) -> dict[Key, tuple[int, Truth]]:
    """The last revision of all that was said about the rows' decisions."""
    table = schema.labels
    names = ("decision", "row", "source", "kind", "revision", "label", "positive", "value")
    query = sa.select(*(table.c[name] for name in names)).order_by(table.c.revision)
    ids = list({row.decision for row in rows})
    found: dict[Key, tuple[int, Truth]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = query.where(table.c.decision.in_(ids[start : start + _AT_ONCE]))
        for decision, row, source, kind, revision, *truth in connection.execute(some):
            found[bytes(decision), row, source, kind] = (revision, Truth(*truth))
    return found


def _columns(row: LabelRow, revision: int) -> dict[str, Any]:
    facts = row.facts
    return {
        "decision": row.decision,
        "row": row.row,
        "source": row.source,
        "kind": row.truth.kind,
        "revision": revision,
        "label": row.truth.label,
        "positive": row.truth.positive,
        "value": row.truth.value,
        "author": row.author,
        "received_us": row.received_us,
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
