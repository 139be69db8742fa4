"""Signals are told apart by name, labels know when it happened, and feedback may wait for its decision's record."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """What was kept before is of no name, and of no time but that at which it came."""
    # A key cannot grow in place in SQLite: there the table is copied.
    with op.batch_alter_table("labels") as labels:
        labels.add_column(sa.Column("name", sa.Text(), nullable=False, server_default=""))
        labels.add_column(sa.Column("event_us", sa.BigInteger(), nullable=True))
        labels.drop_constraint("uq_labels_decision_row_source_kind_revision", type_="unique")
        labels.create_unique_constraint(
            "uq_labels_decision_row_source_kind_name_revision",
            ["decision", "row", "source", "kind", "name", "revision"],
        )
    signals = sa.text("kind <> 'label'")
    op.create_index(
        "ix_labels_signals", "labels", ["time_us"], sqlite_where=signals, postgresql_where=signals
    )
    op.create_table(
        "pending_labels",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("positive", sa.Boolean(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=True),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_labels")),
        sa.UniqueConstraint(
            "decision",
            "row",
            "source",
            "kind",
            "name",
            name=op.f("uq_pending_labels_decision_row_source_kind_name"),
        ),
    )
    op.create_index(op.f("ix_pending_labels_expires_us"), "pending_labels", ["expires_us"], unique=False)
