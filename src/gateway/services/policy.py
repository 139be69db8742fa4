"""`PolicyService`: what is in force, who made it so, and how it is changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from gateway.errors import NotFound, QualityError
from gateway.ledger import Ledger, acts
from gateway.ledger.acts import Act
from gateway.ledger.policies import Kept, Told
from gateway.services.access import Access
from gateway.services.changes import Changes
from gateway.services.policies import PolicyBook
from gateway.v1 import policy_pb2 as pb
from gateway.v1 import policy_pb2_grpc

__all__ = ["PolicyService"]

MOST_HISTORY: Final = 1_000
USUAL_HISTORY: Final = 20
USUAL_ACTS: Final = 50
LEARNABLE: Final = frozenset({"threshold", "floor", "recalibration"})


class Answering(Protocol):
    """See `gateway.autopilot.acting.Acting`; all of it blocks."""

    def approve(self, entry: int, *, actor: str, now_us: int) -> Act:
        """Do what was proposed."""

    def refuse(self, entry: int, *, actor: str, reason: str, now_us: int) -> Act:
        """Leave it."""

    def undo(self, entry: int, *, actor: str, reason: str, now_us: int) -> Act:
        """Take back what was done."""


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Args:
    change: makes a version by a function that blocks, and sees to it that it is run at once; returns the version.
    versions: the version that this process runs, and every later one.
    acting: answers proposals, and undoes what was done.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: PolicyBook,
        access: Callable[[], Access],
        change: Callable[[Callable[[], int]], Awaitable[int]],
        versions: Changes[int],
        acting: Answering,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._acting, self._clock_us = acting, clock_us
        self._ledger, self._book, self._access = ledger, book, access
        self._change, self._versions = change, versions

    async def Get(self, request: pb.GetPolicyRequest, context: Any) -> pb.Policy:  # noqa: N802
        """A version, with settings and document."""
        self._access().demand(context, "viewer")
        return await self._whole(request.version or None)

    async def History(  # noqa: N802
        self, request: pb.PolicyHistoryRequest, context: Any
    ) -> pb.PolicyHistory:
        """The newest versions."""
        self._access().demand(context, "viewer")
        limit = min(request.limit or USUAL_HISTORY, MOST_HISTORY)
        found = await asyncio.to_thread(self._ledger.policy_history, limit)
        return pb.PolicyHistory(policies=[_message(told, told.stopped) for told in found])

    async def Watch(  # noqa: N802
        self, request: pb.WatchPoliciesRequest, context: Any
    ) -> AsyncIterator[pb.Policy]:
        """The version in force, then every later one."""
        self._access().demand(context, "viewer")
        async for version in self._versions.follow():
            yield await self._whole(version)

    async def Publish(  # noqa: N802
        self, request: pb.PublishPolicyRequest, context: Any
    ) -> pb.PublishPolicyResponse:
        """Whole settings."""
        author = self._access().demand(context, "operator")
        return await self._done(
            lambda: self._book.publish(
                request.settings,
                author=author,
                reason=request.reason or "published",
                onto=request.onto or None,
            )
        )

    async def RollBack(  # noqa: N802
        self, request: pb.RollBackPolicyRequest, context: Any
    ) -> pb.PublishPolicyResponse:
        """An older version once more."""
        author = self._access().demand(context, "operator")
        return await self._done(
            lambda: self._book.roll_back(request.version, author=author, reason=request.reason)
        )

    async def Kill(self, request: pb.KillRequest, context: Any) -> pb.PublishPolicyResponse:  # noqa: N802
        """Stop a route's model, or let it go on."""
        author = self._access().demand(context, "operator")
        return await self._done(
            lambda: self._book.kill(
                request.route, revive=request.revive, author=author, reason=request.reason
            )
        )

    async def Learn(self, request: pb.LearnRequest, context: Any) -> pb.PublishPolicyResponse:  # noqa: N802
        """Another threshold, floor or table of scores for a route."""
        author = self._access().demand(context, "operator")
        changes = _changes(request.changes)
        return await self._done(
            lambda: self._book.learn(
                request.route,
                changes,
                author=author,
                reason=request.reason or "learnt from labels",
                onto=request.onto or None,
            )
        )

    async def Acts(self, request: pb.ActsRequest, context: Any) -> pb.ActList:  # noqa: N802
        """What was done, proposed and answered; newest last."""
        self._access().demand(context, "viewer")
        limit, route = min(request.limit or USUAL_ACTS, MOST_HISTORY), request.route or None
        look = (
            partial(acts.waiting, route=route)
            if request.waiting
            else partial(acts.history, route=route, limit=limit)
        )
        found = await asyncio.to_thread(self._ledger.reader.snapshot, look)
        return pb.ActList(acts=[_act(one) for one in found[-limit:]])

    async def AnswerAct(self, request: pb.AnswerActRequest, context: Any) -> pb.Act:  # noqa: N802
        """Approve, refuse or undo."""
        actor = self._access().demand(context, "operator")
        now_us, reason = self._clock_us(), request.reason
        answer: Callable[[], Act]
        match request.answer:
            case pb.AnswerActRequest.APPROVE:
                answer = partial(self._acting.approve, request.id, actor=actor, now_us=now_us)
            case pb.AnswerActRequest.REFUSE:
                answer = partial(self._acting.refuse, request.id, actor=actor, reason=reason, now_us=now_us)
            case pb.AnswerActRequest.UNDO:
                answer = partial(self._acting.undo, request.id, actor=actor, reason=reason, now_us=now_us)
            case _:
                raise QualityError("answer: found none, wanted APPROVE, REFUSE or UNDO")
        return _act(await asyncio.to_thread(answer))

    async def _done(self, change: Callable[[], int]) -> pb.PublishPolicyResponse:
        version = await self._change(change)
        return pb.PublishPolicyResponse(version=version)

    async def _whole(self, version: int | None) -> pb.Policy:
        found = await asyncio.to_thread(self._ledger.find_policy, version)
        if found is None:
            raise NotFound(f"there is no policy {version}" if version else "there is no policy yet")
        message = _message(found, (found.source or {}).get("stopped", ()))
        message.document = json.dumps(found.document)
        message.settings = (found.source or {}).get("settings", "")
        return message


def _changes(text: str) -> dict[str, Any]:
    """Parts that people may learn by hand; shares, skipped backends and levels are the autopilot's."""
    try:
        changes = json.loads(text)
    except ValueError as error:
        raise QualityError(f"changes: this is not JSON: {error}") from None
    if not isinstance(changes, dict) or not changes or set(changes) - LEARNABLE:
        found = ", ".join(sorted(changes)) if isinstance(changes, dict) else text[:60]
        raise QualityError(f"changes: found {found or 'none'}, wanted some of {', '.join(sorted(LEARNABLE))}")
    for name in ("threshold", "floor"):
        value = changes.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise QualityError(f"changes: found {name} {value!r}, wanted a number")
    table = changes.get("recalibration")
    if table is not None and not _is_table(table):
        raise QualityError("changes: recalibration wanted x and y, lists of numbers, and perhaps a backend")
    return changes


def _is_table(table: Any) -> bool:
    if not isinstance(table, dict) or not {"x", "y"} <= set(table) <= {"x", "y", "backend"}:
        return False
    knots = [table["x"], table["y"]]
    return isinstance(table.get("backend"), (str, type(None))) and all(
        isinstance(one, list)
        and all(isinstance(knot, (int, float)) and not isinstance(knot, bool) for knot in one)
        for one in knots
    )


def _message(of: Kept | Told, stopped: Sequence[str]) -> pb.Policy:
    return pb.Policy(
        version=of.version, author=of.author, reason=of.reason, created_us=of.created_us, stopped=stopped
    )


def _act(one: Act) -> pb.Act:
    return pb.Act(
        id=one.id,
        time_us=one.time_us,
        route=one.route,
        cause=one.cause,
        act=one.act,
        state=one.state,
        words=one.words,
        actor=one.actor,
        policy_before=one.before or 0,
        policy_after=one.after or 0,
        of=one.of or 0,
    )
