"""Calls of a sidecar that wait for people: their questions go to control, the answers come back to the desk.

A question stays here until it is answered or nobody waits for it: when the conversation breaks, all of them are asked
again, at the next control. How long a call waits is the data plane's affair, which bounds all questions together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc

from gateway.fleet.controls import Controls
from gateway.fleet.conversations import Mark, ended, on_and_on
from gateway.fleet.encoding import MOST_BATCH_BYTES
from gateway.v1 import fleet_pb2 as pb

__all__ = ["PeopleLine"]

log = logging.getLogger(__name__)

ASK: Final = "/gateway.v1.FleetService/AskPeople"


class PeopleLine:
    """`ask` and `withdraw` are the desk's, on its thread; the rest is of one event loop.

    Args:
        reply: takes a question's number and its labels by row, or None where it could not be asked.
        clock_us: the time, microseconds since 1970.
    """

    def __init__(
        self,
        controls: Controls,
        reply: Callable[[int, list[str] | None], bool],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._controls, self._reply, self._clock_us = controls, reply, clock_us
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._open: dict[int, tuple[pb.PeopleQuestion, int]] = {}
        self._told: set[int] = set()
        self._over: list[int] = []
        self._wake = asyncio.Event()

    def ask(self, question: Mapping[str, Any]) -> None:
        """Take a question of the desk."""
        made = pb.PeopleQuestion(
            question=question["question"],
            decision=bytes(question["id"]),
            unit=question["unit"],
            request=bytes(question["request"]),
            **{
                name: question[name]
                for name in ("rows", "queue", "route", "backend", "segment", "policy", "time_us")
            },
        )
        if made.ByteSize() > MOST_BATCH_BYTES:
            log.warning("people were not asked: the call has %d bytes", made.ByteSize())
            self._reply(made.question, None)
            return
        with self._lock:
            self._open[made.question] = made, question["until_us"]
        self._signal()

    def withdraw(self, questions: Sequence[int]) -> None:
        """Their callers have gone on, or away."""
        with self._lock:
            for number in questions:
                if self._open.pop(number, None) is not None:
                    self._over.append(number)
        self._signal()

    async def run(self) -> None:
        """Bring questions to control until cancelled; without any there is no conversation."""
        await on_and_on(self._controls, "people", self._once)

    def _signal(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the data plane
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _once(self, channel: Any, mark: Mark) -> None:
        with self._lock:
            self._told.clear()
            self._over.clear()
        while not self._open:
            self._wake.clear()
            await self._wake.wait()
        call = channel.stream_stream(
            ASK,
            request_serializer=pb.PeopleQuestion.SerializeToString,
            response_deserializer=pb.PeopleAnswer.FromString,
        )(metadata=self._controls.trust.metadata)
        sending, reading = asyncio.create_task(self._send(call)), asyncio.create_task(call.read())
        try:
            while True:
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    answer = reading.result()
                    if answer is grpc.aio.EOF:  # type: ignore[attr-defined]  # not in the stubs
                        raise await ended(call)
                    mark.came_through = True
                    self._answered(answer)
                    reading = asyncio.create_task(call.read())
                elif sending.done():
                    sending.result()
                    raise await ended(call)
        finally:
            sending.cancel()
            reading.cancel()
            call.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send(self, call: Any) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                over, self._over = [number for number in self._over if number in self._told], []
                fresh = [
                    (made, until) for number, (made, until) in self._open.items() if number not in self._told
                ]
                self._told.update(made.question for made, _ in fresh)
                self._told.difference_update(over)
            for number in over:
                await call.write(pb.PeopleQuestion(question=number, withdrawn=True))
            for made, until_us in fresh:
                made.wait_us = max(0, until_us - self._clock_us())
                await call.write(made)
            await self._wake.wait()

    def _answered(self, answer: pb.PeopleAnswer) -> None:
        with self._lock:
            self._told.discard(answer.question)
            if self._open.pop(answer.question, None) is None:
                return  # nobody waits any more
        self._reply(answer.question, list(answer.labels) or None)
