"""Four reviewers work through a gateway that is killed at random: what it acknowledged is there, exactly once.

Five rounds by default, 50 in `make faults`; GATEWAY_REVIEW_KILLS says how many.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from gateway.ledger import Reader, schema
from gateway.v1 import review_pb2 as pb
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.faults.load import scaled
from tests.faults.people import Reviewer, Said
from tests.wire.clients import infer_by_grpcio
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer

ROUNDS = int(os.environ.get("GATEWAY_REVIEW_KILLS", scaled(5, 50)))
TASKS = 30 * ROUNDS
QUEUE = "moderation"


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * ROUNDS)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_acknowledged_answers_survive_kill_9_once(
    database: str, main: ScriptedServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No task is lost or done twice, and no answer counts twice, whenever the gateway dies."""
    settings = {
        "backends": {"main": {"grpc": main.address, "model": "main"}},
        "routes": {
            "spam": {
                **MAIN_SETTINGS,
                "chain": ["main"],
                "review": {"queue": QUEUE, "share": 1.0, "capture": ["inputs"]},
            }
        },
        "queues": {QUEUE: {"reviews_required": 2}},
    }
    url = f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"
    if database == "postgresql":
        settings["ledger"] = url = request.getfixturevalue("postgres_url")
    dice = random.Random(5)
    gateway = GatewayProcess(tmp_path, settings)
    gateway.start()
    with grpc.insecure_channel(gateway.address) as channel:
        for _ in range(TASKS):
            infer_by_grpcio(channel, "spam")
        stats = ReviewServiceStub(channel).Stats
        until(lambda: queue_of(stats(pb.StatsRequest(queue=QUEUE))).open == TASKS, "every call is a task", 60)
    # Most agree; who does not makes work for somebody else.
    reviewers = [
        Reviewer([gateway.address], name, QUEUE, wrong_share=0.1) for name in ("ann", "bob", "cat", "dan")
    ]
    try:
        with reviewers[0], reviewers[1], reviewers[2], reviewers[3]:
            for _ in range(ROUNDS):
                time.sleep(dice.uniform(0.2, 1.5))
                gateway.kill()
                gateway.start()
            finish(gateway, reviewers)
    except BaseException:
        print(gateway.logged())
        raise
    finally:
        gateway.stop()
    acknowledged = Counter(said for reviewer in reviewers for said in reviewer.acknowledged)
    assert set(acknowledged.values()) == {1}
    on_disk, labels = read(url)
    assert on_disk == acknowledged, "what was acknowledged is there once, and nothing else"
    assert sorted(labels.values()) == [1] * TASKS, "each task has one label that counts"
    answers = Counter((decision, row) for decision, row, _, _ in on_disk)
    assert set(answers.values()) <= {2, 3}, "two answers, or two and that of who settled it"


def finish(gateway: GatewayProcess, reviewers: list[Reviewer]) -> None:
    """Let the reviewers work until every task is done."""
    with grpc.insecure_channel(gateway.address) as channel:
        stats, wanted = ReviewServiceStub(channel).Stats, pb.StatsRequest(queue=QUEUE)

        def is_over() -> bool:
            found = queue_of(stats(wanted, wait_for_ready=True, timeout=30))
            return found.done == TASKS or any(reviewer.wrong for reviewer in reviewers)

        until(is_over, "every task is done", 90)
    until(lambda: not any(reviewer.busy for reviewer in reviewers), "every answer is acknowledged", 30)
    assert [reviewer.wrong for reviewer in reviewers] == [[]] * len(reviewers)


def queue_of(stats: pb.StatsResponse) -> pb.QueueStats:
    return stats.queues[0] if stats.queues else pb.QueueStats()


def read(url: str) -> tuple[Counter[Said], Counter[tuple[str, int]]]:
    """The answers that were kept, and the labels that count by task."""
    event, task, label = schema.review_events, schema.review_tasks, schema.labels
    said = (
        sa.select(task.c.decision, task.c.row, event.c.reviewer, event.c.label)
        .join(task, task.c.id == event.c.task)
        .where(event.c.kind.in_(("answer", "decide")))
    )
    reader = Reader.open(url)
    try:
        answers = reader.snapshot(lambda connection: connection.execute(said).all())
        counted = reader.labelled(source="review")
        kept = reader.snapshot(
            lambda connection: connection.execute(sa.select(label.c.decision, label.c.row)).all()
        )
    finally:
        reader.close()
    assert len(counted.positive) == len(kept), "no label was revised"
    return (
        Counter((bytes(row[0]).hex(), row[1], row[2], row[3]) for row in answers),
        Counter((bytes(row[0]).hex(), row[1]) for row in kept),
    )
