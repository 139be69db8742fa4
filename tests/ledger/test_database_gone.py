"""A database that goes away in the middle and comes back: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, Ledger, Limits, Reader
from tests.ledger.making import batch, label, sampled, wait_for
from tests.postgres import Postgres, wanted

WAIT_S = 60.0


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A server of the test's own."""
    wanted()
    with Postgres.start() as server:
        yield server


def opened(url: str, retry_s: float = 60.0) -> Ledger:
    ledger = Ledger(url, Limits(linger_s=0.01, retry_s=retry_s))
    ledger.open()
    return ledger


def lose_the_answer(ledger: Ledger, after: bool, times: int = 1) -> None:
    """Break the connection at the next commits: after the database has done it, or before."""
    dialect = ledger._engine.dialect
    commit: Callable[[Any], None] = dialect.do_commit
    left = [times]

    def broken(connection: Any) -> None:
        if not left[0]:
            commit(connection)
            return
        left[0] -= 1
        if after:
            commit(connection)
        if dialect.name == "sqlite":
            raise sqlite3.OperationalError("disk I/O error")
        connection.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    dialect.do_commit = broken  # type: ignore[method-assign]


@pytest.mark.parametrize("after", [True, False])
def test_records_whose_commit_was_not_heard_of_are_there_once(ledger: Ledger, after: bool) -> None:
    """The trap: the transaction is in the database, and its writer does not know. Storing it again changes nothing."""
    lose_the_answer(ledger, after)
    ledger.write_batch(sampled(1, rows=3))
    assert ledger.flush(WAIT_S)
    ledger.write_batch(sampled(2))
    assert ledger.flush(WAIT_S)
    assert ledger.reader.calls().rows.sum() == 4
    assert ledger.review_stats()[0].open_tasks == 4
    counters = ledger.counters()
    assert counters["stored.records"] == 4
    assert not any(name.startswith("dropped") for name in counters)


@pytest.mark.parametrize("after", [True, False])
def test_a_label_whose_commit_was_not_heard_of_is_refused_and_harmless_when_it_comes_again(
    ledger: Ledger, after: bool
) -> None:
    """Nothing is promised that may not be so; and the caller, who sends it again, has it counted once."""
    lose_the_answer(ledger, after)
    with pytest.raises(LedgerUnavailable, match="send it again"):
        ledger.submit_labels([label(1)]).result(WAIT_S)
    assert ledger.submit_labels([label(1)]).result(WAIT_S) == [Kept.DUPLICATE if after else Kept.ACCEPTED]
    assert ledger.reader.labelled().positive.tolist() == [True]


@pytest.mark.parametrize("after", [True, False])
def test_a_policy_whose_commit_was_not_heard_of_has_the_version_it_got(ledger: Ledger, after: bool) -> None:
    """Asked for again it is the same policy."""
    lose_the_answer(ledger, after)
    with pytest.raises(LedgerUnavailable):
        ledger.keep_policy({"a": 1}, author="ann", reason="a test")
    assert ledger.keep_policy({"a": 1}, author="ann", reason="a test") == 1
    assert ledger.keep_policy({"a": 2}, author="ann", reason="a test") == 2


@pytest.mark.timeout(300)
def test_a_server_killed_under_load_loses_and_doubles_nothing(mortal: Postgres) -> None:
    """SIGKILL five times, at any point of labels, records, and batches of sidecars, whose senders send again."""
    with mortal.database() as url, closing(opened(url)) as ledger:  # type: ignore[type-var]
        over = threading.Event()
        told: list[int] = []
        sent = [0, 0]
        faults: list[BaseException] = []

        def labels() -> None:
            number = 0
            while not over.is_set():
                number += 1
                while not over.is_set():
                    try:
                        ledger.submit_labels([label(number)]).result(WAIT_S)
                    except LedgerUnavailable:
                        time.sleep(0.01)
                    else:
                        told.append(number)
                        break

        def records() -> None:
            while not over.is_set():
                ledger.write_batch(batch([{}] * 7))
                sent[0] += 7
                time.sleep(0.001)

        def sidecar() -> None:
            number = 0
            while not over.is_set():
                number += 1
                acknowledged = False
                while not acknowledged:
                    try:
                        ledger.keep_batch(batch([{"route": 1}] * 5), "sidecar", number).result(WAIT_S)
                        acknowledged = True
                    except LedgerUnavailable:
                        time.sleep(0.01)
                sent[1] += 5

        def guarded(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    work()
                except BaseException as fault:
                    faults.append(fault)
                    over.set()

            return run

        threads = [threading.Thread(target=guarded(work)) for work in (labels, records, sidecar)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                before = len(told)
                wait_for(lambda before=before: len(told) >= before + 20 or over.is_set(), WAIT_S)  # type: ignore[misc]
                mortal.kill()
                mortal.resume()
        finally:
            over.set()
            for thread in threads:
                thread.join(WAIT_S)
        assert faults == []
        assert ledger.flush(WAIT_S)
        again = ledger.submit_labels([label(number) for number in told]).result(WAIT_S)
        assert again == [Kept.DUPLICATE] * len(told)
        labelled = len(ledger.reader.labelled().positive)
        assert len(told) <= labelled <= len(told) + 1, "at most the one that was under way at the end"
        calls = ledger.reader.calls()
        assert dict(zip(calls.route.tolist(), calls.calls.tolist(), strict=True)) == {
            "spam": sent[0],
            "fraud": sent[1],
        }
        counters = ledger.counters()
        assert not any(name.startswith("dropped") for name in counters)
        assert len(told) >= 100
        assert mortal.log().count("database system was interrupted") == 5, "it was killed, not stopped"


def test_while_the_server_is_away_labels_are_refused_and_records_wait(mortal: Postgres) -> None:
    """Callers are told at once, not at the end of a time-out; and it all goes on without a restart of ours."""
    with mortal.database() as url, closing(opened(url)) as ledger:  # type: ignore[type-var]
        ledger.submit_labels([label(1)]).result(WAIT_S)
        assert len(ledger.reader.labelled().positive) == 1
        mortal.stop()
        started = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="could not commit"):
            ledger.submit_labels([label(2)]).result(WAIT_S)
        with pytest.raises(LedgerUnavailable, match="cannot be read now"):
            ledger.reader.calls()
        assert time.monotonic() - started < 10
        ledger.write_batch(batch([{}] * 3))
        assert not ledger.flush(0.5)
        mortal.resume()
        assert ledger.flush(WAIT_S)
        assert ledger.submit_labels([label(2)]).result(WAIT_S) == [Kept.ACCEPTED]
        assert ledger.reader.calls().calls.sum() == 3


def test_a_restart_between_two_requests_costs_none_of_them(mortal: Postgres) -> None:
    """A connection is tried before it is used."""
    with mortal.database() as url, closing(opened(url)) as ledger:  # type: ignore[type-var]
        ledger.submit_labels([label(1)]).result(WAIT_S)
        ledger.reader.calls()
        mortal.kill()
        mortal.resume()
        assert ledger.submit_labels([label(2)]).result(WAIT_S) == [Kept.ACCEPTED]
        assert len(ledger.reader.labelled().positive) == 2


def test_a_server_that_cannot_be_reached_is_said_at_start_without_its_password(mortal: Postgres) -> None:
    """The words go to logs and terminals."""
    url = mortal.tcp_url("nothing_here")
    for opening in (lambda: Ledger(url).open(), lambda: Reader.open(url)):
        with pytest.raises(LedgerUnavailable, match="nothing_here") as refusal:
            opening()
        assert "not-for-logs" not in str(refusal.value)
    with pytest.raises(LedgerUnavailable, match="password") as refusal:
        Ledger(mortal.tcp_url("postgres", "wrong-not-for-logs")).open()
    assert "not-for-logs" not in str(refusal.value)
    mortal.stop()
    with pytest.raises(LedgerUnavailable, match="refused") as refusal:
        Ledger(url).open()
    assert "not-for-logs" not in str(refusal.value)


def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(mortal: Postgres) -> None:
    """An administrator's `synchronous_commit = off` would let a crash take back what was acknowledged."""
    mortal.execute("ALTER SYSTEM SET synchronous_commit = off")
    mortal.execute("SELECT pg_reload_conf()")
    with mortal.database() as url:
        wait_for(lambda: mortal.execute("SHOW synchronous_commit") == [("off",)])
        with closing(opened(url)) as ledger:  # type: ignore[type-var]
            work = ledger._writer.submit(
                lambda connection: connection.scalar(sa.text("SHOW synchronous_commit"))
            )
            assert work.result(WAIT_S) == "on"
