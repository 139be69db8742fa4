"""The review queue: nobody's work is counted under somebody else's lease, and no task is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.errors import LabelError, LeaseLost, NotFound
from gateway.ledger import REVIEW, Kept, Lease, Ledger, Limits, NothingForYou, truth_of
from tests.ledger.making import CLASSES, Clock, batch, decision, sampled
from tests.ledger.reviewers import fill, lease, nothing, says


def test_a_sampled_row_becomes_a_task_with_what_was_captured(ledger: Ledger) -> None:
    """A reviewer sees the inputs of the very call; the label gets the facts of the very prediction."""
    ledger.write_batch(sampled(5, rows=2))
    assert ledger.flush()
    first, second = lease(ledger), lease(ledger)
    assert (first.decision, first.row, second.row) == (decision(5), 0, 1)
    assert (first.request, first.answer) == (b"request 5", b"answer 5")
    assert (first.facts.route, first.facts.backend, first.facts.segment) == (
        "spam",
        "spam-v3",
        "device=phone",
    )
    assert (first.facts.score, first.facts.flagged, first.label) == (0.9, True, "spam")
    assert first.facts.review_pi == 0.25


def test_an_answer_is_a_label_with_the_probability_it_was_sampled_with(ledger: Ledger) -> None:
    """Precision and recall are weighted by exactly this number."""
    fill(ledger, 1)
    task = lease(ledger)
    assert ledger.submit_review(task.task, task.token, "ann", says(True)).result() is Kept.ACCEPTED
    labelled = ledger.reader.labelled(source=REVIEW)
    assert (labelled.positive.tolist(), labelled.pi.tolist()) == ([True], [0.25])
    population = ledger.reader.population()
    assert population.pi.tolist() == [0.25], "strata match by equality"
    assert nothing(ledger).open_tasks == 0


def test_the_same_answer_again_is_harmless_and_another_corrects(ledger: Ledger) -> None:
    """Submit may be retried after a lost connection."""
    fill(ledger, 1)
    task = lease(ledger)
    results = [
        ledger.submit_review(task.task, task.token, "ann", says(yes)).result()
        for yes in (True, True, False, False)
    ]
    assert results == [Kept.ACCEPTED, Kept.DUPLICATE, Kept.CORRECTED, Kept.DUPLICATE]
    assert ledger.reader.labelled().positive.tolist() == [False]


def test_nobody_gets_a_leased_task_until_the_lease_runs_out(ledger: Ledger, clock: Clock) -> None:
    """`nothing for you` says how long to wait; `queue empty` is something else."""
    assert nothing(ledger) == NothingForYou(0, None)
    fill(ledger, 1)
    first = lease(ledger, "ann", 60)
    assert nothing(ledger, "bob") == NothingForYou(1, clock.now_us + 60_000_000)
    clock.pass_s(60)
    second = lease(ledger, "bob")
    assert second.task == first.task
    assert second.token > first.token


def test_a_lost_lease_cannot_answer_or_skip(ledger: Ledger, clock: Clock) -> None:
    """The token fences off who was too slow, even if nobody answered since."""
    fill(ledger, 1)
    slow = lease(ledger, "ann", 10)
    clock.pass_s(11)
    quick = lease(ledger, "bob")
    with pytest.raises(LeaseLost):
        ledger.submit_review(slow.task, slow.token, "ann", says(True)).result()
    with pytest.raises(LeaseLost):
        ledger.skip_review(slow.task, slow.token, "ann", "").result()
    assert ledger.submit_review(quick.task, quick.token, "bob", says(False)).result() is Kept.ACCEPTED
    with pytest.raises(LeaseLost):
        ledger.submit_review(slow.task, slow.token, "ann", says(True)).result()
    assert ledger.reader.labelled().positive.tolist() == [False]


def test_a_lease_that_ran_out_while_nobody_took_the_task_still_answers(ledger: Ledger, clock: Clock) -> None:
    """Work that was done is not thrown away for a clock's sake."""
    fill(ledger, 1)
    task = lease(ledger, "ann", 10)
    clock.pass_s(3600)
    assert ledger.submit_review(task.task, task.token, "ann", says(True)).result() is Kept.ACCEPTED


def test_a_token_works_for_its_reviewer_only(ledger: Ledger) -> None:
    """Whose answer it is stands with the label."""
    fill(ledger, 1)
    task = lease(ledger, "ann")
    with pytest.raises(LeaseLost):
        ledger.submit_review(task.task, task.token, "bob", says(True)).result()
    with pytest.raises(LeaseLost):
        ledger.submit_review(task.task, task.token + 1, "ann", says(True)).result()


def test_a_task_that_never_was_is_not_found(ledger: Ledger) -> None:
    """A wrong id is told apart from a lost lease."""
    with pytest.raises(NotFound):
        ledger.submit_review(99, 1, "ann", says(True)).result()
    with pytest.raises(NotFound):
        ledger.skip_review(99, 1, "ann", "").result()


def test_a_skipped_task_goes_to_others_only(ledger: Ledger) -> None:
    """Skip gives the task back at once, and it does not come round again."""
    fill(ledger, 1)
    task = lease(ledger, "ann")
    ledger.skip_review(task.task, task.token, "ann", "cannot read it").result()
    ledger.skip_review(task.task, task.token, "ann", "cannot read it").result()
    assert nothing(ledger, "ann") == NothingForYou(1, None), "waiting would not help"
    with pytest.raises(LeaseLost):
        ledger.submit_review(task.task, task.token, "ann", says(True)).result()
    again = lease(ledger, "bob")
    assert again.task == task.task
    [queue] = ledger.review_stats()
    assert (queue.open_tasks, queue.leased, queue.done, queue.skips) == (1, 1, 0, 1)


def test_an_answered_task_cannot_be_skipped(ledger: Ledger) -> None:
    """A label is never taken back by accident."""
    fill(ledger, 1)
    task = lease(ledger)
    ledger.submit_review(task.task, task.token, "ann", says(True)).result()
    with pytest.raises(LeaseLost):
        ledger.skip_review(task.task, task.token, "ann", "").result()
    assert ledger.review_stats("moderation")[0].done == 1


def test_a_refused_label_leaves_the_task_leased(ledger: Ledger) -> None:
    """A reviewer's slip of the keyboard costs nothing."""
    fill(ledger, 1)
    task = lease(ledger)
    with pytest.raises(LabelError):
        ledger.submit_review(
            task.task, task.token, "ann", lambda route: truth_of(route, CLASSES, label="spma")
        ).result()
    assert ledger.submit_review(task.task, task.token, "ann", says(True)).result() is Kept.ACCEPTED


def test_reviewers_who_work_at_once_never_share_a_task(ledger: Ledger) -> None:
    """Four reviewers, sixty tasks: each task answered once, by who held it."""
    fill(ledger, *range(1, 61))

    def work(reviewer: str) -> list[int]:
        done = []
        while isinstance(leased := ledger.lease("moderation", reviewer, 60).result(), Lease):
            ledger.submit_review(leased.task, leased.token, reviewer, says(True)).result()
            done.append(leased.task)
        return done

    with ThreadPoolExecutor(4) as threads:
        done = [task for tasks in threads.map(work, ["ann", "bob", "cat", "dan"]) for task in tasks]
    assert len(done) == len(set(done)) == 60
    assert len(ledger.reader.labelled().positive) == 60


def test_a_full_queue_drops_tasks_and_counts_them(url: str) -> None:
    """An unattended queue must not grow for ever; decisions are kept, so that feedback by id still works."""
    ledger = Ledger(url, Limits(linger_s=0.01, open_tasks=3))
    ledger.open()
    fill(ledger, 1, 2, 3, 4, 5)
    fill(ledger, 6, queue="other")
    assert {queue.queue: queue.open_tasks for queue in ledger.review_stats()} == {"moderation": 3, "other": 1}
    assert ledger.counters()["dropped.review_tasks.queue_full"] == 2
    assert len(ledger.find_facts([(decision(n), 0) for n in range(1, 7)])) == 6
    ledger.close()


def test_a_payload_too_large_to_show_makes_no_task(url: str) -> None:
    """It is dropped whole: half an input would be judged as if it were all."""
    ledger = Ledger(url, Limits(linger_s=0.01, task_bytes=15))
    ledger.open()
    fill(ledger, 1)
    assert ledger.review_stats() == []
    assert ledger.counters()["dropped.review_tasks.too_large"] == 1
    ledger.close()


def test_a_capture_that_comes_before_its_record_waits_for_it(ledger: Ledger) -> None:
    """Payloads and records leave the data plane by different ways."""
    whole = sampled(1)
    ledger.write_batch(batch(captures=whole.captures))
    assert ledger.flush()
    assert nothing(ledger).open_tasks == 1
    ledger.write_batch(batch([{"id_lo": 1, "sampled": 1, "review_pi": 0.5}]))
    assert ledger.flush()
    assert lease(ledger).facts.review_pi == 0.5


def test_the_same_capture_twice_is_one_task(ledger: Ledger) -> None:
    """(decision, row) is the key of a prediction."""
    fill(ledger, 1, 1)
    assert ledger.review_stats()[0].open_tasks == 1
