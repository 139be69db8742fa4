"""The ledger's tables, as SQLAlchemy Core sees them.

    policies        what was in force: one row a version
    decisions       predictions sampled for review, one row each; and calls that people are asked about
    labels          the truth about predictions; append-only, a correction is a further revision, the last one counts
    captures        payloads of captured calls, redacted before they got here
    review_tasks    one per sampled prediction, with the state of its lease
    review_events   append-only: who was shown a task, answered it, skipped it, or took that back; the last one counts
    review_gold     predictions whose truth is known, with a copy of their payload: reviewers are measured by them
    review_counts   additive: tasks and events by queue, so that nobody has to count a million rows
    audit           append-only: who did what to what, and when
    tally_calls     additive: calls and rows by hour, route, policy, backend, segment, outcome, reason
    tally_scores    additive: rows by hour, ..., outcome, flagged, score bin, inclusion probability
    tally_overhead  additive: calls by hour, route, bucket of the gateway's own time
    tally_shadow    additive: comparisons with shadows, and of the primary with its twin (`noise`)
    segments        the segments that each route has shown, up to the limit
    writers         how far each writer's numbered groups of records are stored: none is counted twice

A label carries the facts of its prediction (route, score, flagged, probability...), as the receipt does: it is counted
without a look-up, and whether or not the decision was ever kept. What a shadow contradicts after its record was counted
is taken out of its cell of tally_scores and counted in that of its new probability. Times are microseconds since 1970,
UTC; an hour is whole hours since 1970. Outcomes are the numbers of `gateway.types.Outcome`. What is not known is NULL
in rows that stand alone, and -1 or "" in the keys of tallies, as NULLs do not collide in a unique key.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "FREE",
    "HEAD",
    "KNOWN",
    "NEVER_US",
    "audit",
    "captures",
    "decisions",
    "labels",
    "metadata",
    "policies",
    "review_counts",
    "review_events",
    "review_gold",
    "review_tasks",
    "segments",
    "tally_calls",
    "tally_overhead",
    "tally_scores",
    "tally_shadow",
    "writers",
]

KNOWN: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Schema versions that this code knows, oldest first; `migrations/versions` leads from one to the next."""

HEAD: Final = KNOWN[-1]

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


_ID = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite

_HALF_FULL = {"fillfactor": 50}
"""Sums are raised in place all the time: with room on its page a row is not copied to the table's end, nor its index
entries. Measured: half the time, and a table that does not grow."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision", LargeBinary(16), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("time_us", BigInteger, nullable=False),
    Column("policy", Integer, nullable=False),
    Column("route", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("label", Text),
    Column("score", Double),
    Column("confidence", Double),
    Column("flagged", Boolean),
    Column("stratum", SmallInteger),
    Column("review_pi", Double, nullable=False),
    Column("sampled", Boolean, nullable=False),
    Column("arm", Text),
    Column("propensity", Double, nullable=False),
    Column("unit", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

labels = Table(
    "labels",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("decision", LargeBinary(16), nullable=False),
    Column("row", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("label", Text),
    Column("positive", Boolean),
    Column("value", Double),
    Column("author", Text, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("policy", Integer, nullable=False),
    Column("route", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("score", Double),
    Column("flagged", Boolean),
    Column("review_pi", Double, nullable=False),
    Column("sampled", Boolean, nullable=False),
    Column("arm", Text),
    Column("propensity", Double, nullable=False, server_default="1"),
    Column("agreement", Double),  # of reviewers' answers, the share that say what the label says
    Column("reviews", SmallInteger),  # how many answers that is a share of
    UniqueConstraint("decision", "row", "source", "kind", "revision"),
    Index(None, "time_us"),
)

captures = Table(
    "captures",
    metadata,
    Column("decision", LargeBinary(16), primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
)

review_tasks = Table(
    "review_tasks",
    metadata,
    Column("id", _ID, primary_key=True),
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
    Column("id", _ID, primary_key=True),
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
    Column("id", _ID, primary_key=True),
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

audit = Table(
    "audit",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),  # a JSON object
    Index(None, "time_us"),
)

tally_calls = Table(
    "tally_calls",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("policy", Integer, primary_key=True, autoincrement=False),
    Column("backend", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("outcome", SmallInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)

tally_scores = Table(
    "tally_scores",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("policy", Integer, primary_key=True, autoincrement=False),
    Column("backend", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("outcome", SmallInteger, primary_key=True, autoincrement=False),
    Column("flagged", SmallInteger, primary_key=True, autoincrement=False),
    Column("score_bin", SmallInteger, primary_key=True, autoincrement=False),
    Column("review_pi", Double, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)

tally_overhead = Table(
    "tally_overhead",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("calls", BigInteger, nullable=False),
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)

tally_shadow = Table(
    "tally_shadow",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("policy", Integer, primary_key=True, autoincrement=False),
    Column("backend", Text, primary_key=True),
    Column("shadow", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column(
        "noise", SmallInteger, primary_key=True, autoincrement=False
    ),  # 1: the primary's twin was compared
    Column("compared", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("judged", BigInteger, nullable=False),
    Column("agreed", BigInteger, nullable=False),
    Column("differences", BigInteger, nullable=False),
    Column("sum_difference", Double, nullable=False),
    Column("sum_squared", Double, nullable=False),
    Column("sum_absolute", Double, nullable=False),
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)

segments = Table(
    "segments",
    metadata,
    Column("route", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    sqlite_with_rowid=False,
)

writers = Table(
    "writers",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)
