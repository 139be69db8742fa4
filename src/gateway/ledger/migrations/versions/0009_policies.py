"""What a policy was made of is kept with it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Of what older versions were made is not known."""
    op.add_column("policies", sa.Column("source", sa.Text(), nullable=True))
