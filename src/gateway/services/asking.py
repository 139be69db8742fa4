"""People for a fleet: questions of sidecars' calls before the reviewers of all controls.

A reviewer may answer at another control than the one that was asked. So the ledger is looked at for the answers, a few
times a second while somebody waits; what is answered here is told at once. When a conversation with a sidecar breaks,
its tasks stay until their time is up: the sidecar asks again elsewhere, and means the same tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import LedgerError
from gateway.fleet.encoding import MOST_TEXT
from gateway.fleet.forms import LATEST_US, MOST_NUMBER
from gateway.ledger import Ledger
from gateway.services.people import People
from gateway.v1 import fleet_pb2 as pb

__all__ = ["Asking", "FleetPeople"]

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""How often the ledger is looked at for answers."""

TIDY_S: Final = 30.0
"""How often tasks are taken away whose time is up and whose sidecar never said so."""

MOST_ASKED: Final = 10_000
"""Questions that wait at one control; what is more is answered at once that people cannot be asked."""

MOST_ROWS: Final = 1_024
"""Of one call, as the settings allow."""

MOST_WAIT_US: Final = 86_400_000_000
"""As the settings allow."""


class FleetPeople(People):
    """Knows of callers that wait at other controls, too."""

    def waits_for(self, task: int) -> bool:
        """Raises: LedgerUnavailable, where it cannot be known."""
        return super().waits_for(task) or self._ledger.is_waited_for(task)


@dataclass(eq=False, slots=True)
class _Talk:
    """One conversation. `numbers`: the sidecar's number of a question -> the one that it has here."""

    answers: asyncio.Queue[pb.PeopleAnswer | None] = field(default_factory=asyncio.Queue)
    numbers: dict[int, int] = field(default_factory=dict)


class Asking:
    """On one event loop. Args: clock_us: the time, microseconds since 1970."""

    def __init__(self, ledger: Ledger, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._ledger, self._clock_us = ledger, clock_us
        self._loop = asyncio.get_running_loop()
        self.people = FleetPeople(ledger, self._reply)
        self._talks: dict[int, tuple[_Talk, int]] = {}
        self._numbers = itertools.count(1)

    async def converse(self, questions: AsyncIterator[pb.PeopleQuestion]) -> AsyncIterator[pb.PeopleAnswer]:
        """Answers, in the order in which people give them, until the sidecar ends the conversation."""
        talk = _Talk()
        reading = asyncio.create_task(self._read(questions, talk))
        try:
            while (answer := await talk.answers.get()) is not None:
                yield answer
        finally:
            reading.cancel()
            self._leave(talk)

    async def run(self) -> None:
        """Look for answers that were given at other controls, until cancelled."""
        tidy_at = time.monotonic() + TIDY_S
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if tasks := self.people.tasks():
                    found = await asyncio.to_thread(self._ledger.people_answers, tasks)
                    for task, label in found.items():
                        self.people.answered(task, label)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_S
                    await asyncio.wrap_future(self._ledger.expire_urgent())
            except LedgerError as error:
                log.warning("answers of people wait for the ledger: %s", error)
                await asyncio.sleep(1.0)
            except Exception:
                log.exception("answers of people were not looked for")
                await asyncio.sleep(1.0)

    async def _read(self, questions: AsyncIterator[pb.PeopleQuestion], talk: _Talk) -> None:
        try:
            async for question in questions:
                if question.withdrawn:
                    self._withdraw(talk, question.question)
                else:
                    await self._ask(talk, question)
        except Exception:
            log.exception("a sidecar's questions to people were not read on")
        await talk.answers.put(None)

    async def _ask(self, talk: _Talk, question: pb.PeopleQuestion) -> None:
        fault = _fault(question)
        if fault is None and len(self._talks) >= MOST_ASKED:
            fault = f"{MOST_ASKED} questions wait here already"
        if fault is not None or question.question in talk.numbers:
            log.warning("people were not asked: %s", fault or "the question was asked before")
            await talk.answers.put(pb.PeopleAnswer(question=question.question))
            return
        number = next(self._numbers)
        self._talks[number] = talk, question.question
        talk.numbers[question.question] = number
        made = self.people.put(
            {
                "question": number,
                "id": question.decision,
                "rows": list(question.rows),
                "until_us": self._clock_us() + question.wait_us,
                **{name: getattr(question, name) for name in _AS_ASKED},
            }
        )
        # One at a time of each sidecar: what waits for the disk is bounded. Why it failed was told and answered there.
        await asyncio.wait([asyncio.wrap_future(made)])

    def _withdraw(self, talk: _Talk, question: int) -> None:
        number = talk.numbers.pop(question, None)
        if number is not None:
            self._talks.pop(number, None)
            self.people.withdraw([number])

    def _leave(self, talk: _Talk) -> None:
        numbers = list(talk.numbers.values())
        for number in numbers:
            self._talks.pop(number, None)
        self.people.withdraw(numbers, expire=False)

    def _reply(self, number: int, labels: list[str] | None) -> bool:
        """From any thread. Whether somebody waits is only known at the sidecar; here, whether it is still there."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and so have all conversations
            self._loop.call_soon_threadsafe(self._deliver, number, labels)
        return number in self._talks

    def _deliver(self, number: int, labels: list[str] | None) -> None:
        talk, question = self._talks.pop(number, (None, 0))
        if talk is not None:
            talk.numbers.pop(question, None)
            talk.answers.put_nowait(pb.PeopleAnswer(question=question, labels=labels or ()))


_AS_ASKED: Final = ("queue", "route", "backend", "segment", "unit", "policy", "time_us", "request")


def _fault(question: pb.PeopleQuestion) -> str | None:
    """Why a question cannot be put before people: one number out of range would fail the ledger's transaction."""
    rows = list(question.rows)
    if len(question.decision) != 16:
        return f"a decision of {len(question.decision)} bytes, wanted 16"
    if not 1 <= len(rows) <= MOST_ROWS or rows != sorted(set(rows)) or rows[-1] > MOST_NUMBER:
        return f"{len(rows)} rows, wanted 1 to {MOST_ROWS}, rising"
    if question.policy > MOST_NUMBER or not 0 <= question.time_us < LATEST_US:
        return "a policy or time that is none"
    if not 0 < question.wait_us <= MOST_WAIT_US:
        return f"a wait of {question.wait_us} microseconds, wanted 1 to {MOST_WAIT_US}"
    for name in ("queue", "route", "backend", "segment"):
        text: Any = getattr(question, name)
        if "\0" in text or len(text) > MOST_TEXT:
            return f"a {name} of {len(text)} characters, wanted at most {MOST_TEXT}, and no NUL"
    return None
