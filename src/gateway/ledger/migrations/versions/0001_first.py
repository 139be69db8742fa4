"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "captures",
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_captures")),
    )
    op.create_table(
        "decisions",
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Integer(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("flagged", sa.Boolean(), nullable=True),
        sa.Column("stratum", sa.SmallInteger(), nullable=True),
        sa.Column("review_pi", sa.Double(), nullable=False),
        sa.Column("sampled", sa.Boolean(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=True),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("unit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "row", name=op.f("pk_decisions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("positive", sa.Boolean(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Integer(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("flagged", sa.Boolean(), nullable=True),
        sa.Column("review_pi", sa.Double(), nullable=False),
        sa.Column("sampled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
        sa.UniqueConstraint(
            "decision",
            "row",
            "source",
            "kind",
            "revision",
            name=op.f("uq_labels_decision_row_source_kind_revision"),
        ),
    )
    op.create_index(op.f("ix_labels_time_us"), "labels", ["time_us"], unique=False)
    op.create_table(
        "policies",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_policies")),
    )
    op.create_table(
        "review_skips",
        sa.Column("task", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task", "reviewer", name=op.f("pk_review_skips")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "review_tasks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_tasks")),
        sa.UniqueConstraint("decision", "row", name=op.f("uq_review_tasks_decision_row")),
    )
    op.create_index(
        op.f("ix_review_tasks_queue_done_us_id"), "review_tasks", ["queue", "done_us", "id"], unique=False
    )
    op.create_table(
        "tally_calls",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("policy", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour", "route", "policy", "backend", "segment", "outcome", "reason", name=op.f("pk_tally_calls")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tally_overhead",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "route", "bucket", name=op.f("pk_tally_overhead")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tally_scores",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("policy", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("flagged", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("score_bin", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("review_pi", sa.Double(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour",
            "route",
            "policy",
            "backend",
            "segment",
            "outcome",
            "flagged",
            "score_bin",
            "review_pi",
            name=op.f("pk_tally_scores"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tally_shadow",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("policy", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("shadow", sa.Text(), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("judged", sa.BigInteger(), nullable=False),
        sa.Column("agreed", sa.BigInteger(), nullable=False),
        sa.Column("differences", sa.BigInteger(), nullable=False),
        sa.Column("sum_difference", sa.Double(), nullable=False),
        sa.Column("sum_squared", sa.Double(), nullable=False),
        sa.Column("sum_absolute", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "route", "policy", "backend", "shadow", name=op.f("pk_tally_shadow")),
        sqlite_with_rowid=False,
    )
