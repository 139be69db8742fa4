"""`PolicyService`: what is in force, who made it so, and how it is changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from gateway.errors import NotFound
from gateway.ledger import Ledger
from gateway.ledger.policies import Kept, Told
from gateway.services.access import Access
from gateway.services.changes import Changes
from gateway.services.policies import PolicyBook
from gateway.v1 import policy_pb2 as pb
from gateway.v1 import policy_pb2_grpc

__all__ = ["PolicyService"]

MOST_HISTORY: Final = 1_000
USUAL_HISTORY: Final = 20


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Args:
    change: makes a version by a function that blocks, and sees to it that it is run at once; returns the version.
    versions: the version that this process runs, and every later one.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: PolicyBook,
        access: Callable[[], Access],
        change: Callable[[Callable[[], int]], Awaitable[int]],
        versions: Changes[int],
    ) -> None:
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


def _message(of: Kept | Told, stopped: Sequence[str]) -> pb.Policy:
    return pb.Policy(
        version=of.version, author=of.author, reason=of.reason, created_us=of.created_us, stopped=stopped
    )
