"""Shadows are compared by segment and against noise; labels know the arm that was explored."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """What was compared before is of no segment, and no noise."""
    op.add_column("labels", sa.Column("arm", sa.Text(), nullable=True))
    op.add_column("labels", sa.Column("propensity", sa.Double(), nullable=False, server_default="1"))
    # A key cannot grow in place in SQLite.
    op.execute("CREATE TEMPORARY TABLE kept_shadow AS SELECT * FROM tally_shadow")
    op.drop_table("tally_shadow")
    op.create_table(
        "tally_shadow",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("policy", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("shadow", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("noise", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("judged", sa.BigInteger(), nullable=False),
        sa.Column("agreed", sa.BigInteger(), nullable=False),
        sa.Column("differences", sa.BigInteger(), nullable=False),
        sa.Column("sum_difference", sa.Double(), nullable=False),
        sa.Column("sum_squared", sa.Double(), nullable=False),
        sa.Column("sum_absolute", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour", "route", "policy", "backend", "shadow", "segment", "noise", name=op.f("pk_tally_shadow")
        ),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO tally_shadow (hour, route, policy, backend, shadow, segment, noise, compared, failed, judged, "
        "agreed, differences, sum_difference, sum_squared, sum_absolute) "
        "SELECT hour, route, policy, backend, shadow, '', 0, compared, failed, judged, agreed, differences, "
        "sum_difference, sum_squared, sum_absolute FROM kept_shadow"
    )
    op.execute("DROP TABLE kept_shadow")
