"""Several processes write to one ledger: every sum, revision, version and limit is as if one had."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, Lease, Ledger, Limits, schema, urgent
from gateway.ledger.review import counts
from gateway.ledger.segments import OTHER_SEGMENT
from tests.ledger.making import another, batch, decision, label, sampled, wait_for
from tests.ledger.test_durability import ROOT
from tests.ledger.test_urgent import ASKED

T = TypeVar("T")
WAIT_S = 60.0


def opened(stack: ExitStack, url: str, count: int, **limits: Any) -> list[Ledger]:
    ledgers = []
    for _ in range(count):
        ledger = Ledger(url, Limits(**{"linger_s": 0.005, **limits}))
        ledger.open()
        ledgers.append(stack.enter_context(closing(ledger)))  # type: ignore[type-var]
    return ledgers


@pytest.fixture
def two(url: str) -> Iterator[list[Ledger]]:
    """Two ledgers on one database, as two replicas of control have them."""
    with ExitStack() as stack:
        yield opened(stack, url, 2)


@pytest.fixture
def pair(postgres_url: str) -> Iterator[list[Ledger]]:
    """The same for what only PostgreSQL lets happen at once; in SQLite one writer keeps all others out."""
    with ExitStack() as stack:
        yield opened(stack, postgres_url, 2)


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """All of them at once, each in a thread; what each returned."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result(WAIT_S) for future in [threads.submit(work) for work in works]]


def test_sums_of_the_same_cells_add_up_and_nobody_is_in_the_way_for_good(two: list[Ledger]) -> None:
    """Cells in one order everywhere: 200 of them from each side, in opposite orders, 30 times."""
    rows = [{"score": at / 200, "flagged": 0} for at in range(200)]

    def write(ledger: Ledger, rows: list[dict[str, float]]) -> None:
        for _ in range(30):
            ledger.write_batch(batch(rows))
            assert ledger.flush(WAIT_S)

    together([lambda: write(two[0], rows), lambda: write(two[1], rows[::-1])])
    found = two[0].reader.population()
    assert found.rows.tolist() == [60] * 200
    assert two[0].reader.calls().calls.sum() == 60 * 200
    for ledger in two:
        counters = ledger.counters()
        assert counters["stored.records"] == 6_000
        assert {name for name in counters if name.startswith(("dropped", "conflicts"))} == set()


def test_a_limit_of_segments_holds_for_all_processes_and_all_their_runs(url: str) -> None:
    """Callers choose them: were the limit one of a process, a restart would make room for as many again."""
    with ExitStack() as stack:
        first, second = opened(stack, url, 2, segments=5)
        together(
            [
                lambda: [show(first, f"a{at}") for at in range(4)],
                lambda: [show(second, f"b{at}") for at in range(4)],
            ]
        )
    with ExitStack() as stack:
        [third] = opened(stack, url, 1, segments=5)
        show(third, "c0")
        calls = third.reader.calls()
    segments = dict(zip(calls.segment.tolist(), calls.calls.tolist(), strict=True))
    assert len(segments) == 6
    assert segments.pop(OTHER_SEGMENT) == 9 - 5
    assert set(segments.values()) == {1}
    assert "c0" not in segments


def show(ledger: Ledger, segment: str) -> None:
    ledger.write_batch(
        batch([{"segment": 0, "sampled": 1, "id_lo": hash(segment) % 2**32}], strings=[segment])
    )
    assert ledger.flush(WAIT_S)


def test_a_segment_that_another_process_showed_is_known_when_the_route_is_full(url: str) -> None:
    """Else the same segment would be counted under two names."""
    with ExitStack() as stack:
        first, second = opened(stack, url, 2, segments=2)
        for name in ("a", "b"):
            show(first, name)
        for name in ("c", "a", "b", "a"):
            show(second, name)
        calls = second.reader.calls()
    assert dict(zip(calls.segment.tolist(), calls.calls.tolist(), strict=True)) == {
        "a": 3,
        "b": 2,
        OTHER_SEGMENT: 1,
    }


def test_a_decision_whose_segment_found_no_room_has_the_name_it_is_counted_under(url: str) -> None:
    """Its label would else stand for a segment without a population."""
    with ExitStack() as stack:
        first, second = opened(stack, url, 2, segments=1)
        show(first, "a")
        show(second, "b")
        with another(url) as connection:
            found = connection.execute(sa.select(schema.decisions.c.segment)).scalars().all()
    assert Counter(found) == {"a": 1, OTHER_SEGMENT: 1}


def test_versions_of_policies_are_given_out_once_and_without_a_gap(two: list[Ledger]) -> None:
    """A version names one policy, or no record says what it was decided by."""

    def keep(ledger: Ledger, who: str) -> list[int]:
        return [ledger.keep_policy({"who": who, "at": at}, author=who, reason="a test") for at in range(15)]

    versions = together([lambda: keep(two[0], "a"), lambda: keep(two[1], "b")])
    assert sorted(versions[0] + versions[1]) == list(range(1, 31))
    assert [sorted(some) for some in versions] == versions


def test_the_same_policy_from_two_replicas_is_one_version(two: list[Ledger]) -> None:
    """Both read the same file when they start."""
    versions = together(
        [lambda one=one: one.keep_policy({"same": 1}, author="serve", reason="start") for one in two * 3]
    )
    assert versions == [1] * 6


def test_corrections_from_two_sides_are_one_row_of_revisions(pair: list[Ledger]) -> None:
    """Everybody is told what became of their label, and the last revision is the only one that counts."""

    def say(ledger: Ledger, positive: bool) -> list[Kept]:
        return [
            kept
            for _ in range(40)
            for kept in ledger.submit_labels([label(1, positive), label(2, positive)]).result()
        ]

    told = Counter(
        kept
        for some in together([partial(say, pair[0], True), partial(say, pair[1], False)])
        for kept in some
    )
    table = schema.labels
    with another(str(pair[0]._url)) as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        of_one = sa.select(table.c.revision).where(table.c.decision == decision(1)).order_by(table.c.revision)
        revisions = connection.execute(of_one).scalars().all()
    assert told[Kept.ACCEPTED] == 2
    assert told[Kept.CORRECTED] == count - 2
    assert revisions == list(range(1, len(revisions) + 1))
    assert len(revisions) >= 2, "both sides were heard"
    assert len(pair[0].reader.labelled().positive) == 2


def test_no_task_is_given_to_two_reviewers(pair: list[Ledger]) -> None:
    """Six reviewers at two consoles: all tasks are leased, each once, and nobody waits for another's transaction."""
    for number in range(60):
        pair[0].write_batch(sampled(number + 1))
    assert pair[0].flush(WAIT_S)

    def work(ledger: Ledger, reviewer: str) -> list[int]:
        tasks = []
        while isinstance(lease := ledger.lease("moderation", reviewer, 300).result(WAIT_S), Lease):
            tasks.append(lease.task)
        return tasks

    given = together([lambda at=at: work(pair[at % 2], f"reviewer {at}") for at in range(6)])
    tasks = [task for some in given for task in some]
    assert len(tasks) == len(set(tasks)) == 60


def test_tasks_that_nobody_waits_for_are_taken_away_and_counted_once(pair: list[Ledger]) -> None:
    """Two consoles look for them at the same time; the second neither waits for the first nor counts its tasks."""
    ledger, now_us = pair[0], time.time_ns() // 1000
    for number in range(5):
        asked = replace(ASKED, decision=decision(number + 1), until_us=now_us - 1)
        ledger.ask_people(asked).result(WAIT_S)
    with another(str(ledger._url)) as connection, counts.counting(connection):
        urgent.expire(connection, (), now_us)
        ledger.expire_urgent().result(WAIT_S)
    ledger.expire_urgent().result(WAIT_S)
    with another(str(ledger._url)) as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(schema.review_tasks)).scalar_one() == 0
        )
        assert counts.read(connection)["moderation"]["open"] == 0


def test_a_batch_that_is_sent_to_both_is_counted_once(two: list[Ledger]) -> None:
    """A sidecar whose acknowledgement was lost sends again, to whichever control it reaches."""
    for number in range(1, 21):
        works = [partial(one.keep_batch, sampled(number), "sidecar", number) for one in two]
        fresh = [sent.result(WAIT_S) for sent in together(works)]
        assert sorted(fresh) == [False, True]
    assert two[0].reader.calls().calls.sum() == 20
    assert two[0].review_stats()[0].open_tasks == 20
    assert two[0].keep_batch(sampled(3), "sidecar", 3).result() is False
    assert two[1].keep_batch(sampled(3), "another", 3).result() is True, "numbers are each sender's own"
    stored = sum(ledger.counters()["stored.records"] for ledger in two)
    known = sum(ledger.counters()["known.records"] for ledger in two)
    assert (stored, known) == (21, 21)


def test_a_batch_without_a_place_is_its_senders_still(url: str) -> None:
    """It is told at once; nothing is counted as dropped, as nothing is lost."""
    with ExitStack() as stack:
        [ledger] = opened(stack, url, 1, queued_records=10)
        refused = ledger.keep_batch(batch([{}] * 11), "sidecar", 1)
        with pytest.raises(LedgerUnavailable, match="queue_full"):
            refused.result(0)
        assert not any(name.startswith("dropped") for name in ledger.counters())
        assert ledger.keep_batch(batch([{}] * 9), "sidecar", 1).result(WAIT_S)
        assert ledger.reader.calls().calls.tolist() == [9]


def test_nobody_waits_for_a_batch_that_was_given_up(two: list[Ledger]) -> None:
    """A stream that broke cancels what it waited for; the writer goes on."""
    with another(str(two[0]._url)) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE tally_calls IN ACCESS EXCLUSIVE MODE")
        two[0].write_batch(batch([{}]))
        wait_for(lambda: not two[0]._writer._batches)
        given_up = two[0].keep_batch(batch([{}]), "sidecar", 1)
        assert given_up.cancel()
    assert two[0].keep_batch(batch([{}, {}]), "sidecar", 2).result(WAIT_S)
    assert two[0].reader.calls().calls.tolist() == [3]


def test_a_writer_that_was_silent_for_a_month_is_forgotten(url: str) -> None:
    """Every process that ever ran has a row."""
    with ExitStack() as stack:
        [ledger] = opened(stack, url, 1)
        ledger.keep_batch(batch([{}]), "old", 1).result()
        ledger.keep_batch(batch([{}]), "young", 1).result()
    with another(url) as connection:
        table = schema.writers
        connection.execute(
            sa.update(table)
            .where(table.c.writer == "old")
            .values(time_us=table.c.time_us - 31 * 86_400_000_000)
        )
    with ExitStack() as stack:
        opened(stack, url, 1)
        with another(url) as connection:
            assert connection.execute(sa.select(schema.writers.c.writer)).scalars().all() == ["young"]


REPLICA = """
import sys
from gateway.ledger import Ledger, Limits
from tests.ledger.making import batch, label

ledger = Ledger(sys.argv[1], Limits(linger_s=0.001))
ledger.open()
for number in range(50):
    ledger.write_batch(batch([{"score": at / 50, "flagged": 0} for at in range(50)]))
    ledger.submit_labels([label(number, source=sys.argv[2])]).result()
    ledger.keep_policy({"number": number, "by": sys.argv[2]}, author=sys.argv[2], reason="a test")
assert ledger.flush(60)
ledger.close()
"""


def test_four_processes_write_what_one_would_have(postgres_url: str) -> None:
    """Real processes, that know of each other by the database alone; they also make its schema together."""
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    processes = [
        subprocess.Popen([sys.executable, "-c", REPLICA, postgres_url, f"replica-{at}"], env=environment)
        for at in range(4)
    ]
    assert [process.wait(WAIT_S) for process in processes] == [0] * 4
    with ExitStack() as stack:
        [ledger] = opened(stack, postgres_url, 1)
        assert ledger.reader.population().rows.tolist() == [200] * 50
        assert len(ledger.reader.labelled().positive) == 200
        assert ledger.keep_policy({"last": 1}, author="test", reason="a test") == 201


def test_what_a_reader_reads_is_of_one_moment_and_it_cannot_write(ledger: Ledger) -> None:
    """A report adds up several tables: half of them from before a group of records would be a report of nothing."""

    def twice(connection: sa.Connection) -> list[int]:
        count = sa.select(sa.func.count()).select_from(schema.labels)
        before = connection.execute(count).scalar_one()
        ledger.submit_labels([label(1)]).result(WAIT_S)
        return [before, connection.execute(count).scalar_one()]

    assert ledger.reader.snapshot(twice) == [0, 0]
    with pytest.raises(LedgerUnavailable, match=r"read.?only"):
        ledger.reader.snapshot(lambda connection: connection.execute(sa.delete(schema.labels)))
    assert len(ledger.reader.labelled().positive) == 1
