"""The tables of the review queue; `gateway.ledger.schema` tells what each is for."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.ledger.tables import ID, metadata

__all__ = ["FREE", "NEVER_US", "review_counts", "review_events", "review_gold", "review_tasks"]

NEVER_US: Final = 2**62
"""A time that does not come."""

FREE: Final = (
    "done_us IS NULL AND lease_until_us = 0 AND urgent_until_us IS NULL AND gold IS NULL AND stage < 2"
)
"""Tasks that may be leased and that no caller waits for; a query must say it in these very words to find the index."""


def _partial(name: str, where: str, *columns: str) -> Index:
    """An index of review_tasks over the rows that meet a condition."""
    condition = text(where)
    return Index(f"ix_review_tasks_{name}", *columns, sqlite_where=condition, postgresql_where=condition)


review_tasks = Table(
    "review_tasks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("decision", LargeBinary(16), nullable=False),
    Column("row", Integer, nullable=False),
    Column("queue", Text, nullable=False),  # where it is now
    Column("created_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),  # NULL while the task is open
    Column("lease_token", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),  # 0: free
    Column("reviewer", Text, nullable=False),  # of the last lease; "" when it was given back
    Column(
        "urgent_until_us", BigInteger
    ),  # until when a caller waits for the answer; NULL where none ever did
    Column("home", Text, nullable=False, server_default=""),  # the queue it was made for
    Column("stage", SmallInteger, nullable=False, server_default="0"),  # of `gateway.ledger.review.Stage`
    Column("seen", Text, nullable=False, server_default=""),  # marks of those who may not have it any more
    Column("reviews", SmallInteger, nullable=False, server_default="0"),  # reviewers' answers that stand
    Column("skips", SmallInteger, nullable=False, server_default="0"),
    Column("priority", SmallInteger, nullable=False, server_default="5"),  # 1 goes first
    Column("due_us", BigInteger, nullable=False, server_default=str(NEVER_US)),
    Column("leased_us", BigInteger, nullable=False, server_default="0"),  # when the last lease was given
    Column("gold", BigInteger),  # what it is a copy of; NULL for a task of its own
    UniqueConstraint("decision", "row"),
    # An index for each question that is asked all the time, over those rows only that it is asked of.
    _partial("free", FREE, "queue", "seen", "priority", "due_us", "id"),
    _partial("open", "done_us IS NULL", "queue", "created_us"),
    _partial("leased", "done_us IS NULL AND lease_until_us > 0", "queue", "lease_until_us"),
    _partial("urgent", "done_us IS NULL AND urgent_until_us IS NOT NULL", "queue", "urgent_until_us"),
    _partial("due", f"done_us IS NULL AND due_us < {NEVER_US}", "queue", "due_us"),
    _partial("stuck", "done_us IS NULL AND (stage > 0 OR skips > 0)", "queue", "stage", "skips"),
    _partial("compared", "done_us IS NOT NULL AND reviews > 1 AND gold IS NULL", "home", "done_us"),
    _partial("gold", "gold IS NOT NULL", "gold", "reviewer"),
)

review_events = Table(
    "review_events",
    metadata,
    Column("id", ID, primary_key=True),
    Column("task", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # view, answer, decide, skip, undo, reveal
    Column("reviewer", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("label", Text),
    Column("positive", Boolean),
    Column("blind", Boolean, nullable=False),  # nothing of the model or of others had been shown
    Column("reason", Text),
    Index(None, "task", "id"),
    Index(None, "time_us"),
)

review_gold = Table(
    "review_gold",
    metadata,
    Column("id", ID, primary_key=True),
    Column("decision", LargeBinary(16), nullable=False),
    Column("row", Integer, nullable=False),
    Column("queue", Text, nullable=False),
    Column("label", Text),
    Column("positive", Boolean),
    Column("author", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("retired_us", BigInteger),
    Column("unit", BigInteger, nullable=False),
    Column("route", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON: the facts of the prediction, and its label
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    UniqueConstraint("decision", "row", "queue"),
    Index(None, "queue", "id"),
)

review_counts = Table(
    "review_counts",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
