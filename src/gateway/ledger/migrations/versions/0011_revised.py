"""Corrections are counted by an index of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """They are few, and stand among all the labels that were right at once."""
    where = sa.text("revision > 1")
    op.create_index("ix_labels_revised", "labels", ["time_us"], sqlite_where=where, postgresql_where=where)
