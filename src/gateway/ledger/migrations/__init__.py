"""Alembic's steps from one schema version to the next.

In: a connection within a transaction. Out: the schema at head, or nothing changed. Never: runs when the schema is at
head; Alembic costs memory that a gateway at rest should not spend, so it is imported only then.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from gateway.errors import LedgerError
from gateway.ledger.database import lock_schema, schema_version, version_fault
from gateway.ledger.schema import HEAD, KNOWN

__all__ = ["upgrade"]


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to head, from nothing or from an older version.

    Raises: LedgerError when the schema was made by a newer gateway.
    """
    with engine.connect() as connection:
        found = schema_version(connection)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise LedgerError(version_fault(engine.url, found))
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        lock_schema(connection)  # of two gateways that start together the second finds the work done
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
