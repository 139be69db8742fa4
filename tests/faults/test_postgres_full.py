"""PostgreSQL on a full disk: what cannot be kept is refused and said, what was acknowledged stays.

Two disks may be full. Without room for data a statement fails, and the server goes on. Without room for its log of
changes the server itself ends, and starts again once there is room.
"""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, Ledger, Limits
from tests.faults.small_disk import filled, small_disk
from tests.ledger.making import label, sampled
from tests.postgres import Postgres, give, wanted

WAIT_S = 60.0
TOGETHER = 100  # labels in one call


def opened(url: str) -> Ledger:
    ledger = Ledger(url, Limits(linger_s=0.01, retry_s=120.0))
    ledger.open()
    return ledger


def until_refused(ledger: Ledger, first: int) -> tuple[int, str]:
    """Labels that were acknowledged, from `first` on, before the first refusal; and its words."""
    number = first
    for _ in range(1_000):
        rows = [label(number + at) for at in range(TOGETHER)]
        try:
            ledger.submit_labels(rows).result(WAIT_S)
        except LedgerUnavailable as error:
            return number - first, str(error)
        number += TOGETHER
    raise AssertionError("the disk never was full")


def all_there(ledger: Ledger, first: int, count: int) -> None:
    """Each acknowledged label is there, and once."""
    for start in range(first, first + count, TOGETHER):
        again = ledger.submit_labels([label(start + at) for at in range(TOGETHER)]).result(WAIT_S)
        assert again == [Kept.DUPLICATE] * TOGETHER
    assert len(ledger.reader.labelled().positive) == count


def test_without_room_for_data_labels_are_refused_and_records_wait() -> None:
    """The reason is said, readers are served on, and it goes on by itself when there is room."""
    wanted()
    with small_disk(24) as disk, Postgres.start() as server:
        give(disk)
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        server.execute("CREATE DATABASE full_one TABLESPACE small")
        with closing(opened(server.url("full_one"))) as ledger:  # type: ignore[type-var]
            with filled(disk, but=1_000_000):
                acknowledged, said = until_refused(ledger, 1)
                assert "disk_full" in said
                assert acknowledged > 0
                for number in range(1, 400):
                    ledger.write_batch(sampled(10_000_000 + number, rows=8))
                assert not ledger.flush(0.5)
                with pytest.raises(LedgerUnavailable, match="disk_full"):
                    ledger.submit_labels([label(9_000_000 + at) for at in range(TOGETHER)]).result(WAIT_S)
                assert len(ledger.reader.labelled().positive) == acknowledged, "readers are not harmed"
            assert ledger.flush(WAIT_S)
            assert ledger.reader.calls().calls.sum() == 399
            assert not any(name.startswith("dropped") for name in ledger.counters())
            all_there(ledger, 1, acknowledged)
            assert ledger.submit_labels([label(9_000_000)]).result(WAIT_S) == [Kept.ACCEPTED]
        server.execute("DROP DATABASE full_one WITH (FORCE)")
        print(f"{acknowledged} labels were acknowledged before the disk was full; none lost, none twice")


def test_without_room_for_the_servers_log_what_was_acknowledged_survives_its_end() -> None:
    """The server ends itself in the middle of a commit, and cannot start before there is room."""
    wanted()
    small = {"min_wal_size": "2MB", "max_wal_size": "8MB"}
    with small_disk(24) as disk, Postgres.start(wal=disk, settings=small) as server:
        with server.database() as url, closing(opened(url)) as ledger:  # type: ignore[type-var]
            with filled(disk):
                acknowledged, _ = until_refused(ledger, 1)
                assert acknowledged > 0
                begun = time.monotonic()
                later, _ = until_refused(ledger, 9_000_000)  # it may come up for a moment, with a page left
                assert time.monotonic() - begun < 30, "the refusal is not waited for"
            server.revive()
            found = len(ledger.reader.labelled().positive)
            # A group that was under way at an end may have been kept; nobody was told that it was, nor that it was not.
            assert found - acknowledged - later in (0, TOGETHER, 2 * TOGETHER)
            again = [label(1 + at) for at in range(acknowledged)]
            again += [label(9_000_000 + at) for at in range(later)]
            assert set(ledger.submit_labels(again).result(WAIT_S)) == {Kept.DUPLICATE}
            assert ledger.submit_labels([label(8_000_000)]).result(WAIT_S) == [Kept.ACCEPTED]
        assert "No space left on device" in server.log()
        assert "PANIC" in server.log(), "it was the server that ended, not the statement"
        print(f"{acknowledged} labels were acknowledged before the server ended; none lost, none twice")
