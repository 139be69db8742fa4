"""Tasks whose truth is known: they look like any other, measure who answers them, and are never labels."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from gateway.errors import LabelError, LeaseLost, NotFound
from gateway.ledger import Kept, Lease, Ledger, Limits, Truth, schema
from gateway.ledger import audit as trail
from gateway.ledger.review.gold import KEEP_LAPSED_US
from gateway.quality.intervals import wilson_interval
from tests.ledger.making import Clock, decision
from tests.ledger.reviewers import answer, fill, labels, lease, nothing, review, rule


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    """With dice that fall the same way in every run."""
    opened = Ledger(url, Limits(linger_s=0.01), clock, random.Random(3))
    opened.open()
    yield opened
    opened.close()


def make_gold(ledger: Ledger, *numbers: int, positive: bool = True) -> None:
    """Tasks that old hands answered, made gold."""
    rule(ledger)
    fill(ledger, *numbers)
    for _ in numbers:
        review(ledger, "old hand", positive)
    for number in numbers:
        assert ledger.make_gold(decision(number), 0, None, "lea").result()


def is_gold(ledger: Ledger, task: Lease) -> bool:
    """Which nobody outside can tell."""
    query = sa.select(schema.review_tasks.c.gold).where(schema.review_tasks.c.id == task.task)
    return ledger.reader.snapshot(lambda connection: connection.execute(query).scalar_one()) is not None


def gold_lease(ledger: Ledger, reviewer: str = "ann", seconds: float = 60) -> Lease:
    """The next task of a queue that gives nothing but gold, as long as there is some."""
    rule(ledger, gold_share=1.0)
    task = lease(ledger, reviewer, seconds)
    assert is_gold(ledger, task)
    return task


def test_gold_is_never_a_label_and_measures_its_reviewer(ledger: Ledger, clock: Clock) -> None:
    """Right or wrong, the estimate of the model knows nothing of it; the accuracy has an interval."""
    make_gold(ledger, 1, 2, 3)
    fill(ledger, 10)
    before = labels(ledger)
    for positive in (True, True, False):
        answer(ledger, gold_lease(ledger), "ann", positive)
    assert labels(ledger) == before
    [ann] = ledger.review_accuracy()
    assert (ann.queue, ann.reviewer, ann.answers, ann.right, ann.skips) == ("moderation", "ann", 3, 2, 0)
    assert ann.value == pytest.approx(2 / 3)
    assert (ann.low, ann.high) == wilson_interval(2, 3)
    ordinary = lease(ledger)
    assert not is_gold(ledger, ordinary), "each reviewer meets each of them once"
    assert answer(ledger, ordinary, "ann") is Kept.ACCEPTED
    assert len(labels(ledger)) == len(before) + 1


def test_gold_looks_like_the_task_whose_turn_it_is(ledger: Ledger, clock: Clock) -> None:
    """Time, priority, deadline, token: nothing tells it apart, though the prediction is of long ago."""
    make_gold(ledger, 1)
    clock.pass_s(30 * 86_400)
    fill(ledger, uuid.UUID("019a0000-0000-7000-8000-000000000001").int & (2**64 - 1))
    known = gold_lease(ledger)
    rule(ledger)
    ordinary = lease(ledger, "ann")
    assert (known.request, known.answer) == (b"request 1", b"answer 1")
    for name in ("row", "queue", "priority", "due_us", "answer_by_us", "deciding", "token", "until_us"):
        assert getattr(known, name) == getattr(ordinary, name), name
    assert known.facts.time_us == ordinary.facts.time_us
    assert known.decision not in (decision(1), ordinary.decision)
    assert known.decision[:6] == ordinary.decision[:6]
    assert (known.decision[6] >> 4, known.decision[8] >> 6) == (
        ordinary.decision[6] >> 4,
        ordinary.decision[8] >> 6,
    )


def test_gold_counts_as_a_task_while_somebody_holds_it(ledger: Ledger) -> None:
    """Whoever watches Stats sees what an ordinary task would do: leased, then done."""
    make_gold(ledger, 1)
    fill(ledger, 2)
    task = gold_lease(ledger)
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.leased, queue.done) == (2, 1, 1)
    answer(ledger, task, "ann")
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.leased, queue.done) == (1, 0, 2)


def test_no_gold_without_a_task_that_it_could_be(ledger: Ledger) -> None:
    """An empty queue is empty: gold in it would be known as such."""
    make_gold(ledger, 1)
    rule(ledger, gold_share=1.0)
    assert nothing(ledger).open_tasks == 0


def test_the_share_is_that_of_the_settings(ledger: Ledger) -> None:
    """A fifth of what is given out; four standard deviations of 150 leases are 20."""
    make_gold(ledger, *range(1, 61))
    fill(ledger, *range(100, 250))
    rule(ledger, gold_share=0.2)
    given = [is_gold(ledger, review(ledger, "ann")) for _ in range(150)]
    assert 10 <= sum(given) <= 50
    assert ledger.review_accuracy()[0].answers == sum(given)


def test_nobody_meets_as_gold_what_they_have_reviewed(ledger: Ledger) -> None:
    """They would measure their memory."""
    make_gold(ledger, 1)
    fill(ledger, 2, 3)
    rule(ledger, gold_share=1.0)
    assert not is_gold(ledger, lease(ledger, "old hand"))
    assert is_gold(ledger, lease(ledger, "ann"))


def test_gold_is_skipped_taken_back_and_kept_alive_like_any_task(ledger: Ledger, clock: Clock) -> None:
    """Undo gives it back under a new token; the last answer is the one that counts."""
    make_gold(ledger, 1, 2)
    fill(ledger, 10)
    task = gold_lease(ledger)
    clock.pass_s(50)
    ledger.heartbeat(task.task, task.token, "ann", 60).result()
    assert answer(ledger, task, "ann", False) is Kept.ACCEPTED
    assert answer(ledger, task, "ann", False) is Kept.DUPLICATE
    again = ledger.undo_review(task.task, task.token, "ann", 60).result()
    assert again is not None
    assert (again.task, again.request) == (task.task, task.request)
    with pytest.raises(LeaseLost):
        answer(ledger, task, "ann", True)
    with pytest.raises(LeaseLost):
        answer(ledger, again, "bob", True)
    assert answer(ledger, again, "ann", True) is Kept.ACCEPTED
    other = gold_lease(ledger)
    ledger.skip_review(other.task, other.token, "ann", "").result()
    [ann] = ledger.review_accuracy()
    assert (ann.answers, ann.right, ann.skips) == (1, 1, 1)
    assert not is_gold(ledger, lease(ledger)), "what was skipped does not come round again"


def test_gold_whose_lease_ran_out_waits_for_its_reviewer_and_then_goes(ledger: Ledger, clock: Clock) -> None:
    """It is nobody else's task, and no open task for ever."""
    make_gold(ledger, 1)
    fill(ledger, 2)
    task = gold_lease(ledger, seconds=10)
    clock.pass_s(20)
    late = gold_lease(ledger, seconds=10)
    assert (late.task, late.token) == (task.task, task.token + 1)
    assert [queue.open_tasks for queue in ledger.review_stats()] == [2]
    clock.pass_s(20)
    assert [queue.open_tasks for queue in ledger.review_stats()] == [1], "it is in nobody's hands"
    clock.pass_s(KEEP_LAPSED_US / 1e6)
    rule(ledger)
    lease(ledger, "bob")
    with pytest.raises(NotFound):
        answer(ledger, late, "ann")


def test_what_is_shown_after_gold_is_what_would_be_shown_of_a_task(ledger: Ledger) -> None:
    """The model's answer; what ann says after that does not count for her accuracy."""
    make_gold(ledger, 1)
    fill(ledger, 2)
    task = gold_lease(ledger)
    answer(ledger, task, "ann", False)
    shown = ledger.reveal_review(task.task, task.token, "ann").result()
    assert (shown.facts.score, shown.label, shown.answer, shown.others) == (0.9, "spam", b"answer 1", ())
    assert answer(ledger, task, "ann", True) is Kept.CORRECTED
    assert [(one.answers, one.right) for one in ledger.review_accuracy()] == [(1, 0)]


def test_gold_is_made_of_what_reviewers_agreed_on(ledger: Ledger, clock: Clock) -> None:
    """The latest first; neither disputed tasks nor single answers; once each, and on the audit trail."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2, 3, 4)
    for number in range(4):
        clock.pass_s(1)
        review(ledger, "ann", True)
        review(ledger, "bob", number != 1)
    assert ledger.make_agreed_gold("moderation", 2, "lea").result() == 2
    assert [one.decision for one in ledger.gold()] == [decision(4), decision(3)]
    assert ledger.make_agreed_gold("moderation", 9, "lea").result() == 1
    assert ledger.make_agreed_gold("moderation", 9, "lea").result() == 0
    assert {(one.queue, one.truth, one.author) for one in ledger.gold("moderation")} == {
        ("moderation", Truth("spam", True), "lea")
    }
    entries = ledger.reader.snapshot(lambda connection: trail.entries(connection, action="gold"))
    assert [(one.actor, one.action, one.details) for one in entries] == [
        ("lea", "gold.make", {"agreed": made}) for made in (2, 1, 0)
    ]


def test_what_reviewers_agree_on_no_more_does_not_become_gold(ledger: Ledger, clock: Clock) -> None:
    """The label that stands is what counts, not one that was corrected since."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2)
    for _ in range(2):
        review(ledger, "ann", True)
        last = review(ledger, "bob", True)
    assert answer(ledger, last, "bob", False) is Kept.CORRECTED
    review(ledger, "cat", True)
    assert _agreement(ledger, 2) == [1.0, None, 0.5]
    assert ledger.make_agreed_gold("moderation", 9, "lea").result() == 1
    assert [one.decision for one in ledger.gold()] == [decision(1)]


def _agreement(ledger: Ledger, number: int) -> list[float | None]:
    """By revision of what reviews said of a decision."""
    label = schema.labels
    query = (
        sa.select(label.c.agreement).where(label.c.decision == decision(number)).order_by(label.c.revision)
    )
    return ledger.reader.snapshot(lambda connection: list(connection.execute(query).scalars()))


def test_gold_is_made_by_hand_once_and_with_a_truth(ledger: Ledger) -> None:
    """Of a task that is kept; its truth is what is said, else what reviews said."""
    fill(ledger, 1)
    with pytest.raises(NotFound, match="take another one"):
        ledger.make_gold(decision(9), 0, Truth("spam", True), "lea").result()
    with pytest.raises(LabelError, match="say its label"):
        ledger.make_gold(decision(1), 0, None, "lea").result()
    assert ledger.make_gold(decision(1), 0, Truth("ham", False), "lea").result() is True
    assert ledger.make_gold(decision(1), 0, Truth("spam", True), "lea").result() is False
    [one] = ledger.gold()
    assert one.truth == Truth("ham", False)


def test_retired_gold_is_handed_out_no_more(ledger: Ledger) -> None:
    """What was said about it still counts."""
    make_gold(ledger, 1)
    fill(ledger, 2)
    answer(ledger, gold_lease(ledger), "ann")
    [one] = ledger.gold()
    ledger.retire_gold(one.id, "lea").result()
    assert not is_gold(ledger, lease(ledger, "bob"))
    assert [each.answers for each in ledger.review_accuracy()] == [1]
    with pytest.raises(NotFound):
        ledger.retire_gold(one.id + 1, "lea").result()


def test_gold_where_several_answers_are_wanted_is_one_reviewers_alone(ledger: Ledger) -> None:
    """It is done with one answer; the token is one that a task of such a queue could have."""
    make_gold(ledger, *range(1, 21))
    fill(ledger, 100)
    rule(ledger, gold_share=1.0, reviews_required=2)
    tasks = [review(ledger, "ann") for _ in range(20)]
    assert {task.token for task in tasks} == {1, 2}
    for task in tasks:
        others = ledger.reveal_review(task.task, task.token, "ann").result().others
        assert len(others) == task.token - 1
    assert [queue.open_tasks for queue in ledger.review_stats()] == [1]
