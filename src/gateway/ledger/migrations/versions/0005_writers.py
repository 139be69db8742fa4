"""Several writers: which segments there are, and how far each writer's groups are stored."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TALLIES = ("tally_calls", "tally_scores", "tally_overhead", "tally_shadow")


def upgrade() -> None:
    """Segments that were counted before are admitted; sums get room to be raised in place."""
    op.create_table(
        "segments",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("route", "segment", name=op.f("pk_segments")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "writers",
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_writers")),
        postgresql_with={"fillfactor": 50},
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO segments (route, segment) "
        "SELECT DISTINCT route, segment FROM tally_calls WHERE segment NOT IN ('', '(other)')"
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in TALLIES:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
