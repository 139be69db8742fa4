"""Questions of sidecars before people: whoever answers, wherever, and whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.ledger import Lease, Ledger, Limits, truth_of
from gateway.ledger.labels import RouteClasses
from gateway.services.asking import Asking
from gateway.v1 import fleet_pb2 as pb
from tests.ledger.making import NOW_US, Clock, decision

CLASSES = RouteClasses(("ham", "spam"), "spam")
WAIT_S = 20.0


def question(number: int, count: int = 1, **changes: object) -> pb.PeopleQuestion:
    made = pb.PeopleQuestion(
        question=number,
        decision=decision(number),
        rows=range(count),
        queue="q",
        route="spam",
        backend="moderators",
        segment="device=phone",
        unit=2**64 - 1,
        policy=7,
        time_us=NOW_US,
        wait_us=20_000_000,
        request=b"an email",
    )
    made.MergeFrom(pb.PeopleQuestion(**changes))  # type: ignore[arg-type]
    return made


class Sidecar:
    """One conversation with a control."""

    def __init__(self, asking: Asking) -> None:
        self._asked: asyncio.Queue[pb.PeopleQuestion | None] = asyncio.Queue()
        self._answers = asking.converse(self._read())
        self._reading = asyncio.create_task(self._take())
        self.answers: asyncio.Queue[pb.PeopleAnswer] = asyncio.Queue()

    async def _read(self) -> AsyncIterator[pb.PeopleQuestion]:
        while (asked := await self._asked.get()) is not None:
            yield asked

    async def _take(self) -> None:
        async for answer in self._answers:
            await self.answers.put(answer)

    async def ask(self, asked: pb.PeopleQuestion) -> None:
        await self._asked.put(asked)

    async def next(self) -> tuple[int, list[str]]:
        answer = await asyncio.wait_for(self.answers.get(), WAIT_S)
        return answer.question, list(answer.labels)

    async def leave(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._answers.aclose()  # type: ignore[attr-defined]


@pytest.fixture
def ledgers(ledger_url: str) -> Iterator[tuple[Ledger, Ledger]]:
    made = (
        Ledger(ledger_url, Limits(linger_s=0.01), Clock()),
        Ledger(ledger_url, Limits(linger_s=0.01), Clock()),
    )
    for ledger in made:
        ledger.open()
    yield made
    for ledger in made:
        ledger.close()


@asynccontextmanager
async def asking(ledger: Ledger) -> AsyncIterator[Asking]:
    made = Asking(ledger, lambda: NOW_US)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def leased(ledger: Ledger, reviewer: str = "ann") -> Lease:
    async with asyncio.timeout(WAIT_S):
        while True:
            lease = await asyncio.wrap_future(ledger.lease("q", reviewer, 300))
            if isinstance(lease, Lease):
                return lease
            await asyncio.sleep(0.02)


async def answer(ledger: Ledger, lease: Lease, label: str, reviewer: str = "ann") -> None:
    def truth(route: str) -> object:
        return truth_of(route, CLASSES, label=label, positive=None)

    await asyncio.wrap_future(ledger.submit_review(lease.task, lease.token, reviewer, truth))  # type: ignore[arg-type]


async def test_what_a_reviewer_says_at_another_control_is_found(ledgers: tuple[Ledger, Ledger]) -> None:
    """Each row by whoever has it; the caller's answer is whole."""
    here, elsewhere = ledgers
    async with asking(here) as made:
        sidecar = Sidecar(made)
        await sidecar.ask(question(3, count=2))
        leases = [await leased(elsewhere, name) for name in ("ann", "bob")]
        await answer(elsewhere, leases[1], "ham", "bob")
        await answer(elsewhere, leases[0], "spam", "ann")
        assert await sidecar.next() == (3, ["spam", "ham"])
        await sidecar.leave()


async def test_a_control_knows_that_a_caller_waits_at_another(ledgers: tuple[Ledger, Ledger]) -> None:
    """There a bare `no` would be kept as an answer that answers nobody."""
    here, elsewhere = ledgers
    async with asking(here) as made, asking(elsewhere) as other:
        sidecar = Sidecar(made)
        await sidecar.ask(question(3))
        lease = await leased(elsewhere)
        assert await asyncio.to_thread(other.people.waits_for, lease.task)
        await answer(elsewhere, lease, "spam")
        assert not await asyncio.to_thread(other.people.waits_for, lease.task)
        await sidecar.leave()


async def test_asked_again_elsewhere_it_is_the_same_task(ledgers: tuple[Ledger, Ledger]) -> None:
    """The control that was asked first is dead: a reviewer who has the task must not have worked for nothing."""
    first, second = ledgers
    async with asking(first) as dead, asking(second) as alive:
        before = Sidecar(dead)
        await before.ask(question(3))
        lease = await leased(first)
        await before.leave()
        again = Sidecar(alive)
        await again.ask(question(3))
        await answer(second, lease, "spam")
        assert await again.next() == (3, ["spam"])
        stats = await asyncio.to_thread(second.review_stats, "q")
        assert [(one.open_tasks, one.done) for one in stats] == [(0, 1)]
        await again.leave()


async def test_who_withdraws_a_question_takes_its_task_away(ledgers: tuple[Ledger, Ledger]) -> None:
    """And the next question of the same sidecar is asked all the same."""
    here, _ = ledgers
    async with asking(here) as made:
        sidecar = Sidecar(made)
        await sidecar.ask(question(3))
        await sidecar.ask(pb.PeopleQuestion(question=3, withdrawn=True))
        await sidecar.ask(question(4))
        lease = await leased(here)
        assert lease.facts.route == "spam"
        await answer(here, lease, "ham")
        assert await sidecar.next() == (4, ["ham"])
        async with asyncio.timeout(WAIT_S):
            while sum(one.open_tasks for one in await asyncio.to_thread(here.review_stats, "q")):
                await asyncio.sleep(0.02)
        await sidecar.leave()


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": b"short"},
        {"rows": [7, 3]},
        {"rows": [2**31]},
        {"policy": 2**31},
        {"time_us": -1},
        {"wait_us": 90_000_000_000},
        {"queue": "a\0b"},
        {"segment": "x" * 5_000},
    ],
)
async def test_a_question_that_the_ledger_could_not_hold_is_answered_at_once(
    ledgers: tuple[Ledger, Ledger], changes: dict[str, object]
) -> None:
    """The call goes on along its chain, and the sidecar's other questions with it."""
    async with asking(ledgers[0]) as made:
        sidecar = Sidecar(made)
        await sidecar.ask(question(3, **changes))
        assert await sidecar.next() == (3, [])
        await sidecar.ask(question(4))
        await answer(ledgers[0], await leased(ledgers[0]), "ham")
        assert await sidecar.next() == (4, ["ham"])
        await sidecar.leave()
