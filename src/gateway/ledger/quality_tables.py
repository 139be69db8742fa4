"""What is known about quality and what was done about it, as `schema` describes it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text

from gateway.ledger.tables import ID, metadata

__all__ = ["acts", "states", "verdicts"]

states = Table(
    "states",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),  # a JSON object
    Column("updated_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("policy", Integer, nullable=False),
    Column("route", Text, nullable=False),
    Column("gate", Text, nullable=False),
    Column("segment", Text, nullable=False),  # "" for all of the route
    Column("verdict", Text, nullable=False),  # pass, fail, inconclusive
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("labels", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    Index(None, "time_us"),
    Index(None, "route", "gate", "segment", "id"),
)

acts = Table(
    "acts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("route", Text, nullable=False),
    Column("cause", Text, nullable=False),  # the gate, or "autonomy", "exploration", "drift"
    Column(
        "act", Text, nullable=False
    ),  # notify, roll_back, raise_floor, stop_exploring, kill, autonomy, ...
    Column("state", Text, nullable=False),  # as `gateway.ledger.acts` lists them
    Column("of", BigInteger),  # the entry that this one goes on from
    Column("words", Text, nullable=False),
    Column("before", Integer),  # the policy that was in force
    Column("after", Integer),  # the one that it made
    Column("actor", Text, nullable=False),
    Column("details", Text, nullable=False),  # a JSON object
    Index(None, "time_us"),
    Index(None, "of"),
)
