"""The two long conversations with control: batches up, policies down.

Both begin again by themselves. A batch stays in the outbox until its answer is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from gateway.fleet.controls import Controls
from gateway.fleet.conversations import Mark, Quiet, ended, on_and_on
from gateway.fleet.outbox import Outbox
from gateway.v1 import fleet_pb2 as pb

__all__ = ["Uplink"]

log = logging.getLogger(__name__)

PUSH: Final = "/gateway.v1.FleetService/PushRecords"
WATCH: Final = "/gateway.v1.FleetService/WatchPolicy"

ANSWER_S: Final = 45.0
"""How long a batch may be on its way without an answer; a ledger that is full or away is tried for 30 s."""

LOOK_S: Final = 0.5
"""How often it is looked whether an answer is overdue, and whether batches are old enough for the disk."""


class Uplink:
    """On one event loop; `wake` may be called from any thread.

    Args:
        take: makes a policy the one in force; returns once it is, raises where it cannot be (the old one stays).
        running: the version and hash of the policy in force, (0, b"") for none.
    """

    def __init__(
        self,
        controls: Controls,
        outbox: Outbox,
        *,
        sidecar: str,
        take: Callable[[pb.FleetPolicy], Awaitable[None]],
        running: Callable[[], tuple[int, bytes]],
    ) -> None:
        self._controls, self._outbox = controls, outbox
        self._sidecar, self._take, self._running = sidecar, take, running
        self._loop = asyncio.get_running_loop()
        self._waiting = asyncio.Event()

    def wake(self) -> None:
        """There is something to send."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it will be sent by the next process
            self._loop.call_soon_threadsafe(self._waiting.set)

    async def push(self) -> None:
        """Send batches until cancelled."""
        await on_and_on(self._controls, "records", self._push_once)

    async def watch(self) -> None:
        """Take policies until cancelled."""
        await on_and_on(self._controls, "policies", self._watch_once)

    async def settle(self) -> None:
        """Write old batches to disk until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self._outbox.settle)

    async def _push_once(self, channel: Any, mark: Mark) -> None:
        call = channel.stream_stream(
            PUSH, request_serializer=None, response_deserializer=pb.RecordsReply.FromString
        )(metadata=self._controls.trust.metadata)
        conversation = await asyncio.to_thread(self._outbox.begin)
        sending = asyncio.create_task(self._send(call, conversation))
        reading = asyncio.create_task(call.read())
        moved = time.monotonic()
        try:
            while True:
                await asyncio.wait({reading, sending}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reply = reading.result()
                    if reply is grpc.aio.EOF:  # type: ignore[attr-defined]  # not in the stubs
                        raise await ended(call)
                    await asyncio.to_thread(
                        self._outbox.acknowledged, reply.run, reply.sequence, reply.refused
                    )
                    self._waiting.set()  # there is room in the window
                    moved, mark.came_through = time.monotonic(), True
                    reading = asyncio.create_task(call.read())
                elif sending.done():
                    sending.result()
                    raise await ended(call)
                elif not self._outbox.on_way:
                    moved = time.monotonic()
                elif time.monotonic() - moved > ANSWER_S:
                    raise Quiet(f"no answer within {ANSWER_S:g} s")
        finally:
            sending.cancel()
            reading.cancel()
            call.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send(self, call: Any, conversation: int) -> None:
        while True:
            self._waiting.clear()
            while (item := await asyncio.to_thread(self._outbox.next, conversation)) is not None:
                await call.write(item.data)
            await self._waiting.wait()

    async def _watch_once(self, channel: Any, mark: Mark) -> None:
        version, held = self._running()
        asked = pb.WatchPolicyRequest(sidecar=self._sidecar, version=version, hash=held)
        call = channel.unary_stream(
            WATCH,
            request_serializer=pb.WatchPolicyRequest.SerializeToString,
            response_deserializer=pb.FleetPolicy.FromString,
        )(asked, metadata=self._controls.trust.metadata)
        try:
            async for policy in call:
                mark.came_through = True
                try:
                    await self._take(policy)
                except Exception as error:
                    log.error("policy %d not taken, the old one stays: %s", policy.version, error)
        finally:
            call.cancel()
        raise Quiet("control ended the conversation")
