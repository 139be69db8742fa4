"""Labels of several calls that go to the ledger together: each call hears of its own, whatever befalls the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, cast

import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, LabelRow, Ledger
from gateway.services import gathering
from gateway.services.gathering import Gathering
from tests.ledger.making import decision, label

POISON = decision(666)


class SlowLedger:
    """Answers when it is told to; even decisions are duplicates, and one of them is a fault."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self._futures: list[Future[list[Kept]]] = []
        self.away = False

    def submit_labels(self, rows: Sequence[LabelRow]) -> Future[list[Kept]]:
        future: Future[list[Kept]] = Future()
        self.groups.append([row.decision for row in rows])
        self._futures.append(future)
        return future

    async def answer(self) -> None:
        """End all that is asked for, until nobody asks any more."""
        await ticks()
        while asked := [at for at, future in enumerate(self._futures) if not future.done()]:
            for at in asked:
                if self.away:
                    self._futures[at].set_exception(LedgerUnavailable("away"))
                elif POISON in self.groups[at]:
                    self._futures[at].set_exception(ValueError("poison"))
                else:
                    self._futures[at].set_result([said(one) for one in self.groups[at]])
            await ticks()


async def ticks() -> None:
    """Let whatever can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def said(identity: bytes) -> Kept:
    return Kept.ACCEPTED if identity[-1] % 2 else Kept.DUPLICATE


@pytest.fixture
def ledger() -> SlowLedger:
    return SlowLedger()


@pytest.fixture
def gathered(ledger: SlowLedger) -> Gathering:
    return Gathering(cast(Ledger, ledger))


def call(gathered: Gathering, *numbers: int) -> asyncio.Task[list[Kept]]:
    return asyncio.create_task(gathered.keep([label(number) for number in numbers]))


async def outcome(task: asyncio.Task[Any]) -> Any:
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def test_what_comes_while_others_are_written_goes_together(
    gathered: Gathering, ledger: SlowLedger
) -> None:
    """Forty callers are three groups and not forty; each hears of its own labels, in order."""
    calls = [call(gathered, 2 * number, 2 * number + 1) for number in range(40)]
    await ledger.answer()
    assert await asyncio.gather(*calls) == [[Kept.DUPLICATE, Kept.ACCEPTED]] * 40
    assert len(ledger.groups) <= 3
    assert sum(len(group) for group in ledger.groups) == 80


async def test_a_caller_alone_does_not_wait_for_company(gathered: Gathering, ledger: SlowLedger) -> None:
    """Its label is handed over at once."""
    one = call(gathered, 1)
    await ticks()
    assert ledger.groups == [[decision(1)]]
    await ledger.answer()
    assert await one == [Kept.ACCEPTED]


async def test_a_label_that_cannot_be_kept_is_its_callers_alone(
    gathered: Gathering, ledger: SlowLedger
) -> None:
    """Those who sent at the same moment do not fail with it."""
    calls = [call(gathered, number) for number in (1, 3, 666, 5)]
    await ledger.answer()
    found = [await outcome(one) for one in calls]
    assert [found[0], found[1], found[3]] == [[Kept.ACCEPTED]] * 3
    assert isinstance(found[2], ValueError)


async def test_all_are_refused_while_the_ledger_is_away_and_taken_when_it_is_back(
    gathered: Gathering, ledger: SlowLedger
) -> None:
    """Nobody waits for ever, and nothing has to be started anew."""
    ledger.away = True
    calls = [call(gathered, number) for number in range(10)]
    await ledger.answer()
    assert all([isinstance(await outcome(one), LedgerUnavailable) for one in calls])
    ledger.away = False
    later = call(gathered, 7)
    await ledger.answer()
    assert await later == [Kept.ACCEPTED]


async def test_a_caller_who_has_gone_does_not_shift_the_others_answers(
    gathered: Gathering, ledger: SlowLedger
) -> None:
    """Whether it left before its label was handed over or after."""
    first = call(gathered, 1)
    await ticks()
    second, third, fourth = call(gathered, 2, 3), call(gathered, 4, 4), call(gathered, 5)
    first.cancel()
    third.cancel()
    await ledger.answer()
    assert await second == [Kept.DUPLICATE, Kept.ACCEPTED]
    assert await fourth == [Kept.ACCEPTED]


async def test_more_than_may_wait_is_refused(
    gathered: Gathering, ledger: SlowLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, however slow the disk is; a refused caller may come again."""
    monkeypatch.setattr(gathering, "WAITING_ROWS", 5)
    monkeypatch.setattr(gathering, "GROUP_ROWS", 2)
    calls = [call(gathered, number) for number in range(1, 40, 2)]
    await ledger.answer()
    found = [await outcome(one) for one in calls]
    refused = [one for one in found if isinstance(one, LedgerUnavailable)]
    assert refused
    assert found.count([Kept.ACCEPTED]) == len(found) - len(refused)
    again = call(gathered, 1)
    await ledger.answer()
    assert await again == [Kept.ACCEPTED]
