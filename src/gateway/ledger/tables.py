"""What every table of the ledger is made with."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData

__all__ = ["ID", "metadata"]

ID: Final = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
