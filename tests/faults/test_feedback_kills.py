"""kill -9 at random points while clients send feedback: what was acknowledged is on disk, once, in its order.

Each client corrects its own rows to and fro, one statement after the other, and says a statement again until it is
acknowledged, as an application would. So the ledger must hold exactly the statements that were acknowledged: one
missing was lost after an OK, one more was kept twice. Those under way at a kill may have been kept or not; said again,
they are a duplicate or new, and either way there once.

Two rounds in everyday's run, 200 in `make faults` (FEEDBACK_KILLS sets another number; FEEDBACK_SEED repeats a run).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.v1 import feedback_pb2 as pb
from tests.faults.load import scaled
from tests.faults.people import LABELS, Client
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, scores

ROUNDS = int(os.environ.get("FEEDBACK_KILLS", scaled(2, 200)))
SEED = int(os.environ.get("FEEDBACK_SEED", time.time_ns() % 1_000_000))
CLIENTS = 4

pytestmark = pytest.mark.timeout(7200)


def kept(file: Path) -> dict[tuple[str, int, str], list[tuple[int, str]]]:
    """Revisions and labels in the ledger, by decision, row and source."""
    found: dict[tuple[str, int, str], list[tuple[int, str]]] = {}
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT hex(decision), row, source, revision, label FROM labels ORDER BY id"
        for decision, row, source, revision, label in connection.execute(query):
            found.setdefault((decision.lower(), row, source), []).append((revision, label))
    finally:
        connection.close()
    return found


def check(clients: list[Client], file: Path) -> int:
    """Hold the ledger to what the clients were told; returns how many labels it has."""
    there = kept(file)
    wanted = {
        (decision.replace("-", ""), row, client.name): said
        for client in clients
        for (decision, row), said in client.said.items()
        if said
    }
    lost = {
        key: said - len(there.get(key, [])) for key, said in wanted.items() if len(there.get(key, [])) < said
    }
    assert lost == {}, f"acknowledged and not there (seed {SEED}): {lost}"
    twice = {
        key: len(rows) - wanted.get(key, 0) for key, rows in there.items() if len(rows) > wanted.get(key, 0)
    }
    assert twice == {}, f"there more often than it was said (seed {SEED}): {twice}"
    for key, rows in there.items():
        assert rows == [(at + 1, LABELS[at % 2]) for at in range(len(rows))], key
    return sum(len(rows) for rows in there.values())


def test_acknowledged_feedback_survives_kills_at_random_points_once(tmp_path: Path) -> None:
    """Killed while serving, and sometimes while starting; at the end nothing is missing and nothing is there twice."""
    dice = random.Random(SEED)
    with ScriptedServer(scores(0.97)) as server:
        prediction = {"scores": "probabilities", "classes": list(LABELS), "positive": "spam"}
        gateway = GatewayProcess(
            tmp_path,
            {
                "backends": {"main": {"grpc": server.address, "model": "main"}},
                "routes": {"spam": {"chain": ["main"], "prediction": prediction}},
                "feedback": {"per_caller_per_s": None},
            },
        )
        gateway.start()
        clients = [Client([gateway.address], number, SEED * CLIENTS + number) for number in range(CLIENTS)]
        for client in clients:
            client.collect()
        with clients[0], clients[1], clients[2], clients[3]:
            for number in range(ROUNDS):
                further(clients)
                time.sleep(dice.uniform(0, 0.3))  # the point at which it is killed is what is random here
                gateway.kill()
                if number % 10 == 9:
                    kill_while_starting(gateway, dice.uniform(0, 1.5))
                gateway.start()
                assert [client.wrong for client in clients] == [[]] * CLIENTS
        gateway.stop()
    labels = check(clients, gateway.state_dir / "ledger.db")
    kinds = sum((client.kinds for client in clients), Counter[int]())
    again = kinds[pb.FeedbackResult.DUPLICATE]
    broken = sum(client.broken for client in clients)
    print(
        f"seed {SEED}: {ROUNDS} kills, {labels} labels, {broken} broken calls, {again} had been kept unacknowledged"
    )
    assert labels == sum(kinds.values()) > ROUNDS * CLIENTS
    assert broken >= ROUNDS, "nothing was under way when the gateway was killed"


def further(clients: list[Client]) -> None:
    """Wait until feedback of every client was acknowledged from now on."""
    before = [client.acknowledged for client in clients]

    def all_were() -> bool:
        pairs = zip(clients, before, strict=True)
        return all(client.acknowledged > was or client.wrong for client, was in pairs)

    until(all_were, "feedback of every client was acknowledged", timeout_s=60)


def kill_while_starting(gateway: GatewayProcess, after_s: float) -> None:
    """Begin to start, and die on the way; or just after it."""
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(gateway.start)
        time.sleep(after_s)
        until(gateway.running, "a process is there")
        os.kill(gateway.pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            starting.result(90)
    gateway.kill()


def test_the_check_itself_finds_what_is_lost_and_what_is_there_twice(tmp_path: Path) -> None:
    """Else the test above would pass on any ledger."""
    file = tmp_path / "ledger.db"
    with sqlite3.connect(file) as connection:
        connection.execute(
            "CREATE TABLE labels (id INTEGER PRIMARY KEY, decision BLOB, row INTEGER, source TEXT, "
            "revision INTEGER, label TEXT)"
        )
        rows = [(b"\1" * 16, 0, "app-0", revision, LABELS[revision - 1]) for revision in (1, 2)]
        connection.executemany(
            "INSERT INTO labels (decision, row, source, revision, label) VALUES (?,?,?,?,?)", rows
        )
    connection.close()
    key = ("01" * 16, 0)
    for said, words in (
        (2, None),
        (3, "acknowledged and not there"),
        (1, "there more often than it was said"),
    ):
        client = Client([""], 0, 0)
        client.said[key] = said
        if words is None:
            assert check([client], file) == 2
            continue
        with pytest.raises(AssertionError, match=words):
            check([client], file)
