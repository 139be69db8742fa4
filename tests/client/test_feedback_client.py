"""The SDK against a real control plane and against servers that fail: nothing is lost, and nothing hidden."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from gateway.client import (
    AsyncFeedbackClient,
    FeedbackClient,
    Result,
    label,
    outcome,
    positive,
    receipt_of,
    signal,
)
from gateway.errors import FeedbackUnsent, LabelError, NotFound, ReceiptError
from gateway.v1 import feedback_pb2 as pb
from gateway.v1 import feedback_pb2_grpc
from tests.ledger.making import NOW_US
from tests.services.control_plane import receipt, running

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
OLD = receipt(1, age_h=1)
Work = Callable[[FeedbackClient], Any]


@asynccontextmanager
async def both(target: str, kind: str, **options: Any) -> AsyncIterator[Callable[[Work], Any]]:
    """A client of either kind; what it is given to do is done by it, in a thread or here."""
    if kind == "threads":
        client = await asyncio.to_thread(FeedbackClient, target, **options)

        async def work(do: Work) -> Any:
            return await asyncio.to_thread(do, client)

        yield work
        await asyncio.to_thread(client.close)
        return
    async with AsyncFeedbackClient(target, **options) as twin:

        async def await_it(do: Work) -> Any:
            made: Any = do(twin)  # type: ignore[arg-type]
            return await made

        yield await_it


KINDS = pytest.mark.parametrize("kind", ["threads", "asyncio"])


@KINDS
async def test_every_kind_of_truth_is_said_and_answered(tmp_path: Path, kind: str) -> None:
    """By either client; a result for each, in order, refused ones among them."""
    async with running(tmp_path) as plane, both(f"unix:{tmp_path}/control", kind, source="app") as client:
        items = [
            label(OLD, "spam"),
            positive(OLD, True),
            outcome(OLD, 12.5, source="crm"),
            signal(OLD, "buy", 3.0, at=NOW),
            signal(OLD, "click", after_s=60),
            label(OLD, "spma"),
            label(str(uuid.UUID(int=9)), "ham"),
        ]
        results: list[Result] = await client(lambda it: it.submit(items))
        statuses = [(one.status, one.code) for one in results]
        assert statuses == [
            ("accepted", ""),
            ("duplicate", ""),
            ("accepted", ""),
            ("accepted", ""),
            ("accepted", ""),
            ("refused", "unknown_label"),
            ("refused", "unknown_decision"),
        ]
        assert results[0].decision_id == str(uuid.UUID(int=1))
        assert plane.ledger.reader.labelled().source.tolist() == ["app"]


@KINDS
async def test_one_word_at_a_time_raises_where_it_is_refused(tmp_path: Path, kind: str) -> None:
    """A simple caller cannot overlook it."""
    async with running(tmp_path), both(f"unix:{tmp_path}/control", kind) as client:
        assert (await client(lambda it: it.label(OLD, "spam"))).status == "accepted"
        assert (await client(lambda it: it.positive(OLD, False))).status == "corrected"
        assert (await client(lambda it: it.outcome(OLD, 1.0))).status == "accepted"
        assert (await client(lambda it: it.signal(OLD, "thumbs", -1))).status == "accepted"
        for bad, error, words in (
            (lambda it: it.label(OLD, "spma"), LabelError, "spma"),
            (lambda it: it.label("forged", "spam"), ReceiptError, "forged"),
            (lambda it: it.label(str(uuid.UUID(int=9)), "spam"), NotFound, "not in the ledger"),
        ):
            with pytest.raises(error, match=words):
                await client(bad)


@KINDS
async def test_what_is_added_is_sent_together_and_at_the_end(tmp_path: Path, kind: str) -> None:
    """In batches, each of which counts; closing loses nothing."""
    async with running(tmp_path) as plane:
        async with both(f"unix:{tmp_path}/control", kind, batch=3) as client:
            sent = [
                len(await client(lambda it, n=n: it.add(positive(receipt(n), True))))  # type: ignore[misc]
                for n in range(5)
            ]
            assert sent == [0, 0, 3, 0, 0]
        assert len(plane.ledger.reader.labelled().positive) == 5


@KINDS
async def test_more_than_a_call_takes_is_several_calls(tmp_path: Path, kind: str) -> None:
    """A thousand each."""
    async with running(tmp_path), both(f"unix:{tmp_path}/control", kind) as client:
        items = [positive(receipt(n), True) for n in range(2_001)]
        results = await client(lambda it: it.submit(items))
        assert [one.status for one in results] == ["accepted"] * 2_001


class Failing(feedback_pb2_grpc.FeedbackServiceServicer):
    """Fails as it is told, call by call, then answers."""

    def __init__(self, *faults: tuple[grpc.StatusCode, dict[str, str]]) -> None:
        self.faults = list(faults)
        self.calls: list[list[str]] = []

    async def Submit(self, request: pb.SubmitFeedbackRequest, context: Any) -> pb.SubmitFeedbackResponse:  # noqa: N802
        self.calls.append([item.receipt for item in request.items])
        if self.faults:
            code, trailers = self.faults.pop(0)
            await context.abort(code, "so it is told", trailing_metadata=tuple(trailers.items()))
        accepted = pb.FeedbackResult(status=pb.FeedbackResult.ACCEPTED)
        return pb.SubmitFeedbackResponse(results=[accepted] * len(request.items))


@asynccontextmanager
async def failing(folder: Path, *faults: tuple[grpc.StatusCode, dict[str, str]]) -> AsyncIterator[Failing]:
    server, service = grpc.aio.server(), Failing(*faults)
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{folder}/failing")
    await server.start()
    yield service
    await server.stop(0)


def pauses(kind: str) -> tuple[list[float], Callable[[float], Any]]:
    """What is slept, which takes no time."""
    slept: list[float] = []
    if kind == "threads":
        return slept, slept.append

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return slept, sleep


@KINDS
async def test_what_may_help_is_tried_again_as_long_as_the_server_says(tmp_path: Path, kind: str) -> None:
    """Away, or told to wait: the same items again."""
    slept, sleep = pauses(kind)
    hint = {"grpc-retry-pushback-ms": "1234", "gateway-error": "rate_limited"}
    faults = [(grpc.StatusCode.UNAVAILABLE, {}), (grpc.StatusCode.RESOURCE_EXHAUSTED, hint)]
    async with (
        failing(tmp_path, *faults) as service,
        both(f"unix:{tmp_path}/failing", kind, sleep=sleep) as client,
    ):
        results = await client(lambda it: it.submit([label("r1", "spam"), label("r2", "ham")]))
        assert [one.status for one in results] == ["accepted", "accepted"]
        assert service.calls == [["r1", "r2"]] * 3
        assert slept[1] == pytest.approx(1.234)
        assert 0 <= slept[0] <= 5


@KINDS
@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL])
async def test_what_would_fail_again_is_not_tried_again(
    tmp_path: Path, kind: str, code: grpc.StatusCode
) -> None:
    """And the items are handed back with the words."""
    slept, sleep = pauses(kind)
    async with (
        failing(tmp_path, (code, {})) as service,
        both(f"unix:{tmp_path}/failing", kind, sleep=sleep) as client,
    ):
        with pytest.raises(FeedbackUnsent, match=code.name) as unsent:
            await client(lambda it: it.submit([label("r1", "spam")]))
        assert [item.receipt for item in unsent.value.unsent] == ["r1"]
        assert (len(service.calls), slept) == (1, [])


@KINDS
async def test_what_cannot_be_sent_waits_on_and_is_bounded(tmp_path: Path, kind: str) -> None:
    """Items outlive an outage up to the limit; then the caller is told, and can drop or keep them."""
    _, sleep = pauses(kind)
    options: dict[str, Any] = {"sleep": sleep, "batch": 2, "most": 3, "give_up_after_s": 0.0}
    away = (grpc.StatusCode.UNAVAILABLE, {})
    async with (
        failing(tmp_path, away, away) as service,
        both(f"unix:{tmp_path}/failing", kind, **options) as client,
    ):
        await client(lambda it: it.add(label("r1", "spam")))
        for name in ("r2", "r3"):
            with pytest.raises(FeedbackUnsent):
                await client(lambda it, name=name: it.add(label(name, "spam")))  # type: ignore[misc]
        with pytest.raises(FeedbackUnsent, match="3 items wait already"):
            await client(lambda it: it.add(label("r4", "spam")))
        assert len(await client(lambda it: it.flush())) == 3
        assert service.calls[-1] == ["r1", "r2", "r3"]


async def test_a_flush_that_is_broken_off_loses_nothing(tmp_path: Path) -> None:
    """Nobody knows what arrived; sent twice it counts once."""
    client = AsyncFeedbackClient(f"unix:{tmp_path}/nobody")
    await client.add(label("r1", "spam"))
    flush = asyncio.create_task(client.flush())
    await asyncio.sleep(0)
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    assert client.waiting == 1
    client._backlog.items.clear()
    await client.close()


RESPONSE = service_pb2.ModelInferResponse()
RESPONSE.parameters["gateway_receipt"].string_param = "r1"
TRAILERS = (("x", "y"), ("gateway-receipt", "r1"))


@pytest.mark.parametrize(
    "answer",
    [
        RESPONSE,
        SimpleNamespace(get_response=lambda: RESPONSE),
        SimpleNamespace(trailing_metadata=lambda: TRAILERS),
        TRAILERS,
        dict(TRAILERS),
        grpc.aio.Metadata(*TRAILERS),
    ],
    ids=["response", "tritonclient", "call", "metadata", "mapping", "aio metadata"],
)
def test_a_receipt_is_found_wherever_it_stands(answer: Any) -> None:
    """And may be given to an item as it is."""
    assert receipt_of(answer) == "r1"
    assert label(answer, "spam", row=2) == pb.FeedbackItem(receipt="r1", row=2, label="spam")


@pytest.mark.parametrize(
    "answer",
    [service_pb2.ModelInferResponse(), (), {}, None, 5, SimpleNamespace(trailing_metadata=lambda: None)],
)
def test_an_answer_without_a_receipt_is_told(answer: Any) -> None:
    with pytest.raises(ReceiptError, match="gateway-receipt") as absent:
        receipt_of(answer)
    assert absent.value.kind == "absent"


async def test_a_call_of_aio_is_told_how_it_is_done() -> None:
    """Its trailers must be awaited."""

    async def trailing_metadata() -> Any:
        return TRAILERS

    with pytest.raises(TypeError, match=r"await call\.trailing_metadata"):
        receipt_of(SimpleNamespace(trailing_metadata=trailing_metadata))


def test_times_are_said_once_and_with_their_zone() -> None:
    """A time without a zone is wrong by hours somewhere."""
    assert signal("r1", "click", at=NOW).time_ms == NOW_US // 1000
    with pytest.raises(ValueError, match="zone"):
        label("r1", "spam", at=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="one of them"):
        label("r1", "spam", at=NOW, after_s=1)
