"""Who uses a gateway while it is killed: callers, applications that send feedback, reviewers. Each in its own thread,
and each remembers what it was told, as that is what must be on disk afterwards.

All of them say again what was not acknowledged, at the next address where there are several, until it is or is refused.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc

from gateway.v1 import feedback_pb2, review_pb2
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.wire.clients import infer_by_grpcio

__all__ = ["LABELS", "Caller", "Client", "Key", "Person", "Reviewer", "Said"]

LABELS: Final = ("ham", "spam")
CALLS: Final = 3  # of a client
ROWS: Final = 8  # of a client's call
ITEMS: Final = 5  # statements sent together, at most

REVIEWED: Final = 0.03
"""Of a caller's calls: no more than four reviewers keep up with on a busy machine."""

TAKEN: Final = {
    feedback_pb2.FeedbackResult.ACCEPTED,
    feedback_pb2.FeedbackResult.CORRECTED,
    feedback_pb2.FeedbackResult.DUPLICATE,
}
AGAIN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""What a caller gets of a gateway that is away, or whose ledger is."""

Key = tuple[str, int]
"""Decision id, row."""

Said = tuple[str, int, str, str]
"""Decision in hex, row, reviewer, label."""

# short waits, so that a client is back as soon as the gateway is
_OPTIONS: Final = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]


class Person:
    """A thread that works through one of several addresses until told to stop.

    `wrong`: answers that nobody should get; the thread ends with the first.
    """

    def __init__(self, addresses: Sequence[str], name: str, dice: random.Random) -> None:
        self.name = name
        self.broken = 0
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._addresses, self._at = addresses, 0
        self._channels: dict[str, grpc.Channel] = {}
        self._random = dice
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def work(self) -> None:
        """One step."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._thread.join(120)

    def _run(self) -> None:
        try:
            while not self.over.is_set():
                self.work()
        except Exception as error:
            self.wrong.append(repr(error))
        finally:
            for channel in self._channels.values():
                channel.close()

    def channel(self) -> grpc.Channel:
        address = self._addresses[self._at % len(self._addresses)]
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, options=_OPTIONS)
        return self._channels[address]

    def away(self, error: grpc.RpcError) -> bool:
        """Go to the next address and wait a little; False, and the end, where that is no answer of one that is away."""
        self.broken += 1
        if error.code() not in AGAIN:
            self.wrong.append(f"{error.code()}: {error.details()}")
            self.over.set()
            return False
        self._at += 1
        time.sleep(0.02)
        return True


class Client(Person):
    """An application that has receipts and says what it learns: it corrects its own rows to and fro.

    `said`: how many statements about each row were acknowledged; the n-th one is `LABELS[n % 2]`. With `timed` each
    says when it happened, so that a copy of an old statement that was held up on another way is known for old.
    """

    def __init__(
        self, addresses: Sequence[str], number: int, seed: int, *, model: str = "spam", timed: bool = False
    ) -> None:
        super().__init__(addresses, f"app-{number}", random.Random(seed))
        self.said: Counter[Key] = Counter()
        self.kinds: Counter[int] = Counter()
        self._model, self._timed = model, timed
        self._receipts: dict[Key, str] = {}
        self._last_ms = 0

    @property
    def acknowledged(self) -> int:
        return sum(self.kinds.values())

    def collect(self, metadata: Iterable[tuple[str, str]] = ()) -> None:
        """Make some calls, whose rows are spoken of from then on."""
        with grpc.insecure_channel(self._addresses[0]) as channel:
            for _ in range(CALLS):
                told = infer_by_grpcio(channel, self._model, ROWS, tuple(metadata)).said
                for row in range(ROWS):
                    self._receipts[told["decision-id"], row] = told["receipt"]

    def work(self) -> None:
        """Statements about some rows, until they are acknowledged."""
        keys = self._random.sample(list(self._receipts), self._random.randint(1, ITEMS))
        self._last_ms = max(self._last_ms + 1, time.time_ns() // 1_000_000)
        request = feedback_pb2.SubmitFeedbackRequest(items=map(self._item, keys), source=self.name)
        while True:
            try:
                results = FeedbackServiceStub(self.channel()).Submit(request, timeout=10).results
            except grpc.RpcError as error:
                if not self.away(error):
                    return
                continue
            for key, result in zip(keys, results, strict=True):
                if result.status not in TAKEN:
                    self.wrong.append(f"{result.status} {result.code}: {result.message}")
                self.said[key] += 1
                self.kinds[result.status] += 1
            return

    def _item(self, key: Key) -> feedback_pb2.FeedbackItem:
        item = feedback_pb2.FeedbackItem(
            receipt=self._receipts[key], row=key[1], label=LABELS[self.said[key] % 2]
        )
        if self._timed:
            item.time_ms = self._last_ms
        return item


class Reviewer(Person):
    """Leases, looks, answers, and sends again what was not acknowledged. `refused`: leases that were lost meanwhile.

    `wrong_share`: of answers that are not what others would say.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        name: str,
        queue: str,
        *,
        token: str = "",
        wrong_share: float = 0.0,
        lease_s: int = 2,
    ) -> None:
        super().__init__(addresses, name, random.Random(name))
        self.acknowledged: list[Said] = []
        self.refused = 0
        self.busy = False
        self._queue, self._lease_s, self._wrong_share = queue, lease_s, wrong_share
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def work(self) -> None:
        lease = review_pb2.LeaseRequest(queue=self._queue, reviewer=self.name, lease_s=self._lease_s)
        try:
            leased = self._reviews.Lease(lease, timeout=5.0, metadata=self._metadata)
        except grpc.RpcError as error:
            self.away(error)
            return
        if not leased.HasField("task"):
            time.sleep(0.1)
            return
        self.busy = True
        self._answer(leased.task)
        self.busy = False

    @property
    def _reviews(self) -> Any:
        return ReviewServiceStub(self.channel())

    def _answer(self, task: review_pb2.ReviewTask) -> None:
        wrong = self._random.random() < self._wrong_share
        label = "spam" if (int(task.decision_id[-1], 16) % 2 == 0) != wrong else "ham"
        mine = {"task_id": task.task_id, "token": task.token, "reviewer": self.name}
        time.sleep(self._random.uniform(0.0, 0.05))
        while not self.over.is_set():
            try:
                beat = review_pb2.HeartbeatRequest(**mine, lease_s=self._lease_s)
                self._reviews.Heartbeat(beat, timeout=5.0, metadata=self._metadata)
            except grpc.RpcError as error:
                # Answered already where the first acknowledgement was lost; lost where it took too long to come back.
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION and not self.away(error):
                    return
            try:
                said = review_pb2.SubmitReviewRequest(**mine, label=label)
                self._reviews.Submit(said, timeout=5.0, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    self.refused += 1
                    return
                if not self.away(error):
                    return
                continue
            self.acknowledged.append((task.decision_id.replace("-", ""), task.row, self.name, label))
            return


class Caller(Person):
    """Calls through one gateway, and counts them by route and bucket, which the gateway counts by as a segment.

    `answered`, `broken_calls`: by (route, bucket). `at_risk`: of the former, those whose records a killed gateway may
    have taken with it. `decisions`: of the calls that are reviewed; `decisions_at_risk` of them.
    """

    def __init__(
        self, address: str, name: str, *, plain: str = "plain", reviewed: str = "moderated", every_s: float
    ) -> None:
        super().__init__([address], name, random.Random(name))
        self.answered: Counter[tuple[str, str]] = Counter()
        self.broken_calls: Counter[tuple[str, str]] = Counter()
        self.at_risk: Counter[tuple[str, str]] = Counter()
        self.decisions: set[str] = set()
        self.decisions_at_risk: set[str] = set()
        self.round = 0
        self._plain, self._reviewed, self._every_s = plain, reviewed, every_s
        self._lock = threading.Lock()
        self._late: list[tuple[float, tuple[str, str], str]] = []

    @property
    def bucket(self) -> str:
        return f"{self.name}r{self.round}"

    def work(self) -> None:
        route = self._reviewed if self._random.random() < REVIEWED else self._plain
        key = (route, self.bucket)
        reply = infer_by_grpcio(self.channel(), route, metadata=[("x-bucket", key[1])])
        if reply.status != "OK":
            self.broken_calls[key] += 1
            time.sleep(0.2)
            return
        decision = reply.said["decision-id"].replace("-", "") if route == self._reviewed else ""
        with self._lock:
            self.answered[key] += 1
            self._late.append((time.monotonic(), key, decision))
            if decision:
                self.decisions.add(decision)
        time.sleep(self._every_s)

    def killed(self, at: float, memory_s: float) -> None:
        """Its gateway was killed at that time: what it had in memory, of so many seconds, may be gone."""
        with self._lock:
            for when, key, decision in self._late:
                if when > at - memory_s:
                    self.at_risk[key] += 1
                    self.decisions_at_risk |= {decision} - {""}
            self._late.clear()
