"""From one schema version to the next: a new ledger is made at head, an older one goes there by Alembic's steps.

In: an engine. Out: the schema at head, or nothing changed. Never: loads Alembic for a ledger that is new or at head, as
it costs 11 MB that a gateway at rest should not hold. A test holds the two ways to the same tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from gateway.errors import LedgerError
from gateway.ledger.database import schema_version, unhurried, version_fault
from gateway.ledger.locks import lock_schema
from gateway.ledger.rolling import ROLLED, rolled
from gateway.ledger.schema import HEAD, KNOWN, metadata

__all__ = ["make", "step", "upgrade"]

VERSION_TABLE: Final = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""As Alembic itself makes it."""


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to head, from nothing or from an older version.

    Raises: LedgerError when the schema was made by a newer gateway.
    """
    with engine.connect() as connection:
        found = schema_version(connection)
    if found is None:
        make(engine)
        with engine.connect() as connection:  # another gateway may have been first, and an older one
            found = schema_version(connection)
    if found == HEAD:
        return
    if found not in KNOWN:
        raise LedgerError(version_fault(engine.url, str(found)))
    step(engine)


def make(engine: sa.Engine) -> None:
    """Make the tables at head where there are none."""
    with engine.begin() as connection:
        lock_schema(connection)  # of two gateways that start together the second finds the work done
        if schema_version(connection) is None:
            metadata.create_all(connection)
            connection.execute(sa.insert(rolled), [dict(row) for row in ROLLED])
            VERSION_TABLE.create(connection, checkfirst=True)
            connection.execute(sa.insert(VERSION_TABLE).values(version_num=HEAD))


def step(engine: sa.Engine) -> None:
    """Go from whatever version there is to head."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        lock_schema(connection)
        config.attributes["connection"] = connection
        with unhurried(connection):
            command.upgrade(config, HEAD)
