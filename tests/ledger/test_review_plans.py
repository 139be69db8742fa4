"""What is asked all the time goes by an index: a query that loses its own is found here, and not at a million tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import Ledger, review, schema
from gateway.ledger.review import leasing
from gateway.ledger.review.events import mark
from tests.ledger.making import NOW_US
from tests.ledger.reviewers import QUEUE

TASKS = 20_000


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Tasks enough for a planner to prefer an index: most of them done, half of the open ones seen by ann."""
    tables = {
        "review_tasks": {
            "row": "0",
            "queue": f"'{QUEUE}'",
            "home": f"'{QUEUE}'",
            "created_us": f"{NOW_US} + n",
            "done_us": f"CASE WHEN n % 2 = 1 THEN {NOW_US} END",
            "lease_token": "0",
            "lease_until_us": f"CASE WHEN n % 1000 = 0 THEN {NOW_US + 60_000_000} ELSE 0 END",
            "reviewer": "''",
            "seen": f"CASE WHEN n % 4 = 0 THEN '{mark('ann')}' ELSE '' END",
            "reviews": "n % 2 * 2",
        },
        "decisions": {
            "row": "0", "time_us": str(NOW_US), "policy": "7", "route": "'spam'", "backend": "'spam-v3'",
            "segment": "''", "outcome": "0", "reason": "'ok'", "review_pi": "0.25", "sampled": "true",
            "propensity": "1.0", "unit": "1",
        },
        "captures": {"time_us": str(NOW_US), "request": "{blob}", "answer": "{blob}"},
    }  # fmt: skip
    with ledger._engine.begin() as connection:
        on_postgresql = connection.dialect.name == "postgresql"
        # By the database itself: sent row by row, this takes longer than the tests.
        text = "lpad(CAST(n AS TEXT), 16, '0')" if on_postgresql else "printf('%016d', n)"
        blob = f"convert_to({text}, 'UTF8')" if on_postgresql else f"CAST({text} AS BLOB)"
        for table, values in tables.items():
            names = ", ".join(["decision", *values])
            made = ", ".join([blob, *values.values()]).format(blob=blob)
            numbers = (
                f"WITH RECURSIVE made (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM made WHERE n < {TASKS})"
            )
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) {numbers} SELECT {made} FROM made"))
        if on_postgresql:
            connection.execute(sa.text("ANALYZE"))
    return ledger


def plans(ledger: Ledger, work: Callable[[sa.Connection], Any]) -> list[tuple[str, str]]:
    """The statements about review_tasks that some work makes, each with how the database goes about it."""
    seen: list[tuple[str, Any]] = []
    with ledger._engine.connect() as connection, connection.begin() as transaction:

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
            if "review_tasks" in statement and not many and not statement.startswith("EXPLAIN"):
                seen.append((statement, parameters))

        sa.event.listen(connection, "before_cursor_execute", note)
        work(connection)
        sa.event.remove(connection, "before_cursor_execute", note)
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        found = []
        for statement, parameters in seen:
            rows = connection.exec_driver_sql(explain + statement, parameters).all()
            found.append((statement, "\n".join(str(row[-1]) for row in rows)))
        transaction.rollback()
    return found


def scans(plan: str) -> list[str]:
    """Steps that look at every row, or at every entry of an index."""
    return re.findall(r".*(?:SCAN review_tasks\b.*|SCAN head\b.*|Seq Scan on review_tasks.*)", plan)


@pytest.mark.parametrize("reviewer", ["ann", "bob"])
def test_a_lease_looks_at_a_few_tasks(filled: Ledger, reviewer: str) -> None:
    """By the index of free tasks, also for who has seen half of them."""
    lease = partial(
        review.lease, queue=QUEUE, reviewer=reviewer, lease_us=60_000_000, now_us=NOW_US + 1_000_000
    )
    found = plans(filled, lease)
    assert found
    assert not (bad := [plan for _, plan in found if scans(plan)]), bad[0]
    text = "\n".join(plan for _, plan in found)
    for index in ("ix_review_tasks_free", "ix_review_tasks_leased", "ix_review_tasks_urgent"):
        assert index in text, text


def test_a_lease_is_two_statements_for_a_server(filled: Ledger) -> None:
    """One that finds, takes and notes, and one that counts: a reviewer waits for each further round trip."""
    if filled._engine.dialect.name != "postgresql":
        return
    seen: list[str] = []
    sa.event.listen(
        filled._engine, "before_cursor_execute", lambda *given: seen.append(given[2].split("(")[0].strip())
    )
    lease = filled.lease(QUEUE, "bob", 60).result()
    assert isinstance(lease, review.Lease)
    assert len(seen) == 2, seen


def test_an_answer_looks_at_one_task(filled: Ledger) -> None:
    """By its number."""
    with filled._engine.begin() as connection:
        number = connection.execute(sa.select(sa.func.min(schema.review_tasks.c.id))).scalar_one()
    found = plans(filled, lambda connection: leasing.locked(connection, number))
    assert [plan for _, plan in found if scans(plan)] == []


def test_stats_look_at_what_they_count(filled: Ledger) -> None:
    """Open and done tasks are not looked at one by one, but for the first thousand."""
    found = plans(filled, partial(review.stats, queue=None, now_us=NOW_US + 1_000_000))
    assert found == [], "nothing was counted yet"
    with filled._engine.begin() as connection:
        review.counts.recount(connection)
    found = plans(filled, partial(review.stats, queue=None, now_us=NOW_US + 1_000_000))
    assert len(found) >= 7
    assert not (bad := [plan for _, plan in found if scans(plan)]), bad[0]


def test_agreement_looks_at_the_last_tasks_that_were_compared(filled: Ledger) -> None:
    """However many were done."""
    found = plans(filled, partial(review.agreement, queue=QUEUE))
    assert found
    assert not (bad := [plan for _, plan in found if scans(plan)]), bad[0]
    assert all("ix_review_tasks_compared" in plan for _, plan in found)
