"""Review tasks may lie in a label tool, whose answers are taken once."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing lay anywhere before."""
    op.create_table(
        "tool_tasks",
        sa.Column("of_decision", sa.LargeBinary(16), nullable=False),
        sa.Column("of_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("task", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("remote", sa.BigInteger(), nullable=True),
        sa.Column("sent_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("of_decision", "of_row", name=op.f("pk_tool_tasks")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tool_tasks_place_remote"), "tool_tasks", ["place", "remote"])
    op.create_table(
        "tool_answers",
        sa.Column("of_decision", sa.LargeBinary(16), nullable=False),
        sa.Column("of_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("answer", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=True),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("of_decision", "of_row", "answer", name=op.f("pk_tool_answers")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tool_answers_answer"), "tool_answers", ["answer"])
