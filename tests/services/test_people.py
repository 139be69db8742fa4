"""People as a backend, from the desk's question to its reply, over a real ledger."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger import Lease, Ledger, Limits, NothingForYou
from gateway.services import People
from gateway.services.errors import ERROR_TRAILER
from gateway.services.people import PeopleCounts
from gateway.v1 import review_pb2 as pb
from tests.ledger.making import NOW_US, Clock, decision, wait_for
from tests.services.control_plane import Plane

Replies = queue.Queue[tuple[int, list[str] | None]]


def question(number: int, rows: int = 1) -> dict[str, Any]:
    """As the data plane puts it."""
    return {
        "question": number,
        "kind": "people",
        "backend": "moderators",
        "queue": "moderation",
        "route": "spam",
        "id": decision(number),
        "rows": list(range(rows)),
        "segment": "device=phone",
        "unit": 2**64 - 1,
        "policy": 7,
        "time_us": NOW_US,
        "until_us": NOW_US + 20_000_000,
        "request": b"an email",
    }


@pytest.fixture
def replies() -> Replies:
    return queue.Queue()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01), clock)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def people(ledger: Ledger, replies: Replies) -> People:
    def reply(number: int, labels: list[str] | None) -> bool:
        replies.put((number, labels))
        return True

    return People(ledger, reply, lambda: 100.0)


def leased(ledger: Ledger) -> Lease:
    found: list[Lease] = []

    def look() -> bool:
        lease = ledger.lease("moderation", "ann", 300).result()
        if isinstance(lease, Lease):
            found.append(lease)
        return bool(found)

    wait_for(look)
    return found[0]


def test_the_caller_gets_its_answer_with_the_last_row(
    people: People, ledger: Ledger, replies: Replies
) -> None:
    """Rows may be answered in any order and by several people."""
    people.ask(question(1, rows=3))
    leases = [leased(ledger) for _ in range(3)]
    for lease, label in ((leases[2], "ham"), (leases[0], "spam")):
        people.answered(lease.task, label)
    assert replies.empty()
    people.answered(leases[1].task, "ham")
    assert replies.get(timeout=5) == (1, ["spam", "ham", "ham"])
    assert people.counts() == [
        PeopleCounts("moderators", 0, 0.0, {"answered": 1, "unanswered": 0, "refused": 0}, 0)
    ]


def test_of_several_answers_to_a_row_the_first_counts(
    people: People, ledger: Ledger, replies: Replies
) -> None:
    """A correction corrects the label; what the caller was told stays told."""
    people.ask(question(1, rows=2))
    first, second = leased(ledger), leased(ledger)
    people.answered(first.task, "spam")
    people.answered(first.task, "ham")
    people.answered(second.task, "ham")
    people.answered(second.task, "spam")
    assert replies.get(timeout=5) == (1, ["spam", "ham"])
    assert replies.empty()


def test_an_answer_that_comes_too_late_answers_nobody_and_is_counted(
    people: People, ledger: Ledger, replies: Replies
) -> None:
    """The call has gone on along its chain."""
    people.ask(question(1))
    lease = leased(ledger)
    assert people.waits_for(lease.task)
    people.withdraw([1])
    assert not people.waits_for(lease.task)
    people.answered(lease.task, "spam")
    people.answered(lease.task, "spam")
    assert replies.empty()
    assert people.counts() == [
        PeopleCounts("moderators", 0, 0.0, {"answered": 0, "unanswered": 1, "refused": 0}, 1)
    ]


def test_a_call_that_is_withdrawn_takes_its_tasks_out_of_the_queue(people: People, ledger: Ledger) -> None:
    """Also one that goes before its tasks are on disk."""
    people.ask(question(1, rows=2))
    people.withdraw([1])
    wait_for(lambda: ledger.lease("moderation", "ann", 300).result() == NothingForYou(0, None))


def test_where_the_task_cannot_be_kept_the_call_goes_on_at_once(tmp_path: Path, replies: Replies) -> None:
    """Nobody is asked what is not on disk, and nobody waits for it."""
    closed = Ledger(f"sqlite:///{tmp_path / 'never.db'}")
    people = People(closed, lambda number, labels: replies.put((number, labels)) is None)
    people.ask(question(1))
    assert replies.get(timeout=5) == (1, None)
    assert people.counts()[0].results["refused"] == 1
    with pytest.raises(LedgerUnavailable):
        closed.expire_urgent().result()


def test_what_an_earlier_process_left_behind_is_cleared(people: People, ledger: Ledger, clock: Clock) -> None:
    """Kill -9 while a call waits: its task lasts until its time is up, and no longer."""
    people.ask(question(1))
    task = leased(ledger).task
    ledger.skip_review(task, 1, "ann", "for somebody else").result()
    fresh = People(ledger, lambda number, labels: False)
    fresh.start()
    assert ledger.review_stats()[0].open_tasks == 1
    clock.pass_s(21)
    fresh.start()
    wait_for(lambda: ledger.review_stats() == [])


async def test_a_reviewer_sees_until_when_a_caller_waits_and_must_say_a_label(plane: Plane) -> None:
    """`No` names no class of three, and an answer must."""
    replies: Replies = queue.Queue()
    people = People(plane.ledger, lambda number, labels: replies.put((number, labels)) is None)
    plane.control._review._people = people  # type: ignore[attr-defined]
    people.ask({**question(1), "route": "topics"})
    lease = pb.LeaseRequest(queue="moderation", reviewer="ann")
    task = (await plane.review.Lease(lease)).task
    assert (task.answer_by_ms, task.request) == ((NOW_US + 20_000_000) // 1000, b"an email")
    submit = {"task_id": task.task_id, "token": task.token, "reviewer": "ann"}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.review.Submit(pb.SubmitReviewRequest(**submit, positive=False))
    assert dict(refused.value.trailing_metadata() or ())[ERROR_TRAILER] in ("no_positive", "needs_label")
    assert replies.empty()
    await plane.review.Submit(pb.SubmitReviewRequest(**submit, label="b"))
    assert replies.get(timeout=5) == (1, ["b"])
