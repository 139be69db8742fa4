"""What is said about predictions, as `schema` describes it: a file of its own, so that neither grows too long."""

from __future__ import annotations

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
    UniqueConstraint,
    text,
)

from gateway.ledger.tables import ID, metadata

__all__ = ["labels", "pending_labels"]

_NO_LABEL = text("kind <> 'label'")
_REVISED = text("revision > 1")

labels = Table(
    "labels",
    metadata,
    Column("id", ID, primary_key=True),
    Column("decision", LargeBinary(16), nullable=False),
    Column("row", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),  # of a signal; "" for labels and outcomes
    Column("revision", Integer, nullable=False),
    Column("label", Text),
    Column("positive", Boolean),
    Column("value", Double),
    Column("author", Text, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("event_us", BigInteger),  # when it happened, where that was said
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
    UniqueConstraint("decision", "row", "source", "kind", "name", "revision"),
    Index(None, "time_us"),
    # So that a report finds signals without passing over millions of labels.
    Index("ix_labels_signals", "time_us", sqlite_where=_NO_LABEL, postgresql_where=_NO_LABEL),
    # So that they are counted without passing over the labels that were right at once.
    Index("ix_labels_revised", "time_us", sqlite_where=_REVISED, postgresql_where=_REVISED),
)

pending_labels = Table(
    "pending_labels",
    metadata,
    Column("id", ID, primary_key=True),
    Column("decision", LargeBinary(16), nullable=False),
    Column("row", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("label", Text),
    Column("positive", Boolean),
    Column("value", Double),
    Column("author", Text, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("event_us", BigInteger),
    Column("expires_us", BigInteger, nullable=False),
    UniqueConstraint("decision", "row", "source", "kind", "name"),
    Index(None, "expires_us"),
)
