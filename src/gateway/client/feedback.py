"""`gateway.v1.FeedbackService`, for those who call it: one form for threads, one for asyncio, both by `exchange`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
import tenacity

from gateway.client import items as said
from gateway.client.exchange import Backlog, Result, checked, conversation, retry_options
from gateway.v1 import feedback_pb2 as pb
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub

__all__ = ["AsyncFeedbackClient", "FeedbackClient"]

One = TypeVar("One")


class _Client(Generic[One]):
    """What both clients are: all but how they wait.

    Args:
        target: the gateway, `HOST:PORT` or `unix:/path`.
        source: who says so; lower-case letters, digits, `_`, `-`, `.`.
        credentials: for TLS. metadata: goes with each call.
        timeout_s: of one try. give_up_after_s: of all of them.
        batch: items that `add` sends together. most: items that may wait while none can be sent.
    """

    def __init__(
        self,
        target: str,
        *,
        source: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        timeout_s: float = 10.0,
        give_up_after_s: float = 30.0,
        batch: int = 500,
        most: int = 10_000,
    ) -> None:
        self._target = target
        self._source = source
        self._credentials = credentials
        self._call: dict[str, Any] = {"timeout": timeout_s, "metadata": tuple(metadata)}
        self._retry = retry_options(give_up_after_s)
        self._backlog = Backlog(batch, most)

    def label(self, of: Any, true_label: str, **about: Any) -> One:
        """Say the true class, now.

        Args:
            of: a receipt, a decision id, or an answer that has a receipt.
            about: row, at, after_s, source; see `gateway.client.items`.
        Raises: ReceiptError, LabelError, NotFound where it is refused; FeedbackUnsent where it cannot be sent.
        """
        return self._one(said.label(of, true_label, **about))

    def positive(self, of: Any, is_positive: bool, **about: Any) -> One:
        """Say whether the truth is the route's positive class, now; else as `label`."""
        return self._one(said.positive(of, is_positive, **about))

    def outcome(self, of: Any, value: float, **about: Any) -> One:
        """Say what came of it as a number, now; else as `label`."""
        return self._one(said.outcome(of, value, **about))

    def signal(self, of: Any, name: str, value: float = 1.0, **about: Any) -> One:
        """Say what somebody did about it, now; else as `label`."""
        return self._one(said.signal(of, name, value, **about))

    @property
    def waiting(self) -> int:
        """Items that were added and not sent."""
        return len(self._backlog.items)

    def _one(self, item: pb.FeedbackItem) -> One:
        raise NotImplementedError


class FeedbackClient(_Client[Result]):
    """For threads; one client may be used by several, but `add` and `flush` by one at a time. A context manager: what
    was added is sent at its end.
    """

    def __init__(self, target: str, *, sleep: Callable[[float], None] = time.sleep, **options: Any) -> None:
        super().__init__(target, **options)
        self._again = {**self._retry, "sleep": sleep}
        self._channel = (
            grpc.insecure_channel(target)
            if self._credentials is None
            else grpc.secure_channel(target, self._credentials)
        )
        self._stub = FeedbackServiceStub(self._channel)

    def submit(self, items: Iterable[pb.FeedbackItem]) -> list[Result]:
        """Send items, a thousand in each call. Returns: what became of each, in order; refused ones are among them.

        Raises: FeedbackUnsent, when the gateway stays away, or turns the call as a whole down.
        """
        exchange = conversation(list(items), self._source)
        answer: Any = None
        try:
            while True:
                answer = self._answer(exchange.send(answer))
        except StopIteration as ended:
            return list(ended.value)

    def add(self, item: pb.FeedbackItem) -> list[Result]:
        """Send an item together with others, once there are enough. Returns: as `flush`, where they were sent."""
        return self.flush() if self._backlog.add(item) else []

    def flush(self) -> list[Result]:
        """Send what was added. Raises: FeedbackUnsent; then what was not sent waits on."""
        with self._backlog.sending() as items:
            return self.submit(items)

    def close(self) -> None:
        """Send what was added, and hang up."""
        try:
            self.flush()
        finally:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: pb.SubmitFeedbackRequest) -> pb.SubmitFeedbackResponse | grpc.RpcError:
        try:
            return tenacity.Retrying(**self._again)(self._stub.Submit, request, **self._call)
        except grpc.RpcError as error:
            return error

    def _one(self, item: pb.FeedbackItem) -> Result:
        return checked(self.submit([item])[0])


class AsyncFeedbackClient(_Client[Awaitable[Result]]):
    """The same for asyncio; an asynchronous context manager, made within the event loop."""

    def __init__(
        self, target: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **options: Any
    ) -> None:
        super().__init__(target, **options)
        self._again = {**self._retry, "sleep": sleep}
        self._channel = (
            grpc.aio.insecure_channel(target)
            if self._credentials is None
            else grpc.aio.secure_channel(target, self._credentials)
        )
        self._stub = FeedbackServiceStub(self._channel)

    async def submit(self, items: Iterable[pb.FeedbackItem]) -> list[Result]:
        """As FeedbackClient.submit."""
        exchange = conversation(list(items), self._source)
        answer: Any = None
        while True:
            try:
                request = exchange.send(answer)
            except StopIteration as ended:
                return list(ended.value)
            answer = await self._answer(request)

    async def add(self, item: pb.FeedbackItem) -> list[Result]:
        """As FeedbackClient.add."""
        return await self.flush() if self._backlog.add(item) else []

    async def flush(self) -> list[Result]:
        """As FeedbackClient.flush."""
        with self._backlog.sending() as items:
            return await self.submit(items)

    async def close(self) -> None:
        """As FeedbackClient.close."""
        try:
            await self.flush()
        finally:
            await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _answer(self, request: pb.SubmitFeedbackRequest) -> pb.SubmitFeedbackResponse | grpc.RpcError:
        async def once() -> pb.SubmitFeedbackResponse:
            return await self._stub.Submit(request, **self._call)

        try:
            return await tenacity.AsyncRetrying(**self._again)(once)
        except grpc.RpcError as error:
            return error

    async def _one(self, item: pb.FeedbackItem) -> Result:
        return checked((await self.submit([item]))[0])
