"""`FleetService`: records of sidecars come up, policies go down, and calls that wait find people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc

from gateway.errors import GatewayError
from gateway.fleet.encoding import RUN_BYTES
from gateway.services.access import Access
from gateway.services.asking import Asking
from gateway.services.batches import Batches, Conversation
from gateway.services.changes import Changes
from gateway.v1 import fleet_pb2 as pb
from gateway.v1 import fleet_pb2_grpc

__all__ = ["FleetService"]

log = logging.getLogger(__name__)

MOST_UNANSWERED: Final = 32
"""Batches of one conversation that wait for their answers; beyond, no further one is read."""

_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """Args: policies: the one in force, with its secrets, and every later one. asking: who puts calls before people."""

    def __init__(
        self,
        intake: Batches,
        policies: Changes[pb.FleetPolicy],
        access: Callable[[], Access],
        asking: Asking,
    ) -> None:
        self._intake, self._policies, self._access, self._asking = intake, policies, access, asking
        self._watching: dict[object, tuple[str, int]] = {}

    def watching(self) -> dict[str, int]:
        """How many sidecars watch policies here, by the version that they had when they began: `<version>`."""
        found: dict[str, int] = {}
        for _, version in self._watching.values():
            found[str(version)] = found.get(str(version), 0) + 1
        return found

    async def PushRecords(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.RecordBatch], context: Any
    ) -> AsyncIterator[pb.RecordsReply]:
        """Answers come in the order of the batches, each once it is on disk."""
        try:
            self._access().demand(context, "sidecar")
            answers: asyncio.Queue[tuple[pb.RecordsReply, asyncio.Future[str]] | None] = asyncio.Queue(
                MOST_UNANSWERED
            )
            reading = asyncio.create_task(self._read(request_iterator, answers))
            try:
                while (item := await answers.get()) is not None:
                    reply, kept = item
                    reply.refused = await kept
                    yield reply
            finally:
                reading.cancel()
        except GatewayError as error:
            await context.abort(_STATUS[error.grpc_status], str(error))

    async def WatchPolicy(  # noqa: N802
        self, request: pb.WatchPolicyRequest, context: Any
    ) -> AsyncIterator[pb.FleetPolicy]:
        """The policy in force, unless the sidecar has it, then every later one."""
        try:
            self._access().demand(context, "sidecar")
        except GatewayError as error:
            await context.abort(_STATUS[error.grpc_status], str(error))
        mark = object()
        self._watching[mark] = (request.sidecar, request.version)
        try:
            async for policy in self._policies.follow():
                if policy.hash == request.hash and policy.version == request.version:
                    continue
                yield policy
                self._watching[mark] = (request.sidecar, policy.version)
        finally:
            del self._watching[mark]

    async def AskPeople(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PeopleQuestion], context: Any
    ) -> AsyncIterator[pb.PeopleAnswer]:
        """An answer for each question that is not withdrawn, once people have given it."""
        try:
            self._access().demand(context, "sidecar")
        except GatewayError as error:
            await context.abort(_STATUS[error.grpc_status], str(error))
        async for answer in self._asking.converse(request_iterator):
            yield answer

    async def _read(
        self,
        requests: AsyncIterator[pb.RecordBatch],
        answers: asyncio.Queue[tuple[pb.RecordsReply, asyncio.Future[str]] | None],
    ) -> None:
        conversation = Conversation()
        try:
            await self._read_on(requests, conversation, answers)
        except Exception:
            log.exception("a conversation with a sidecar broke")
        await answers.put(None)

    async def _read_on(
        self,
        requests: AsyncIterator[pb.RecordBatch],
        conversation: Conversation,
        answers: asyncio.Queue[tuple[pb.RecordsReply, asyncio.Future[str]] | None],
    ) -> None:
        async for message in requests:
            reply = pb.RecordsReply(run=message.run, sequence=message.sequence)
            if len(message.run) != RUN_BYTES or not 0 < message.sequence < 2**63:
                kept: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                kept.set_result("it names itself by no run of 16 bytes and a sequence from 1")
            else:
                kept = await self._intake.put(conversation, message)
            await answers.put((reply, kept))
