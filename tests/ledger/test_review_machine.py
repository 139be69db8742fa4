"""Random interleavings of reviewers, clock steps and crashes, held against a model that knows every acknowledgement.

Whatever they do: no task is done twice or lost, no answer of a lost lease counts, and what is on disk is what was
acknowledged, on both databases.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.errors import LeaseLost, TooLate
from gateway.ledger import Kept, Lease, Ledger, Limits, NothingForYou, QueueRule, ReviewRules
from gateway.ledger.review import counts
from tests.ledger.making import Clock, sampled
from tests.ledger.reviewers import QUEUE, says

REVIEWERS = ("ann", "bob", "cat", "dan")
LEASE_S = 10.0
reviewers = st.sampled_from(REVIEWERS)
picks = st.integers(0, 10_000)


@dataclass
class Known:
    """What the reviewers were told about a task. `said`: who answered what; `skipped`: who gave it back."""

    holder: str | None = None
    token: int = 0
    said: dict[str, bool] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    first: list[str] = field(default_factory=list)
    settled: tuple[str, bool] | None = None
    disputed: bool = False


class Reviewing(RuleBasedStateMachine):
    """One ledger, some reviewers."""

    fresh = staticmethod(lambda: "")

    @initialize(wanted=st.integers(1, 3))
    def open(self, wanted: int) -> None:
        self.clock = Clock()
        self.url = self.fresh()
        self.wanted = wanted
        self.tasks: dict[int, Known] = {}
        self.leases: list[tuple[str, Lease]] = []
        self.made = 0
        self.ledger = self.opened()
        self.add(4)

    def opened(self) -> Ledger:
        ledger = Ledger(self.url, Limits(linger_s=0.001), self.clock, random.Random(1))
        ledger.set_review_rules(ReviewRules({QUEUE: QueueRule(reviews_required=self.wanted)}))
        ledger.open()
        return ledger

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()

    @rule(count=st.integers(1, 2))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            self.ledger.write_batch(sampled(self.made))
        assert self.ledger.flush()

    @rule(seconds=st.sampled_from([1.0, LEASE_S, 5 * LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.clock.pass_s(seconds)

    @rule()
    def crash(self) -> None:
        """The process ends; what it had not acknowledged nobody was told."""
        self.ledger.close(0.0)
        self.ledger = self.opened()

    @rule(reviewer=reviewers)
    def lease(self, reviewer: str) -> None:
        found = self.ledger.lease(QUEUE, reviewer, LEASE_S).result()
        fits = [known for known in self.tasks.values() if self.may_have(known, reviewer)]
        if isinstance(found, NothingForYou):
            assert not fits, "there is a free task that this reviewer has not seen"
            assert len(self.tasks) == self.made
            return
        known = self.tasks.setdefault(found.task, Known())
        assert reviewer not in known.said
        assert reviewer not in known.skipped
        assert known.settled is None
        assert found.token > known.token
        assert found.deciding == known.disputed
        for other, lease in self.leases:
            live = lease.until_us > self.clock.now_us and self.tasks[lease.task].token == lease.token
            mine_no_more = lease.token in self.tasks[lease.task].tokens.values()
            assert lease.task != found.task or not live or mine_no_more, f"{other} holds it"
        known.holder, known.token = reviewer, found.token
        self.leases.append((reviewer, found))

    def may_have(self, known: Known, reviewer: str) -> bool:
        """Whether a task that somebody has had a lease of is free for a reviewer."""
        if known.settled or reviewer in known.said or reviewer in known.skipped:
            return False
        return not any(
            lease.until_us > self.clock.now_us and lease.token == known.token and known.holder is not None
            for _, lease in self.leases
            if self.tasks[lease.task] is known
        )

    @precondition(lambda self: self.leases)
    @rule(pick=picks, positive=st.booleans())
    def answer(self, pick: int, positive: bool) -> None:
        reviewer, lease = self.leases[pick % len(self.leases)]
        known = self.tasks[lease.task]
        before = known.said.get(reviewer) if known.tokens.get(reviewer) == lease.token else None
        holds = known.holder == reviewer and known.token == lease.token and known.settled is None
        try:
            kept = self.ledger.submit_review(lease.task, lease.token, reviewer, says(positive)).result()
        except LeaseLost:
            assert before is None
            assert not holds
            return
        except TooLate:
            assert before is not None
            assert known.disputed
            return
        if before is None:
            assert holds, "an answer of a lost lease was taken"
            assert kept is Kept.ACCEPTED
        else:
            assert kept is (Kept.DUPLICATE if before == positive else Kept.CORRECTED)
        self.said(known, reviewer, lease.token, positive)

    def said(self, known: Known, reviewer: str, token: int, positive: bool) -> None:
        deciding = known.disputed and reviewer not in known.first
        known.said[reviewer], known.tokens[reviewer] = positive, token
        if known.holder == reviewer and known.token == token:
            known.holder = None
        if not deciding and reviewer not in known.first:
            known.first.append(reviewer)
        self.settle(known, reviewer if deciding else None)

    def settle(self, known: Known, decider: str | None) -> None:
        if decider is not None:
            known.settled = (decider, known.said[decider])
            return
        known.settled = None
        if known.disputed or len(known.first) < self.wanted:
            return
        answers = {known.said[name] for name in known.first}
        known.disputed = len(answers) > 1
        if len(answers) == 1:
            known.settled = ("", answers.pop())
        else:
            known.holder = None

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def skip(self, pick: int) -> None:
        reviewer, lease = self.leases[pick % len(self.leases)]
        known = self.tasks[lease.task]
        again = reviewer in known.skipped and known.tokens.get(reviewer) == lease.token
        holds = known.holder == reviewer and known.token == lease.token and known.settled is None
        try:
            self.ledger.skip_review(lease.task, lease.token, reviewer, "").result()
        except LeaseLost:
            assert not holds
            assert not again
            return
        assert holds or again
        known.skipped.add(reviewer)
        known.tokens[reviewer] = lease.token
        if holds:
            known.holder = None

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def undo(self, pick: int) -> None:
        reviewer, lease = self.leases[pick % len(self.leases)]
        known = self.tasks[lease.task]
        mine = known.tokens.get(reviewer) == lease.token
        try:
            again = self.ledger.undo_review(lease.task, lease.token, reviewer, LEASE_S).result()
        except LeaseLost:
            assert not mine
            return
        except TooLate:
            assert known.disputed
            return
        if not mine:
            assert again is None, "only what was taken back before is taken back again"
            return
        decided = known.settled is not None and known.settled[0] == reviewer
        if reviewer in known.skipped:
            known.skipped.discard(reviewer)
        else:
            del known.said[reviewer]
            if not decided:
                known.first.remove(reviewer)
            known.settled = None
        del known.tokens[reviewer]
        if again is not None:
            known.holder, known.token = reviewer, again.token
            self.leases.append((reviewer, again))

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def heartbeat(self, pick: int) -> None:
        at = pick % len(self.leases)
        reviewer, lease = self.leases[at]
        known = self.tasks[lease.task]
        holds = known.holder == reviewer and known.token == lease.token and known.settled is None
        with suppress(LeaseLost):
            until_us = self.ledger.heartbeat(lease.task, lease.token, reviewer, LEASE_S).result()
            assert holds, "a lost lease was kept alive"
            kept = {name: getattr(lease, name) for name in lease.__dataclass_fields__}
            self.leases[at] = (reviewer, Lease(**{**kept, "until_us": until_us}))
            return
        assert not holds

    @invariant()
    def labels_are_what_was_settled(self) -> None:
        """Each settled task has one label that counts, and no other has any."""
        if not hasattr(self, "ledger"):
            return
        found = self.ledger.reader.labelled(source="review")
        settled = sorted(known.settled[1] for known in self.tasks.values() if known.settled)
        assert sorted(found.positive.tolist()) == settled

    @invariant()
    def no_task_is_lost(self) -> None:
        """Every task is open or done, and counted as that."""
        if not hasattr(self, "ledger"):
            return
        found = self.ledger.reader.snapshot(counts.read)[QUEUE]
        done = sum(known.settled is not None for known in self.tasks.values())
        assert (found.get("open", 0), found.get("done", 0)) == (self.made - done, done)


def test_random_reviewers_against_the_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ledger_kind: str
) -> None:
    """Runs of thirty steps, twenty on SQLite and five on PostgreSQL; `--hypothesis-seed` repeats one."""
    if ledger_kind == "sqlite":
        folder, number = tmp_path_factory.mktemp("machine"), iter(range(10_000))
        Reviewing.fresh = staticmethod(lambda: f"sqlite:///{folder / str(next(number))}.db")
    else:
        server = request.getfixturevalue("postgres")
        open_databases = []

        def fresh() -> str:
            database = server.database()
            open_databases.append(database)
            return str(database.__enter__())

        Reviewing.fresh = staticmethod(fresh)
    steps = settings(
        max_examples=20 if ledger_kind == "sqlite" else 5,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Reviewing, settings=steps)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
