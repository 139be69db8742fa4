"""Sidecars, controls and PostgreSQL of one fleet are killed at random points while clients and reviewers work.

Each round one of them dies as by kill -9, at a random moment, or PostgreSQL freezes for a while; it comes back, and
work goes on. In the end the database is held to what everybody was told: each acknowledged label and answer is there
exactly once, no task was lost or done twice, and the records are as many as the calls. What may be missing is what a
sidecar promises nobody: the records that it had in memory, of its last seconds.

FAULTS=long makes it 200 rounds (CHAOS_ROUNDS any number); CHAOS_SEED repeats a run's choices.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import Reader, schema
from tests.faults.accounts import hold_to_account
from tests.faults.load import scaled
from tests.faults.people import CALLS, Caller, Client, Person, Reviewer
from tests.fleet.processes import ControlProc, Proc, SidecarProc
from tests.postgres import Postgres, wanted
from tests.wire.gateway_process import until
from tests.wire.servers import ScriptedServer, scores

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", scaled(4, 200)))
SEED = int(os.environ.get("CHAOS_SEED", "20_261"))
SIDECARS = scaled(2, 3)
MEMORY_S = 5.0  # `spool_after_s` is 2, half a second until it is looked and to drain; and a busy machine
QUEUE = "moderation"
REVIEWERS = ("ann", "bob", "cat", "dan")

pytestmark = pytest.mark.timeout(300 + 40 * ROUNDS)


def settings_of(model_server: str, **more: Any) -> dict[str, Any]:
    """Two routes, one of which is reviewed whole; calls are counted by the bucket that a caller names."""
    route = {
        "chain": ["main"],
        "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
    }
    review = {"queue": QUEUE, "share": 1.0, "capture": ["inputs"]}
    return {
        "backends": {"main": {"grpc": model_server, "model": "main"}},
        "routes": {"plain": route, "moderated": {**route, "review": review}},
        "identity": {"segments": {"bucket": "metadata:x-bucket"}},
        "feedback": {"per_caller_per_s": None},
        **more,
    }


@contextlib.contextmanager
def ended(processes: Sequence[Proc]) -> Iterator[None]:
    """None of them outlives the test."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


class Fleet:
    """What can be killed, and how it comes back."""

    def __init__(
        self,
        server: Postgres,
        controls: Sequence[ControlProc],
        sidecars: Sequence[SidecarProc],
        callers: Mapping[str, Caller],
        dice: random.Random,
    ) -> None:
        self.met: Counter[str] = Counter()
        self._server, self._controls, self._sidecars = server, controls, sidecars
        self._callers, self._dice = callers, dice

    def strike(self, number: int) -> None:
        """One round's fault, and its mend."""
        names = [*("sidecar", "control", "postgresql") * 3, "frozen"]
        # The first rounds meet each, whatever the dice say.
        met = ("postgresql", "sidecar", "control", "frozen")
        name = met[number] if number < len(met) else self._dice.choice(names)
        twice, long = number % 10 == 9, number % 50 == 24
        name = "frozen" if long else name
        time.sleep(self._dice.uniform(0, 0.4))  # the point at which it is killed is what is random here
        if name == "sidecar":
            self._process(self._dice.choice(self._sidecars), twice)
        elif name == "control":
            self._process(self._dice.choice(self._controls), twice)
        elif name == "postgresql":
            self._server.kill()
            time.sleep(self._dice.uniform(0, 0.5))
            self._server.resume()
        else:
            self._server.pause()
            # Sometimes longer than anybody waits for an answer.
            time.sleep(22.0 if long else self._dice.uniform(0.1, 2.0))
            self._server.unpause()
        self.met[name] += 1

    def _process(self, process: Proc, twice: bool) -> None:
        """Kill it and start it again; or kill it once more on its way."""
        self._kill(process)
        if twice:
            process.start(ready=False)
            time.sleep(self._dice.uniform(0.2, 2.0))
            self._kill(process)
        process.start()

    def _kill(self, process: Proc) -> None:
        at = time.monotonic()
        process.kill()
        if (caller := self._callers.get(process.name)) is not None:
            caller.killed(at, MEMORY_S)


def nothing_wrong(people: Sequence[Person]) -> None:
    assert {person.name: person.wrong for person in people if person.wrong} == {}


def further(people: Sequence[Person], done: Sequence[Callable[[], int]]) -> None:
    """Wait until everybody has got somewhere since now."""
    before = [one() for one in done]

    def all_have() -> bool:
        nothing_wrong(people)
        return all(one() > was for one, was in zip(done, before, strict=True))

    until(all_have, "everybody gets on", 90)


def all_done(url: str) -> bool:
    """Whether no task is open."""
    task = schema.review_tasks
    reader = Reader.open(url)
    try:
        left = reader.snapshot(
            lambda connection: connection.execute(task.select().where(task.c.done_us.is_(None))).all()
        )
    finally:
        reader.close()
    return not left


def test_a_fleet_loses_and_doubles_nothing_whatever_of_it_is_killed(tmp_path: Path) -> None:
    """Everything that was acknowledged is in the database once, and the records are as many as the calls."""
    wanted()
    dice = random.Random(SEED)
    tokens = {"reviewer": "a-token-of-the-reviewers", "sidecar": "a-token-of-the-sidecars"}
    for role, token in tokens.items():
        (tmp_path / role).write_text(token)
    access = {f"the-{role}": {"role": role, "token": f"file:{tmp_path / role}"} for role in tokens}
    with ScriptedServer(scores(0.97)) as models, Postgres.start() as server, server.database() as url:
        settings = settings_of(models.address, access=access)
        controls = [ControlProc(tmp_path, f"c{at}", url, settings) for at in range(2)]
        addresses = [control.address for control in controls]
        sidecars = [
            SidecarProc(
                *(tmp_path, f"s{at}", addresses if at % 2 else addresses[::-1]),
                *("--token-file", str(tmp_path / "sidecar")),
            )
            for at in range(SIDECARS)
        ]
        doors = [sidecar.address for sidecar in sidecars]
        with ended([*controls, *sidecars]):
            for process in (*controls, *sidecars):
                process.start(ready=False)
            for process in (*controls, *sidecars):
                process.wait_ready()
            clients = [
                Client(doors[at % 2 :] + doors[: at % 2], at, SEED * 4 + at, model="plain", timed=True)
                for at in range(4)
            ]
            for client in clients:
                client.collect([("x-bucket", "setup")])
            reviewers = [
                Reviewer(doors, name, QUEUE, token=tokens["reviewer"], lease_s=3) for name in REVIEWERS
            ]
            callers = {
                sidecar.name: Caller(sidecar.address, sidecar.name, every_s=0.025) for sidecar in sidecars
            }
            people: list[Person] = [*clients, *reviewers, *callers.values()]
            done = [
                *(lambda client=client: client.acknowledged for client in clients),
                *(lambda caller=caller: caller.answered.total() for caller in callers.values()),
                lambda: sum(len(reviewer.acknowledged) for reviewer in reviewers),
            ]
            fleet = Fleet(server, controls, sidecars, callers, dice)
            with contextlib.ExitStack() as working:
                for person in (*clients, *reviewers):
                    working.enter_context(person)
                with contextlib.ExitStack() as calling:
                    for caller in callers.values():
                        calling.enter_context(caller)
                    for number in range(ROUNDS):
                        for caller in callers.values():
                            caller.round = number
                        models.seen.clear()
                        further(people, done)
                        fleet.strike(number)
                    further(people, done)
                for sidecar in sidecars:
                    until(
                        lambda sidecar=sidecar: sidecar.waiting() == 0, "control has everything", 90 + ROUNDS
                    )
                until(lambda: all_done(url), "every task is done", 120 + ROUNDS, every_s=0.5)
                until(lambda: not any(one.busy for one in reviewers), "every answer is acknowledged", 60)
                nothing_wrong(people)
            for sidecar in sidecars:
                sidecar.stop()
            for control in controls:
                control.stop()
        account = hold_to_account(url, clients, reviewers, list(callers.values()), CALLS * len(clients))
        recovered = server.log().count("database system was interrupted")
    broken = sum(person.broken for person in people)
    print(f"seed {SEED}: {ROUNDS} rounds, {dict(fleet.met)}, {broken} broken calls; {account}")
    assert recovered == fleet.met["postgresql"], "it was killed, not stopped"
    assert account.labels == sum(client.acknowledged for client in clients) > ROUNDS * len(clients)
    assert account.answers > ROUNDS
    assert broken >= ROUNDS // 2, "nothing was under way when they were killed"
