"""Several answers a task: when it is done, who settles disagreement, and what is taken back."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.errors import LeaseLost, TooLate
from gateway.ledger import Kept, Lease, Ledger, QueueRule, ReviewRules, TaskRule, schema
from gateway.ledger.review.leasing import MAX_HOLD_US
from tests.ledger.making import Clock, batch, sampled
from tests.ledger.reviewers import answer, fill, labels, lease, nothing, review, rule, says


def events(ledger: Ledger) -> list[tuple[str, str]]:
    """What is on record, oldest first."""
    event = schema.review_events
    query = sa.select(event.c.kind, event.c.reviewer).order_by(event.c.id)
    rows = ledger.reader.snapshot(lambda connection: connection.execute(query).all())
    return [(row.kind, row.reviewer) for row in rows]


def kept(ledger: Ledger) -> list[tuple[bool | None, float | None, int | None, str]]:
    """Every revision of the labels: truth, agreement, answers, author."""
    label = schema.labels
    query = sa.select(label.c.positive, label.c.agreement, label.c.reviews, label.c.author).order_by(
        label.c.id
    )
    rows = ledger.reader.snapshot(lambda connection: connection.execute(query).all())
    return [(None if row[0] is None else bool(row[0]), *row[1:]) for row in rows]


def test_a_task_is_done_when_as_many_as_are_wanted_agree(ledger: Ledger) -> None:
    """One label, with the share of agreement and of how many answers that is."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    review(ledger, "ann")
    assert labels(ledger) == []
    assert nothing(ledger, "ann").open_tasks == 1, "the second answer is somebody else's"
    review(ledger, "bob")
    assert kept(ledger) == [(True, 1.0, 2, "bob")]
    assert nothing(ledger, "cat").open_tasks == 0
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.done) == (0, 1)


def test_where_they_disagree_another_reviewer_settles_it(ledger: Ledger) -> None:
    """That answer counts; the label says how many of the reviewers had said the same."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    review(ledger, "ann", True)
    review(ledger, "bob", False)
    assert labels(ledger) == []
    assert [queue.disputed for queue in ledger.review_stats()] == [1]
    for reviewer in ("ann", "bob"):
        assert nothing(ledger, reviewer).open_tasks == 1, "nobody settles what they disagree on themselves"
    task = lease(ledger, "cat")
    assert task.deciding
    answer(ledger, task, "cat", False)
    assert kept(ledger) == [(False, 0.5, 2, "cat")]


def test_a_disagreement_goes_to_the_queue_of_those_who_settle_it(ledger: Ledger) -> None:
    """There one answer is enough, and nobody else gets it."""
    rule(ledger, {"leads": QueueRule(reviews_required=3)}, reviews_required=3, adjudicate_in="leads")
    fill(ledger, 1)
    for reviewer, positive in (("ann", True), ("bob", False), ("cat", True)):
        review(ledger, reviewer, positive)
    assert nothing(ledger, "dan").open_tasks == 0
    blind = lease(ledger, "lea", queue="leads")
    assert (blind.deciding, blind.others) == (True, ())
    answer(ledger, blind, "lea", True)
    [(truth, agreement, reviews, author)] = kept(ledger)
    assert (truth, reviews, author) == (True, 3, "lea")
    assert agreement == pytest.approx(2 / 3)
    assert {queue.queue: (queue.open_tasks, queue.done) for queue in ledger.review_stats()} == {
        "leads": (0, 1)
    }


def test_who_settles_a_disagreement_sees_what_was_said_if_they_ask(ledger: Ledger) -> None:
    """Blind by default; and what was shown is on record."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    review(ledger, "ann", True)
    review(ledger, "bob", False)
    task = ledger.lease("moderation", "cat", 60, shown=True).result()
    assert isinstance(task, Lease)
    assert [other.positive for other in task.others] == [True, False]


def test_an_answer_that_was_acknowledged_is_a_duplicate_though_another_has_the_task(ledger: Ledger) -> None:
    """The acknowledgement got lost, the reviewer sends it again: that is no lost lease."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    task = review(ledger, "ann", True)
    other = lease(ledger, "bob")
    assert answer(ledger, task, "ann", True) is Kept.DUPLICATE
    assert answer(ledger, task, "ann", False) is Kept.CORRECTED
    assert answer(ledger, other, "bob", False) is Kept.ACCEPTED, "bob's lease is untouched by that"
    assert kept(ledger) == [(False, 1.0, 2, "bob")]


def test_a_correction_after_agreement_makes_it_a_disagreement(ledger: Ledger) -> None:
    """The label is taken back until somebody settles it; append-only, so both are on record."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    task = review(ledger, "ann", True)
    review(ledger, "bob", True)
    assert answer(ledger, task, "ann", False) is Kept.CORRECTED
    assert labels(ledger) == []
    review(ledger, "cat", False)
    assert kept(ledger) == [(True, 1.0, 2, "bob"), (None, None, 2, ""), (False, 0.5, 2, "cat")]
    assert labels(ledger) == [False]


def test_what_is_before_who_settles_it_stands(ledger: Ledger) -> None:
    """Neither corrected nor taken back: others work on it."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    task = review(ledger, "ann", True)
    review(ledger, "bob", False)
    with pytest.raises(TooLate, match="settles it"):
        answer(ledger, task, "ann", False)
    with pytest.raises(TooLate):
        ledger.undo_review(task.task, task.token, "ann", 60).result()
    assert answer(ledger, task, "ann", True) is Kept.DUPLICATE
    settled = review(ledger, "cat", True)
    again = ledger.undo_review(settled.task, settled.token, "cat", 60).result()
    assert again is not None
    assert again.deciding
    assert labels(ledger) == []
    answer(ledger, again, "cat", False)
    assert labels(ledger) == [False]


def test_an_answer_is_taken_back_and_the_task_is_the_reviewers_again(ledger: Ledger) -> None:
    """The label is gone, all three events stay; the token of before is worth nothing any more."""
    fill(ledger, 1)
    task = review(ledger, "ann", True)
    assert labels(ledger) == [True]
    again = ledger.undo_review(task.task, task.token, "ann", 60).result()
    assert again is not None
    assert (again.task, again.token > task.token) == (task.task, True)
    assert labels(ledger) == []
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.leased, queue.done) == (1, 1, 0)
    with pytest.raises(LeaseLost):
        answer(ledger, task, "ann", True)
    assert answer(ledger, again, "ann", False) is Kept.ACCEPTED
    assert labels(ledger) == [False]
    kinds = [kind for kind, _ in events(ledger)]
    assert kinds == ["view", "answer", "undo", "view", "answer"]


def test_taking_back_twice_is_taking_back_once(ledger: Ledger) -> None:
    """Undo may be retried; the second gives no second lease."""
    fill(ledger, 1)
    task = review(ledger, "ann")
    assert ledger.undo_review(task.task, task.token, "ann", 60).result() is not None
    assert ledger.undo_review(task.task, task.token, "ann", 60).result() is None
    assert nothing(ledger, "bob").open_tasks == 1


def test_nobody_takes_back_what_another_said(ledger: Ledger) -> None:
    """By name and token; nor what was never said."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    task = lease(ledger, "ann")
    with pytest.raises(LeaseLost, match="said nothing"):
        ledger.undo_review(task.task, task.token, "ann", 60).result()
    answer(ledger, task, "ann", True)
    for reviewer, token in (("bob", task.token), ("ann", task.token + 1)):
        with pytest.raises(LeaseLost, match="said nothing"):
            ledger.undo_review(task.task, token, reviewer, 60).result()
    review(ledger, "bob", True)
    assert labels(ledger) == [True]


def test_taking_back_leaves_who_holds_the_task_alone(ledger: Ledger) -> None:
    """Bob's lease is good; ann may have the task later."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    task = review(ledger, "ann", True)
    held = lease(ledger, "bob")
    assert ledger.undo_review(task.task, task.token, "ann", 60).result() is None
    assert answer(ledger, held, "bob", False) is Kept.ACCEPTED
    assert lease(ledger, "ann").task == task.task


def test_a_skip_is_taken_back(ledger: Ledger) -> None:
    """A slip of the keyboard costs nobody the task."""
    fill(ledger, 1)
    task = lease(ledger, "ann")
    ledger.skip_review(task.task, task.token, "ann", "oops").result()
    assert nothing(ledger, "ann").open_tasks == 1
    again = ledger.undo_review(task.task, task.token, "ann", 60).result()
    assert again is not None
    answer(ledger, again, "ann")
    assert [queue.skipped for queue in ledger.review_stats()] == [0]


def test_a_task_that_everybody_skips_stays_and_is_told(ledger: Ledger) -> None:
    """It does not vanish: it is open, nobody's, and Stats says so."""
    fill(ledger, 1)
    for reviewer in ("ann", "bob", "cat"):
        task = lease(ledger, reviewer)
        ledger.skip_review(task.task, task.token, reviewer, "").result()
    assert [nothing(ledger, reviewer).open_tasks for reviewer in ("ann", "bob", "cat")] == [1, 1, 1]
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.skipped, queue.skips, queue.done) == (1, 1, 3, 0)
    review(ledger, "dan")
    assert labels(ledger) == [True]


def test_what_enough_reviewers_will_not_judge_goes_to_who_settles_it(ledger: Ledger) -> None:
    """The label is then of no agreement."""
    rule(ledger, adjudicate_in="leads", max_skips=2)
    fill(ledger, 1)
    for reviewer in ("ann", "bob"):
        task = lease(ledger, reviewer)
        ledger.skip_review(task.task, task.token, reviewer, "").result()
    assert nothing(ledger, "cat").open_tasks == 0
    review(ledger, "lea", True, queue="leads")
    assert kept(ledger) == [(True, None, 0, "lea")]


def test_what_too_many_have_seen_is_set_aside(ledger: Ledger) -> None:
    """The list of who has seen a task is bounded; the task is told of, and who takes a skip back frees it."""
    fill(ledger, 1)
    last = None
    for number in range(64):
        last = lease(ledger, f"reviewer {number}")
        ledger.skip_review(last.task, last.token, f"reviewer {number}", "").result()
    assert last is not None
    assert nothing(ledger, "another").open_tasks == 1
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.aside) == (1, 1)
    assert ledger.undo_review(last.task, last.token, "reviewer 63", 60).result() is not None
    assert [queue.aside for queue in ledger.review_stats()] == [0]


def test_a_heartbeat_keeps_a_lease(ledger: Ledger, clock: Clock) -> None:
    """From now on, never shorter than it was; the token stays."""
    fill(ledger, 1)
    task = lease(ledger, "ann", 60)
    clock.pass_s(50)
    assert ledger.heartbeat(task.task, task.token, "ann", 60).result() == clock.now_us + 60_000_000
    assert ledger.heartbeat(task.task, task.token, "ann", 1).result() == clock.now_us + 60_000_000
    clock.pass_s(50)
    assert nothing(ledger, "bob").open_tasks == 1
    assert answer(ledger, task, "ann") is Kept.ACCEPTED


def test_a_heartbeat_brings_a_lease_back_that_nobody_took(ledger: Ledger, clock: Clock) -> None:
    """As an answer would be taken; but not once somebody has the task."""
    fill(ledger, 1, 2)
    task, other = lease(ledger, "ann", 10), lease(ledger, "ann", 10)
    clock.pass_s(20)
    taken = lease(ledger, "bob")
    lost, kept_one = (task, other) if taken.task == task.task else (other, task)
    ledger.heartbeat(kept_one.task, kept_one.token, "ann", 60).result()
    assert nothing(ledger, "cat").open_tasks == 2
    with pytest.raises(LeaseLost):
        ledger.heartbeat(lost.task, lost.token, "ann", 60).result()


def test_a_heartbeat_of_a_task_that_is_answered_is_refused(ledger: Ledger) -> None:
    """Whether the task is done with it, or waits for another answer."""
    fill(ledger, 1)
    task = review(ledger, "ann")
    with pytest.raises(LeaseLost):
        ledger.heartbeat(task.task, task.token, "ann", 60).result()
    rule(ledger, reviews_required=2)
    fill(ledger, 2)
    task = review(ledger, "ann")
    with pytest.raises(LeaseLost):
        ledger.heartbeat(task.task, task.token, "ann", 60).result()


def test_a_lease_does_not_live_for_ever(ledger: Ledger, clock: Clock) -> None:
    """A console that was left open gives its task back after a working day."""
    fill(ledger, 1)
    task = lease(ledger, "ann", 3600)
    began = clock.now_us
    for _ in range(7):
        clock.pass_s(3599)
        ledger.heartbeat(task.task, task.token, "ann", 3600).result()
    clock.pass_s(3599)
    assert ledger.heartbeat(task.task, task.token, "ann", 3600).result() == began + MAX_HOLD_US
    clock.pass_s(60)
    with pytest.raises(LeaseLost, match="8 hours"):
        ledger.heartbeat(task.task, task.token, "ann", 3600).result()
    assert lease(ledger, "bob").task == task.task


def test_what_is_urgent_needs_one_answer(ledger: Ledger) -> None:
    """A caller waits: `reviews_required` is for samples."""
    from tests.ledger.test_urgent import asked

    rule(ledger, reviews_required=3)
    asked(ledger, 5)
    review(ledger, "ann")
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.done) == (0, 1)


def test_priority_then_deadline_then_age(ledger: Ledger, clock: Clock) -> None:
    """The order in which tasks go out; a deadline that has passed takes nothing away."""
    rules = {"urgent": TaskRule(1), "soon": TaskRule(5, 3_600_000_000), "later": TaskRule(5, 7_200_000_000)}
    ledger.set_review_rules(ReviewRules(routes=rules))
    for number, route in enumerate(("whenever", "later", "soon", "urgent", "soon"), 1):
        whole = sampled(number)
        [capture] = whole.captures
        ledger.write_batch(batch(captures=[{**capture, "route": route}]))
        ledger.write_batch(whole)
        assert ledger.flush()
    clock.pass_s(5400)
    [queue] = ledger.review_stats()
    assert queue.overdue == 2
    order = [lease(ledger, "ann") for _ in range(5)]
    assert [task.decision[-1] for task in order] == [4, 3, 5, 2, 1]
    assert [(task.priority, task.due_us is None) for task in order] == [
        (1, True),
        (5, False),
        (5, False),
        (5, False),
        (5, True),
    ]


def test_rules_that_change_hold_for_tasks_that_are_open(ledger: Ledger) -> None:
    """More answers are asked for, or fewer."""
    fill(ledger, 1, 2)
    rule(ledger, reviews_required=2)
    review(ledger, "ann")
    assert labels(ledger) == []
    rule(ledger, reviews_required=1)
    review(ledger, "bob")
    assert labels(ledger) == [True]
    assert kept(ledger) == [(True, 1.0, 2, "bob")]


@pytest.mark.parametrize(
    "name",
    ["%", "_", "a%b", "'; DROP TABLE labels; --", "Zoë 🙂", "‮nna", '"', "\\", "\t", "x" * 128, "[]", "ann\n"],
)
def test_any_name_is_a_reviewer(ledger: Ledger, name: str) -> None:
    """What they have seen is remembered as theirs, and nobody else's."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2)
    task = lease(ledger, name)
    ledger.skip_review(task.task, task.token, name, name).result()
    second = review(ledger, name)
    assert second.task != task.task
    assert nothing(ledger, name).open_tasks == 2
    review(ledger, "bob")
    review(ledger, "bob")
    review(ledger, name[:-1] + "!")
    assert labels(ledger) == [True, True]
    assert ("answer", name) in events(ledger)


def test_a_refused_label_settles_nothing(ledger: Ledger) -> None:
    """It leaves no event, and the counts as they were."""
    from gateway.errors import LabelError

    def refuse(route: str) -> None:
        raise LabelError("unknown_label", route)

    fill(ledger, 1)
    task = lease(ledger, "ann")
    with pytest.raises(LabelError):
        ledger.submit_review(task.task, task.token, "ann", refuse).result()  # type: ignore[arg-type]
    assert events(ledger) == [("view", "ann")]
    assert ledger.submit_review(task.task, task.token, "ann", says(True)).result() is Kept.ACCEPTED
