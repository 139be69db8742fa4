"""The ledger's tables, as SQLAlchemy Core sees them.

    policies        what was in force: one row a version
    decisions       predictions sampled for review, one row each; and calls that people are asked about
    labels          the truth about predictions; append-only, a correction is a further revision, the last one counts
    pending_labels  what was said of decisions whose record had not come; by decision id, as it was said
    captures        payloads of captured calls, redacted before they got here
    review_tasks    one per sampled prediction, with the state of its lease
    review_events   append-only: who was shown a task, answered it, skipped it, or took that back; the last one counts
    review_gold     predictions whose truth is known, with a copy of their payload: reviewers are measured by them
    review_counts   additive: tasks and events by queue, so that nobody has to count a million rows
    tool_tasks      review tasks that lie in a label tool: where, and under which lease
    tool_answers    which version of which answer was taken from there
    audit           append-only: who did what to what, and when
    tally_calls     additive: calls and rows by hour, route, policy, backend, segment, outcome, reason
    tally_scores    additive: rows by hour, ..., outcome, flagged, score bin, inclusion probability
    tally_overhead  additive: calls by hour, route, bucket of the gateway's own time
    tally_shadow    additive: comparisons with shadows, and of the primary with its twin (`noise`)
    tally_labels    additive: labels that count, by hour, ..., source, and what they say
    rolled_calls    the same as tally_calls in spans of 24 and of 768 hours; so for the others:
    rolled_scores   of tally_scores
    rolled_overhead of tally_overhead
    rolled_shadow   of tally_shadow
    rolled_labels   of tally_labels
    rolled          which hours the rolled tallies hold; these tables stand in `gateway.ledger.rolling`
    states          what gates, explorations and other watchers remember: one JSON object each, the last one
    verdicts        append-only: what gates said, with the numbers that they said it from
    acts            append-only: what was done about it, proposed, done, refused or undone
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
    SmallInteger,
    Table,
    Text,
)

from gateway.ledger.label_tables import labels, pending_labels
from gateway.ledger.quality_tables import acts, states, verdicts
from gateway.ledger.review_tables import (
    FREE,
    NEVER_US,
    review_counts,
    review_events,
    review_gold,
    review_tasks,
)
from gateway.ledger.tables import ID, metadata

__all__ = [
    "FREE",
    "HEAD",
    "KNOWN",
    "NEVER_US",
    "acts",
    "audit",
    "captures",
    "decisions",
    "labels",
    "metadata",
    "pending_labels",
    "policies",
    "review_counts",
    "review_events",
    "review_gold",
    "review_tasks",
    "segments",
    "states",
    "tally_calls",
    "tally_labels",
    "tally_overhead",
    "tally_scores",
    "tally_shadow",
    "tool_answers",
    "tool_tasks",
    "verdicts",
    "writers",
]

KNOWN: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Schema versions that this code knows, oldest first; `migrations/versions` leads from one to the next."""

HEAD: Final = KNOWN[-1]

_HALF_FULL = {"fillfactor": 50}
"""Sums are raised in place all the time: with room on its page a row is not copied to the table's end, nor its index
entries. Measured: half the time, and a table that does not grow."""

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("source", Text),  # the settings it was made of, and which routes were stopped besides
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
    Index(None, "time_us"),
    Index(None, "unit"),
    sqlite_with_rowid=False,
)

captures = Table(
    "captures",
    metadata,
    Column("decision", LargeBinary(16), primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index(None, "time_us"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
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
    Column("sampled", BigInteger, nullable=False, server_default="0"),  # of the rows
    postgresql_with=_HALF_FULL,
    sqlite_with_rowid=False,
)

tally_labels = Table(
    "tally_labels",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),  # of the prediction
    Column("route", Text, primary_key=True),
    Column("policy", Integer, primary_key=True, autoincrement=False),
    Column("backend", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("outcome", SmallInteger, primary_key=True, autoincrement=False),
    Column("flagged", SmallInteger, primary_key=True, autoincrement=False),
    Column("score_bin", SmallInteger, primary_key=True, autoincrement=False),
    Column("review_pi", Double, primary_key=True),
    Column("sampled", SmallInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("positive", SmallInteger, primary_key=True, autoincrement=False),
    Column("labels", BigInteger, nullable=False),
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

# Not named `decision`: when that is forgotten, this is how its copy in the tool is found, to be deleted there too.
tool_tasks = Table(
    "tool_tasks",
    metadata,
    Column("of_decision", LargeBinary(16), primary_key=True),
    Column("of_row", Integer, primary_key=True, autoincrement=False),
    Column("place", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("task", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("remote", BigInteger),  # NULL while it is not known whether it arrived
    Column("sent_us", BigInteger, nullable=False),
    Index(None, "place", "remote"),
    sqlite_with_rowid=False,
)

tool_answers = Table(
    "tool_answers",
    metadata,
    Column("of_decision", LargeBinary(16), primary_key=True),
    Column("of_row", Integer, primary_key=True, autoincrement=False),
    Column("answer", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("token", BigInteger),  # of the lease it counts under; NULL where it does not
    Column("skipped", Boolean, nullable=False),
    Index(None, "answer"),
    sqlite_with_rowid=False,
)
