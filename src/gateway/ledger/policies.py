"""Policy versions: what was in force, since when, by whom and why, and the settings that it was made of.

Versions are given out one after the other, whoever publishes: two controls that publish at once get two versions, the
second of which it must have wanted on top of the first (`onto`), else it is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.errors import PolicyConflict
from gateway.ledger import audit, schema
from gateway.ledger.locks import lock_policies
from gateway.ledger.review_budget import BUDGET_KEY

__all__ = ["Kept", "Told", "find", "history", "keep", "latest_version"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One version. `document`: without secrets. `source`: what it was made of, None for versions of older gateways."""

    version: int
    document: Mapping[str, Any]
    source: Mapping[str, Any] | None
    created_us: int
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """One version as lists tell of it. `stopped`: routes that were stopped besides the settings."""

    version: int
    created_us: int
    author: str
    reason: str
    stopped: tuple[str, ...]


def keep(
    connection: sa.Connection,
    document: Mapping[str, Any],
    *,
    author: str,
    reason: str,
    now_us: int,
    source: Mapping[str, Any] | None = None,
    onto: int | None = None,
) -> int:
    """Keep a policy and return its version, which is that of the latest one where nothing differs from it.

    `version` within the document, and what review budgets were divided by, are left out of the comparison.
    Raises: PolicyConflict, when the latest version is another than `onto`.
    """
    content = {key: value for key, value in document.items() if key != "version"}
    text, origin = _text(content), None if source is None else _text(source)
    # Rates of traffic never stand still, and alone make no other policy.
    compared = _text({key: value for key, value in content.items() if key != BUDGET_KEY})
    digest = hashlib.sha256(compared.encode()).hexdigest()
    table = schema.policies
    lock_policies(connection)
    newest = (
        sa.select(table.c.version, table.c.hash, table.c.source).order_by(table.c.version.desc()).limit(1)
    )
    latest = connection.execute(newest).first()
    found = 0 if latest is None else int(latest.version)
    if onto is not None and found != onto:
        raise PolicyConflict(
            f"policy {found} is in force, not {onto} that this was made for; look at it and try again"
        )
    if latest is not None and latest.hash == digest and origin in (None, latest.source):
        return found
    row = {
        "version": found + 1,
        "hash": digest,
        "document": text,
        "created_us": now_us,
        "author": author,
        "reason": reason,
        "source": origin,
    }
    connection.execute(sa.insert(table), row)
    audit.note(
        connection,
        time_us=now_us,
        actor=author,
        action="policy.keep",
        subject=f"policy {found + 1}",
        reason=reason,
        hash=digest,
    )
    return found + 1


def latest_version(connection: sa.Connection) -> int:
    """The version in force; 0 for none."""
    return int(connection.execute(sa.select(sa.func.max(schema.policies.c.version))).scalar() or 0)


def find(connection: sa.Connection, version: int | None = None, *, author: str | None = None) -> Kept | None:
    """A version, or the latest: of all, or of those that one author published."""
    table = schema.policies
    query = sa.select(table).order_by(table.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.c.version == version)
    if author is not None:
        query = query.where(table.c.author == author)
    row = connection.execute(query).first()
    return None if row is None else _kept(row)


def history(connection: sa.Connection, limit: int) -> Sequence[Told]:
    """The newest versions, newest first; documents and settings are not read: a thousand of them fill memory."""
    table = schema.policies
    # Only the database opens `source`; PostgreSQL does so by its type, SQLite by its function.
    as_json = sa.cast if connection.dialect.name == "postgresql" else sa.type_coerce
    stopped = as_json(table.c.source, sa.JSON)["stopped"].label("stopped")
    query = (
        sa.select(table.c.version, table.c.created_us, table.c.author, table.c.reason, stopped)
        .order_by(table.c.version.desc())
        .limit(limit)
    )
    return [
        Told(row.version, row.created_us, row.author, row.reason, tuple(row.stopped or ()))
        for row in connection.execute(query)
    ]


def _kept(row: Any) -> Kept:
    source = None if row.source is None else json.loads(row.source)
    return Kept(row.version, json.loads(row.document), source, row.created_us, row.author, row.reason)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
