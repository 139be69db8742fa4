"""`gateway serve` on SQLite is killed at random points while clients, reviewers and callers work, all at once.

As `test_fleet_chaos`, whose ledger is another: one process has everything, and dies whole. What may be missing are the
records of its last seconds, which nobody was promised.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.accounts import hold_to_account
from tests.faults.load import scaled
from tests.faults.people import CALLS, Caller, Client, Person, Reviewer
from tests.faults.test_fleet_chaos import QUEUE, REVIEWERS, all_done, further, nothing_wrong, settings_of
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, scores

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", scaled(2, 200)))
SEED = int(os.environ.get("CHAOS_SEED", "20_262"))
MEMORY_S = 3.0  # a quarter of a second in the data plane, another for company; and a busy machine

pytestmark = pytest.mark.timeout(300 + 40 * ROUNDS)


def test_a_gateway_that_is_killed_under_everything_at_once_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Labels, answers and tasks once each, and as many records as calls."""
    dice = random.Random(SEED)
    with ScriptedServer(scores(0.97)) as models:
        gateway = GatewayProcess(tmp_path, settings_of(models.address))
        gateway.start()
        doors = [gateway.address]
        clients = [Client(doors, at, SEED * 4 + at, model="plain") for at in range(4)]
        for client in clients:
            client.collect([("x-bucket", "setup")])
        time.sleep(MEMORY_S)  # else the first kill may take the records of these
        reviewers = [Reviewer(doors, name, QUEUE) for name in REVIEWERS]
        caller = Caller(gateway.address, "g", every_s=0.02)
        people: list[Person] = [*clients, *reviewers, caller]
        done = [
            *(lambda client=client: client.acknowledged for client in clients),
            caller.answered.total,
            lambda: sum(len(reviewer.acknowledged) for reviewer in reviewers),
        ]
        url = f"sqlite:///{gateway.state_dir / 'ledger.db'}"
        with contextlib.ExitStack() as working:
            for person in (*clients, *reviewers):
                working.enter_context(person)
            with caller:
                for number in range(ROUNDS):
                    caller.round = number
                    models.seen.clear()
                    further(people, done)
                    time.sleep(dice.uniform(0, 0.4))  # the point at which it is killed is what is random here
                    at = time.monotonic()
                    gateway.kill()
                    caller.killed(at, MEMORY_S)
                    gateway.start()
                further(people, done)
            time.sleep(1.0)  # the last records are written and have become tasks
            until(lambda: all_done(url), "every task is done", 120 + ROUNDS, every_s=0.5)
            until(lambda: not any(one.busy for one in reviewers), "every answer is acknowledged", 60)
            nothing_wrong(people)
        gateway.stop()
    account = hold_to_account(url, clients, reviewers, [caller], CALLS * len(clients))
    broken = sum(person.broken for person in people)
    print(f"seed {SEED}: {ROUNDS} kills, {broken} broken calls; {account}")
    assert account.labels == sum(client.acknowledged for client in clients) > ROUNDS * len(clients)
    assert account.answers > ROUNDS
    assert broken >= ROUNDS, "nothing was under way when the gateway was killed"
