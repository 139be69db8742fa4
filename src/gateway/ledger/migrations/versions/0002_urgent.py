"""Review tasks that a caller waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add until when the caller waits, and the way to the tasks that are urgent."""
    op.add_column("review_tasks", sa.Column("urgent_until_us", sa.BigInteger(), nullable=True))
    op.create_index("ix_review_tasks_urgent", "review_tasks", ["queue", "urgent_until_us"])
