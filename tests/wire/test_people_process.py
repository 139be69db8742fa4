"""People as a backend with the gateway as a process and a reviewer on the wire: what outlives what."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as infer_pb

from gateway.v1 import review_pb2 as pb
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import GatewayProcess, until

SETTINGS = {
    "backends": {
        "moderators": {"people": {"queue": "moderation", "timeout_s": 30}},
        "ham": {"answer": {"label": "ham", "score": 0.0}},
    },
    "routes": {
        "spam": {
            "chain": ["moderators", "ham"],
            "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
        }
    },
}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, SETTINGS) as started:
        yield started


@contextmanager
def clients(process: GatewayProcess) -> Iterator[tuple[Callable[..., Any], Any]]:
    """Who calls, and who reviews."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(process.address, options=options) as channel:
        ask = channel.unary_unary(
            INFER, infer_pb.ModelInferRequest.SerializeToString, infer_pb.ModelInferResponse.FromString
        )
        yield (
            (lambda count=1: ask.future(request("spam", rows(count)), timeout=40)),
            ReviewServiceStub(channel),
        )


def lease(review: Any, reviewer: str = "ann") -> pb.ReviewTask:
    def look() -> pb.ReviewTask | None:
        task = review.Lease(pb.LeaseRequest(queue="moderation", reviewer=reviewer)).task
        return task if task.task_id else None

    return until(look, "a task")


def submit(review: Any, task: pb.ReviewTask, label: str, reviewer: str = "ann") -> pb.SubmitReviewResponse:
    said = pb.SubmitReviewRequest(task_id=task.task_id, token=task.token, reviewer=reviewer, label=label)
    answer: pb.SubmitReviewResponse = review.Submit(said)
    return answer


def outcome(call: Any) -> str:
    return dict(call.trailing_metadata())["gateway-outcome"]


def stored(process: GatewayProcess, query: str) -> list[Any]:
    with closing(sqlite3.connect(process.state_dir / "ledger.db")) as connection:
        return connection.execute(query).fetchall()


def test_a_reviewers_answer_is_the_callers_answer_and_a_label(process: GatewayProcess) -> None:
    """Two rows, two reviewers; the label is on disk before the caller has its answer."""
    with clients(process) as (call, review):
        waiting = call(2)
        tasks = [lease(review, "ann"), lease(review, "bob")]
        assert all(task.answer_by_ms > task.time_ms for task in tasks)
        assert infer_pb.ModelInferRequest.FromString(tasks[0].request).inputs[0].name == "features"
        for task, (reviewer, label) in zip(tasks, (("ann", "spam"), ("bob", "ham")), strict=True):
            submit(review, task, label, reviewer)
        answer = waiting.result()
        assert outcome(waiting) == "human,human"
        assert list(answer.outputs[0].contents.fp32_contents) == [0, 1, 1, 0]
        # a correction comes after the answer: it corrects the label
        assert submit(review, tasks[0], "ham").corrected
    labels = stored(process, "SELECT row, label, outcome, sampled, review_pi, author FROM labels ORDER BY id")
    assert labels == [
        (0, "spam", 3, 0, 0.0, "ann"),
        (1, "ham", 3, 0, 0.0, "bob"),
        (0, "ham", 3, 0, 0.0, "ann"),
    ]
    text = process.get("/metrics")[1]
    assert 'gateway_people_calls_total{backend="moderators",result="answered"} 1' in text
    assert 'gateway_people_waiting{backend="moderators"} 0' in text


def test_several_reviewers_race_and_one_wins(process: GatewayProcess) -> None:
    """A task is leased to one; who has no lease is refused, and the caller gets one answer."""
    with clients(process) as (call, review):
        waiting = call()
        task = lease(review)
        refused = []

        def intrude(number: int) -> None:
            try:
                submit(review, task, "ham", f"reviewer-{number}")
            except grpc.RpcError as error:
                refused.append(error.code())

        threads = [threading.Thread(target=intrude, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        submit(review, task, "spam")
        for thread in threads:
            thread.join()
        assert list(waiting.result().outputs[0].contents.fp32_contents) == [0, 1]
    assert refused == [grpc.StatusCode.FAILED_PRECONDITION] * 5


def test_a_task_of_a_killed_gateway_lasts_until_its_time_is_up(process: GatewayProcess) -> None:
    """Kill -9 while a call waits: what was begun can be finished, and its label is kept."""
    with clients(process) as (call, review):
        waiting = call()
        task = lease(review)
        process.kill()
        assert waiting.code() == grpc.StatusCode.UNAVAILABLE
    process.start()
    with clients(process) as (_, review):
        assert not submit(review, task, "spam").duplicate
        empty = review.Lease(pb.LeaseRequest(queue="moderation", reviewer="bob"))
        assert empty.WhichOneof("result") == "queue_empty"
    assert stored(process, "SELECT label, outcome FROM labels") == [("spam", 3)]


def test_stopping_sends_waiting_calls_along_their_chain(process: GatewayProcess) -> None:
    """SIGTERM with calls that could wait for half a minute: all are answered, and their tasks are gone."""
    with clients(process) as (call, review):
        calls = [call() for _ in range(10)]
        lease(review)
        until(lambda: review.Stats(pb.StatsRequest()).queues[0].open == 10, "ten tasks")
        assert process.stop() == 0
        assert [outcome(one) for one in calls] == ["static"] * 10
    assert stored(process, "SELECT COUNT(*) FROM review_tasks WHERE reviewer = ''") == [(0,)]
    assert stored(process, "SELECT COUNT(*) FROM captures") == [(1,)]
