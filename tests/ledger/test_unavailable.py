"""When the database is full, locked or gone: nothing is acknowledged, nothing hangs, and it comes back by itself."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerError, LedgerUnavailable
from gateway.ledger import Kept, Ledger, Limits, Reader
from tests.ledger.making import another, batch, label, locked, sampled, wait_for


def opened(url: str, retry_s: float = 30.0) -> Ledger:
    ledger = Ledger(url, Limits(linger_s=0.01, retry_s=retry_s))
    ledger.open()
    return ledger


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tempfile.mkdtemp()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("a small disk takes the right to mount one")
    try:
        yield Path(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_up(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert os.statvfs(folder).f_bavail == 0
    return filler


def submit_until_refused(ledger: Ledger) -> int:
    """How many labels were acknowledged before the first refusal."""
    for number in range(100_000):
        future = ledger.submit_labels([label(number, row=row) for row in range(20)])
        if future.exception() is not None:
            assert isinstance(future.exception(), LedgerUnavailable)
            return number
    raise AssertionError("the disk never was full")


def test_labels_on_a_full_disk_are_refused_and_taken_again_when_there_is_space(small_disk: Path) -> None:
    """What was acknowledged before stays, what was refused is not there, and no restart is needed."""
    ledger = opened(f"sqlite:///{small_disk / 'ledger.db'}")
    filler = fill_up(small_disk)
    acknowledged = submit_until_refused(ledger)
    with pytest.raises(LedgerUnavailable, match="disk_full"):
        ledger.submit_labels([label(10**6)]).result()
    assert len(ledger.reader.labelled().positive) == acknowledged * 20, "readers are not harmed"
    filler.unlink()
    assert ledger.submit_labels([label(10**6)]).result() == [Kept.ACCEPTED]
    assert len(ledger.reader.labelled().positive) == acknowledged * 20 + 1
    ledger.close()


def test_records_wait_out_a_full_disk(small_disk: Path) -> None:
    """A group of records is tried again until there is space, and then it is there once."""
    ledger = opened(f"sqlite:///{small_disk / 'ledger.db'}")
    filler = fill_up(small_disk)
    submit_until_refused(ledger)
    for number in range(1, 20):
        ledger.write_batch(sampled(number, rows=8))
    assert not ledger.flush(0.3)
    filler.unlink()
    assert ledger.flush(30)
    assert ledger.reader.calls().calls.sum() == 19
    assert ledger.review_stats()[0].open_tasks == 19 * 8
    assert not any(name.startswith("dropped") for name in ledger.counters())
    ledger.close()


def test_a_full_database_refuses_whoever_runs_the_tests(sqlite_url: str) -> None:
    """The same without the right to mount: SQLite's own limit gives the same error."""
    ledger = opened(sqlite_url)
    before = ledger._engine
    pages = []

    @sa.event.listens_for(before, "begin")
    def limit(connection: sa.Connection) -> None:
        if pages:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages[-1]}")

    pages.append(1)  # SQLite takes it as "no more than now"
    acknowledged = submit_until_refused(ledger)
    pages.append(1_000_000)
    assert ledger.submit_labels([label(10**6)]).result() == [Kept.ACCEPTED]
    assert len(ledger.reader.labelled().positive) == acknowledged * 20 + 1
    assert ledger.counters()["jobs_failed.disk_full"] == 1
    ledger.close()


def test_a_lock_of_another_process_is_waited_for_a_little_then_said(url: str) -> None:
    """Labels fail within seconds; records are kept and written when the lock is gone."""
    ledger = opened(url)
    with locked(url, "labels", "tally_calls"):
        ledger.write_batch(batch([{}, {}]))
        with pytest.raises(LedgerUnavailable, match="locked"):
            ledger.submit_labels([label(1)]).result(timeout=20)
    assert ledger.submit_labels([label(1)]).result() == [Kept.ACCEPTED]
    assert ledger.flush()
    assert ledger.reader.calls().calls.tolist() == [2]
    ledger.close()


def test_labels_are_served_while_records_wait_for_another_try(url: str) -> None:
    """One bad table must not stop the other work."""
    ledger = opened(url)
    with another(url) as other:
        other.exec_driver_sql("ALTER TABLE tally_calls RENAME TO away")
    ledger.write_batch(batch([{}]))
    assert not ledger.flush(0.2)
    assert ledger.submit_labels([label(1)]).result(timeout=10) == [Kept.ACCEPTED]
    with another(url) as other:
        other.exec_driver_sql("ALTER TABLE away RENAME TO tally_calls")
    assert ledger.flush()
    assert ledger.reader.calls().calls.tolist() == [1]
    ledger.close()


def test_records_are_dropped_and_counted_when_it_lasts_too_long(url: str) -> None:
    """Memory is bounded, so waiting is."""
    ledger = opened(url, retry_s=0.1)
    with another(url) as other:
        other.exec_driver_sql("DROP TABLE tally_calls")
    ledger.write_batch(sampled(1, rows=3))
    assert ledger.flush()
    counters = ledger.counters()
    assert counters["dropped.records.unavailable"] == counters["dropped.review_tasks.unavailable"] == 3
    ledger.close()


def test_a_full_queue_drops_batches_and_refuses_labels(url: str) -> None:
    """Neither the drain nor a caller is ever made to wait for a place."""
    ledger = Ledger(url, Limits(linger_s=0.01, queued_records=10, queued_jobs=2, queued_capture_bytes=30))
    ledger.open()
    begun, go = threading.Event(), threading.Event()

    @sa.event.listens_for(ledger._engine, "begin")
    def hold(_connection: sa.Connection) -> None:
        begun.set()
        go.wait(20)

    held = ledger._writer.submit(lambda _connection: None)
    assert begun.wait(20)
    ledger.write_batch(batch([{}] * 6))
    ledger.write_batch(batch([{}] * 5))
    ledger.write_batch(sampled(1))
    ledger.write_batch(sampled(2))
    futures = [ledger.submit_labels([label(n)]) for n in range(3)]
    assert isinstance(futures[2].exception(timeout=0), LedgerUnavailable)
    go.set()
    held.result()
    assert ledger.flush()
    assert [future.result() for future in futures[:2]] == [[Kept.ACCEPTED], [Kept.ACCEPTED]]
    counters = ledger.counters()
    assert counters["dropped.records.queue_full"] == 6
    assert counters["dropped.review_tasks.queue_full"] == 1
    assert counters["queued.records"] == 0
    assert ledger.reader.calls().calls.sum() == 7
    ledger.close()


def test_what_waits_at_the_end_is_still_written(url: str) -> None:
    """Closing is a flush."""
    ledger = Ledger(url, Limits(linger_s=60))
    ledger.open()
    ledger.write_batch(batch([{}] * 4))
    future = ledger.submit_labels([label(1)])
    ledger.close()
    assert future.result() == [Kept.ACCEPTED]
    with closing(Reader.open(url)) as reader:  # type: ignore[type-var]
        assert reader.calls().calls.tolist() == [4]
    with pytest.raises(LedgerUnavailable):
        ledger.submit_labels([label(2)]).result()


def test_records_do_not_wait_longer_than_they_may(url: str) -> None:
    """Without any flush, the linger's end writes them."""
    ledger = Ledger(url, Limits(linger_s=0.05))
    ledger.open()
    ledger.write_batch(batch([{}]))
    wait_for(lambda: len(ledger.reader.calls().calls) == 1)
    ledger.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_ledger_is_refused_at_start(tmp_path: Path, content: bytes) -> None:
    """The fault is said when the gateway starts, not with the first label."""
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerUnavailable):
        Ledger(f"sqlite:///{path}").open()


def test_a_place_that_cannot_be_written_is_said_at_start(tmp_path: Path) -> None:
    """With the path and the system's own words."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match=r"file/ledger.db.*File exists"):
        Ledger(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}").open()


def test_only_this_user_may_read_a_ledger(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    """Captured inputs are in it, and in the files beside it."""
    sqlite_ledger.submit_labels([label(1)]).result()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def test_a_ledger_that_is_not_open_takes_nothing(url: str) -> None:
    """It says so, where waiting for an answer would be for ever."""
    with pytest.raises(LedgerUnavailable, match="not open"):
        Ledger(url).submit_labels([label(1)]).result(timeout=0)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
def test_a_place_that_cannot_hold_a_ledger_is_refused(url: str) -> None:
    """What was acknowledged must outlive the process."""
    with pytest.raises(LedgerError):
        Ledger(url)
