"""Reviews by several people: what each of them did, who may not have a task any more, gold, and counts."""

import hashlib
from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

NEVER_US = 2**62
INDEXES = {
    "free": (
        "done_us IS NULL AND lease_until_us = 0 AND urgent_until_us IS NULL AND gold IS NULL AND stage < 2",
        ["queue", "seen", "priority", "due_us", "id"],
    ),
    "open": ("done_us IS NULL", ["queue", "created_us"]),
    "leased": ("done_us IS NULL AND lease_until_us > 0", ["queue", "lease_until_us"]),
    "urgent": ("done_us IS NULL AND urgent_until_us IS NOT NULL", ["queue", "urgent_until_us"]),
    "due": (f"done_us IS NULL AND due_us < {NEVER_US}", ["queue", "due_us"]),
    "stuck": ("done_us IS NULL AND (stage > 0 OR skips > 0)", ["queue", "stage", "skips"]),
    "compared": ("done_us IS NOT NULL AND reviews > 1 AND gold IS NULL", ["home", "done_us"]),
    "gold": ("gold IS NOT NULL", ["gold", "reviewer"]),
}


def upgrade() -> None:
    """What was answered and skipped before becomes events."""
    _make_tables()
    number = sa.SmallInteger()
    op.add_column("labels", sa.Column("agreement", sa.Double(), nullable=True))
    op.add_column("labels", sa.Column("reviews", number, nullable=True))
    for name, kind, usual in (
        ("home", sa.Text(), ""),
        ("stage", number, "0"),
        ("seen", sa.Text(), ""),
        ("reviews", number, "0"),
        ("skips", number, "0"),
        ("priority", number, "5"),
        ("due_us", sa.BigInteger(), str(NEVER_US)),
        ("leased_us", sa.BigInteger(), "0"),
    ):
        op.add_column("review_tasks", sa.Column(name, kind, nullable=False, server_default=usual))
    op.add_column("review_tasks", sa.Column("gold", sa.BigInteger(), nullable=True))
    op.drop_index("ix_review_tasks_queue_done_us_id", "review_tasks")
    op.drop_index("ix_review_tasks_urgent", "review_tasks")
    for name, (where, columns) in INDEXES.items():
        condition = sa.text(where)
        op.create_index(
            f"ix_review_tasks_{name}",
            "review_tasks",
            columns,
            sqlite_where=condition,
            postgresql_where=condition,
        )
    _carry_over()


def _make_tables() -> None:
    count_up = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "review_events",
        sa.Column("id", count_up, nullable=False),
        sa.Column("task", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("positive", sa.Boolean(), nullable=True),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_events")),
    )
    op.create_index(op.f("ix_review_events_task_id"), "review_events", ["task", "id"])
    op.create_index(op.f("ix_review_events_time_us"), "review_events", ["time_us"])
    op.create_table(
        "review_gold",
        sa.Column("id", count_up, nullable=False),
        sa.Column("decision", sa.LargeBinary(length=16), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("positive", sa.Boolean(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("retired_us", sa.BigInteger(), nullable=True),
        sa.Column("unit", sa.BigInteger(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_gold")),
        sa.UniqueConstraint("decision", "row", "queue", name=op.f("uq_review_gold_decision_row_queue")),
    )
    op.create_index(op.f("ix_review_gold_queue_id"), "review_gold", ["queue", "id"])
    op.create_table(
        "review_counts",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "what", name=op.f("pk_review_counts")),
        sqlite_with_rowid=False,
    )


def _carry_over() -> None:
    op.execute("UPDATE review_tasks SET home = queue")
    op.execute(
        "INSERT INTO review_events (task, time_us, kind, reviewer, token, label, positive, blind) "
        "SELECT t.id, l.received_us, 'answer', l.author, t.lease_token, l.label, l.positive, TRUE "
        "FROM labels l JOIN review_tasks t ON t.decision = l.decision AND t.row = l.row "
        "WHERE l.source = 'review' AND l.kind = 'label' AND t.done_us IS NOT NULL ORDER BY l.id"
    )
    op.execute("UPDATE review_tasks SET reviews = 1 WHERE done_us IS NOT NULL")
    op.execute(
        "INSERT INTO review_events (task, time_us, kind, reviewer, token, blind, reason) "
        "SELECT task, time_us, 'skip', reviewer, 0, TRUE, reason FROM review_skips"
    )
    seen: dict[int, list[str]] = defaultdict(list)
    connection = op.get_bind()
    for task, reviewer in connection.execute(sa.text("SELECT task, reviewer FROM review_skips")):
        seen[task].append(hashlib.sha256(reviewer.encode("utf-8", "surrogatepass")).hexdigest()[:16])
    if seen:
        connection.execute(
            sa.text("UPDATE review_tasks SET seen = :seen, skips = :skips WHERE id = :task"),
            [
                {"seen": "".join(sorted(marks)), "skips": len(marks), "task": task}
                for task, marks in seen.items()
            ],
        )
    op.drop_table("review_skips")
    op.execute(
        "INSERT INTO review_counts (queue, what, count) "
        "SELECT queue, CASE WHEN done_us IS NULL THEN 'open' ELSE 'done' END, COUNT(*) FROM review_tasks "
        "GROUP BY queue, CASE WHEN done_us IS NULL THEN 'open' ELSE 'done' END"
    )
    op.execute(
        "INSERT INTO review_counts (queue, what, count) SELECT t.queue, 'skips', COUNT(*) "
        "FROM review_events e JOIN review_tasks t ON t.id = e.task WHERE e.kind = 'skip' GROUP BY t.queue"
    )
