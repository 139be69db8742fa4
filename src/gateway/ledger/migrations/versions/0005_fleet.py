"""Fleets: which batches of sidecars were counted, and what a policy was made of."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Of what older versions were made is not known."""
    op.add_column("policies", sa.Column("source", sa.Text(), nullable=True))
    op.create_table(
        "fleet_runs",
        sa.Column("run", sa.LargeBinary(16), nullable=False),
        sa.Column("sidecar", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_fleet_runs")),
        sqlite_with_rowid=False,
    )
