"""Who did what: the audit trail."""

# ruff: noqa: S608  what is put into the statements stands in this file

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """What was done before is in no trail."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_time_us"), "audit", ["time_us"], unique=False)
    for table, column in (("decisions", "time_us"), ("decisions", "unit"), ("captures", "time_us")):
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)
    _tally_labels()
    _rolled()


KEYS = {
    "calls": "route:text policy:int backend:text segment:text outcome:small reason:text",
    "scores": (
        "route:text policy:int backend:text segment:text outcome:small flagged:small score_bin:small "
        "review_pi:double"
    ),
    "overhead": "route:text bucket:small",
    "shadow": "route:text policy:int backend:text shadow:text segment:text noise:small",
    "labels": (
        "route:text policy:int backend:text segment:text outcome:small flagged:small score_bin:small "
        "review_pi:double sampled:small source:text positive:small"
    ),
}
SUMS = {
    "calls": "calls:big rows:big",
    "scores": "rows:big sampled:big",
    "overhead": "calls:big",
    "shadow": (
        "compared:big failed:big judged:big agreed:big differences:big sum_difference:double sum_squared:double "
        "sum_absolute:double"
    ),
    "labels": "labels:big",
}
TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "int": sa.Integer(),
    "small": sa.SmallInteger(),
    "big": sa.BigInteger(),
    "double": sa.Double(),
}


def _columns(of: str) -> list[sa.Column[Any]]:
    named = [one.split(":") for one in of.split()]
    return [sa.Column(name, TYPES[kind], autoincrement=False, nullable=False) for name, kind in named]


def _make(name: str, *columns: sa.Column[Any], sums: str) -> None:
    keys = sa.PrimaryKeyConstraint(*(column.name for column in columns), name=op.f(f"pk_{name}"))
    op.create_table(name, *columns, *_columns(sums), keys, sqlite_with_rowid=False)


def _tally_labels() -> None:
    """Count what is there; and how many of the predictions that were counted are sampled."""
    _make("tally_labels", *_columns("hour:int " + KEYS["labels"]), sums=SUMS["labels"])
    op.add_column("tally_scores", sa.Column("sampled", sa.BigInteger(), nullable=False, server_default="0"))
    postgresql = op.get_bind().dialect.name == "postgresql"
    # CAST cuts towards zero in SQLite and rounds in PostgreSQL, which has floor() always.
    scaled = "CAST(floor(score * 1000) AS SMALLINT)" if postgresql else "CAST(score * 1000 AS INTEGER)"
    facts = (
        "time_us / 3600000000 AS hour, route, policy, backend, segment, outcome, "
        "CASE WHEN flagged IS NULL THEN -1 WHEN flagged THEN 1 ELSE 0 END AS flagged, "
        f"CASE WHEN score IS NULL THEN -1 WHEN score < 0 THEN 0 WHEN score >= 1 THEN 999 ELSE {scaled} END "
        "AS score_bin, review_pi"
    )
    op.execute(
        "INSERT INTO tally_labels SELECT hour, route, policy, backend, segment, outcome, flagged, score_bin, "
        "review_pi, sampled, source, positive, count(*) FROM ("
        f"SELECT {facts}, CASE WHEN sampled THEN 1 ELSE 0 END AS sampled, source, "
        "CASE WHEN positive IS NULL THEN -1 WHEN positive THEN 1 ELSE 0 END AS positive FROM labels "
        "WHERE kind = 'label' AND (label IS NOT NULL OR positive IS NOT NULL) AND NOT EXISTS ("
        "SELECT 1 FROM labels AS later WHERE later.decision = labels.decision AND later.row = labels.row "
        "AND later.source = labels.source AND later.kind = labels.kind AND later.revision > labels.revision)"
        ") AS last GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
    )
    key = "hour route policy backend segment outcome flagged score_bin review_pi".split()  # noqa: SIM905
    op.execute(
        f"CREATE TEMPORARY TABLE chosen AS SELECT {', '.join(key)}, count(*) AS n FROM ("
        f"SELECT {facts} FROM decisions WHERE sampled) AS facts GROUP BY {', '.join(key)}"
    )
    same = " AND ".join(f"chosen.{name} = tally_scores.{name}" for name in key)
    op.execute(f"UPDATE tally_scores SET sampled = n FROM chosen WHERE {same}")
    op.execute("DROP TABLE chosen")


def _rolled() -> None:
    """Nothing is rolled yet."""
    for name, keys in KEYS.items():
        _make(f"rolled_{name}", *_columns("span:small hour:int " + keys), sums=SUMS[name])
    table = op.create_table(
        "rolled",
        sa.Column("tally", sa.Text(), nullable=False),
        sa.Column("span", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("first_hour", sa.Integer(), nullable=False),
        sa.Column("end_hour", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tally", "span", name=op.f("pk_rolled")),
        sqlite_with_rowid=False,
    )
    op.bulk_insert(
        table,
        [
            {"tally": f"tally_{name}", "span": span, "first_hour": -(10**9), "end_hour": -(10**9)}
            for name in KEYS
            for span in (768, 24)
        ],
    )
