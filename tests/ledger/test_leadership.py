"""Of several controls one acts for all, and when it dies another does."""

from __future__ import annotations

import subprocess
import sys
import time

import psycopg

from gateway.ledger.leadership import Leadership
from tests.wire.gateway_process import ROOT, until


def test_one_leads_and_the_other_waits_its_turn(ledger_url: str) -> None:
    """Two that act at once would publish against each other."""
    first, second = Leadership(ledger_url), Leadership(ledger_url)
    assert [first.leads(), second.leads(), first.leads(), second.leads()] == [True, False, True, False]
    first.close()
    assert second.leads()
    second.close()


def test_a_killed_leader_has_a_successor_within_seconds(ledger_url: str) -> None:
    """kill -9 lets nobody say goodbye: the lock must go with the process."""
    script = (
        "import time; from gateway.ledger.leadership import Leadership;"
        f"kept = Leadership({ledger_url!r}); print(kept.leads(), flush=True); time.sleep(600)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT / "src")}
    )
    try:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"True\n"
        second = Leadership(ledger_url)
        assert not second.leads()
        leader.kill()
        begun = time.monotonic()
        until(second.leads, "the second leads", 10)
        assert time.monotonic() - begun < 5
        second.close()
    finally:
        leader.kill()
        leader.wait()
        if leader.stdout is not None:
            leader.stdout.close()


def test_a_leader_whose_connection_was_cut_leads_no_more(postgres_url: str) -> None:
    """The server has let its lock go: it must find out before it acts, not after."""
    leader, other = Leadership(postgres_url), Leadership(postgres_url)
    assert leader.leads()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    until(other.leads, "the other leads", 5)
    assert not leader.leads()
    other.close()
    assert leader.leads()
    leader.close()
