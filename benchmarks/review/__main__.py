"""How long a lease and Stats take at a million open tasks: `python -m benchmarks.review [--tasks N] [--postgres]`.

Method: one process, one queue of N open tasks, a tenth of them seen by `ann` and waiting for a second answer. A lease
is timed from the call to its result, so with the commit on disk; the same without it inside one transaction.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from gateway.ledger import Lease, Ledger, QueueRule, ReviewRules, review
from gateway.ledger.review import counts
from gateway.ledger.review.events import mark

QUEUE = "moderation"
LEASES = 200
NOW_US = time.time_ns() // 1000

_NUMBERS = {
    "sqlite": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n})",
        "CAST(substr('0000000000000000' || i, -16) AS BLOB)",
    ),
    "postgresql": (
        "WITH n AS (SELECT generate_series(1, {n}) AS i)",
        "decode(lpad(to_hex(i), 32, '0'), 'hex')",
    ),
}


_FACTS = (
    "decision, row, time_us, policy, route, backend, segment, outcome, reason, review_pi, sampled, "
    "propensity, unit"
)


def fill(ledger: Ledger, tasks: int) -> None:
    with ledger._engine.begin() as connection:
        numbers, key = _NUMBERS[connection.dialect.name]
        numbers = numbers.format(n=tasks)
        seen = f"CASE WHEN mod(i, 10) = 0 THEN '{mark('ann')}' ELSE '' END"
        for table, columns, values in (
            (
                "review_tasks",
                "decision, row, queue, home, created_us, lease_token, lease_until_us, reviewer, seen, reviews",
                f"{key}, 0, '{QUEUE}', '{QUEUE}', i, 0, 0, '', {seen}, CASE WHEN mod(i, 10) = 0 THEN 1 ELSE 0 END",
            ),
            (
                "decisions",
                _FACTS,
                f"{key}, 0, i, 1, 'spam', 'v3', '', 0, 'ok', 0.25, TRUE, 1.0, 1",
            ),
            ("captures", "decision, time_us, request, answer", f"{key}, i, {key}, {key}"),
        ):
            columns = columns.replace("row,", '"row",')
            connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) {numbers} SELECT {values} FROM n")
        counts.recount(connection)
        connection.exec_driver_sql("ANALYZE")


def show(what: str, work: Callable[[], object], times: int) -> None:
    """Print the median and 99th percentile of the time that it takes, and the processor's part of it."""
    took = []
    processor = time.process_time()
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append((time.perf_counter() - begin) * 1e3)
    processor = (time.process_time() - processor) * 1e3 / times
    took.sort()
    median, slow = statistics.median(took), took[int(times * 0.99) - 1]
    print(f"  {what}: median {median:.2f} ms, p99 {slow:.2f} ms, processor {processor:.2f} ms")


def run(url: str, tasks: int) -> None:
    ledger = Ledger(url)
    ledger.set_review_rules(ReviewRules({QUEUE: QueueRule(reviews_required=2)}))
    ledger.open()
    begin = time.perf_counter()
    fill(ledger, tasks)
    print(f"{url.split(':')[0]}: {tasks:,} open tasks, made in {time.perf_counter() - begin:.0f} s")
    for reviewer in ("bob", "ann"):

        def lease(reviewer: str = reviewer) -> None:
            assert isinstance(ledger.lease(QUEUE, reviewer, 300).result(), Lease)

        show(f"lease, {reviewer}, with commit", lease, LEASES)
        with ledger._engine.connect() as connection, connection.begin() as transaction:

            def inside(reviewer: str = reviewer) -> None:
                assert isinstance(review.lease(connection, QUEUE, reviewer, 300_000_000, NOW_US), Lease)

            show(f"lease, {reviewer}, without", inside, LEASES)
            transaction.rollback()
    show("stats", lambda: ledger.review_stats(QUEUE), 50)
    ledger.close()


@contextmanager
def database(postgres: bool, folder: Path) -> Iterator[str]:
    if not postgres:
        yield f"sqlite:///{folder / 'ledger.db'}"
        return
    from tests.postgres import Postgres

    with Postgres.start() as server, server.database() as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    print(f"SQLAlchemy {sa.__version__}")
    with tempfile.TemporaryDirectory() as folder, database(given.postgres, Path(folder)) as url:
        run(url, given.tasks)


if __name__ == "__main__":
    main()
