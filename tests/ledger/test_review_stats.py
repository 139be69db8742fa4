"""How a queue stands, how far reviewers agree, and that nobody counts a million rows to say so."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
import sqlalchemy as sa

from gateway.ledger import Kept, Ledger, Limits, schema
from gateway.ledger.fleet import Intake
from gateway.ledger.jobs import Job, work
from gateway.ledger.review import counts
from gateway.ledger.segments import Segments
from gateway.ledger.storing import Stored, store
from tests.ledger.making import NOW_US, Clock, sampled
from tests.ledger.reviewers import QUEUE, answer, fill, lease, review, rule


def counted(ledger: Ledger) -> dict[str, dict[str, int]]:
    return ledger.reader.snapshot(counts.read)


def test_counts_are_those_that_a_look_at_every_row_gives(ledger: Ledger, clock: Clock) -> None:
    """After answers, corrections, skips, disputes and what was taken back."""
    from gateway.ledger import QueueRule

    rule(ledger, {"leads": QueueRule()}, reviews_required=2, adjudicate_in="leads")
    fill(ledger, *range(1, 7))
    first = review(ledger, "ann", True)
    review(ledger, "bob", False)
    review(ledger, "lea", True, queue="leads")
    second = review(ledger, "ann", True)
    skipped = lease(ledger, "ann")
    ledger.skip_review(skipped.task, skipped.token, "ann", "").result()
    ledger.undo_review(second.task, second.token, "ann", 1).result()
    answer(ledger, first, "ann", True)
    clock.pass_s(2)
    before = counted(ledger)
    with ledger._engine.begin() as connection:
        counts.recount(connection)
    after = counted(ledger)
    assert {queue: (what.get("open", 0), what.get("done", 0)) for queue, what in before.items()} == {
        queue: (what.get("open", 0), what.get("done", 0)) for queue, what in after.items()
    }
    assert before[QUEUE]["open"] == 5
    assert before["leads"] == {"open": 0, "done": 1, "views": 1, "decides": 1}
    assert (before[QUEUE]["answers"], before[QUEUE]["skips"], before[QUEUE]["undos"]) == (3, 1, 1)


def test_what_a_job_counted_is_forgotten_with_the_job(ledger: Ledger) -> None:
    """A job that fails after it counted leaves the others' counts of the same commit alone."""
    fill(ledger, 1)

    def failing_work(connection: sa.Connection) -> None:
        counts.note(connection, QUEUE, "open", 100)
        raise ValueError("by its own fault")

    failing = ledger._writer.submit(failing_work)
    ledger.lease(QUEUE, "ann", 60).result()
    with pytest.raises(ValueError, match="own fault"):
        failing.result()
    assert counted(ledger)[QUEUE] == {"open": 1, "views": 1}


def test_the_same_task_twice_counts_once(ledger: Ledger) -> None:
    """A capture may come again."""
    fill(ledger, 1, 2)
    fill(ledger, 1, 2)
    assert counted(ledger)[QUEUE]["open"] == 2


def test_two_reviewers_agree_by_cohen_and_more_by_fleiss(ledger: Ledger) -> None:
    """On first opinions, before anybody settled what they disagreed on."""
    rule(ledger, reviews_required=2)
    fill(ledger, *range(1, 5))
    assert ledger.review_agreement(QUEUE) is None
    for ann, bob in ((True, True), (False, False), (True, False), (True, True)):
        review(ledger, "ann", ann)
        task = lease(ledger, "bob")
        answer(ledger, task, "bob", bob)
    review(ledger, "cat", True)
    found = ledger.review_agreement(QUEUE)
    assert found is not None
    assert (found.kind, found.tasks, found.agree) == ("cohen", 4, 0.75)
    assert found.kappa == pytest.approx(0.5)
    fill(ledger, 5)
    review(ledger, "ann", False)
    review(ledger, "dan", False)
    found = ledger.review_agreement(QUEUE)
    assert found is not None
    assert (found.kind, found.tasks, found.agree) == ("fleiss", 5, 0.8)


def test_what_is_said_after_a_look_is_a_label_but_no_agreement(ledger: Ledger) -> None:
    """Bob looks at ann's answer and joins her: kappa remembers what he said before."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2)
    review(ledger, "ann", True)
    review(ledger, "ann", True)
    review(ledger, "bob", True)
    task = lease(ledger, "bob")
    answer(ledger, task, "bob", True)
    shown = ledger.reveal_review(task.task, task.token, "bob").result()
    assert [other.positive for other in shown.others] == [True]
    assert answer(ledger, task, "bob", False) is Kept.CORRECTED
    review(ledger, "cat", False)
    found = ledger.review_agreement(QUEUE)
    assert found is not None
    assert found.agree == 1.0


def test_who_asked_for_the_prediction_first_is_not_blind(ledger: Ledger) -> None:
    """Their answer is a label; it says nothing of how far reviewers agree by themselves."""
    rule(ledger, reviews_required=2)
    fill(ledger, 1)
    review(ledger, "ann", True)
    task = ledger.lease(QUEUE, "bob", 60, shown=True).result()
    answer(ledger, task, "bob", True)  # type: ignore[arg-type]
    assert [queue.done for queue in ledger.review_stats()] == [1]
    assert ledger.review_agreement(QUEUE) is None


def test_every_view_and_answer_is_on_record(ledger: Ledger) -> None:
    """With who, when, under which lease, what, why, and whether it was blind."""
    fill(ledger, 1, 2)
    task = lease(ledger, "ann")
    answer(ledger, task, "ann", True)
    ledger.reveal_review(task.task, task.token, "ann").result()
    answer(ledger, task, "ann", False)
    other = lease(ledger, "bob")
    ledger.skip_review(other.task, other.token, "bob", "in Finnish").result()
    event = schema.review_events
    columns = (event.c.task, event.c.kind, event.c.reviewer, event.c.token, event.c.label, event.c.blind)
    query = sa.select(*columns, event.c.reason).order_by(event.c.id)
    rows = ledger.reader.snapshot(lambda connection: connection.execute(query).all())
    assert [tuple(row) for row in rows] == [
        (task.task, "view", "ann", 1, None, True, None),
        (task.task, "answer", "ann", 1, "spam", True, None),
        (task.task, "reveal", "ann", 1, None, False, None),
        (task.task, "answer", "ann", 1, "ham", False, None),
        (other.task, "view", "bob", 1, None, True, None),
        (other.task, "skip", "bob", 1, None, True, "in Finnish"),
    ]


def test_what_a_sidecar_pushed_leaves_the_counts_of_its_commit_alone(ledger: Ledger) -> None:
    """In a fleet, batches are stored by a job among others: what those before it noted is written too."""
    intake = Intake(ledger)
    group = intake.reduce(sampled(3), b"a" * 16, 1)

    def lease(connection: sa.Connection) -> None:
        counts.note(connection, QUEUE, "views", 7)

    def push(connection: sa.Connection) -> Stored:
        return store(connection, [group], Segments(10), Limits(), NOW_US)

    with ledger._engine.begin() as connection:
        work(connection, [Job(lease, Future()), Job(push, Future()), Job(lease, Future())])
    assert counted(ledger)[QUEUE] == {"open": 1, "views": 14}


def test_what_a_broken_transaction_noted_is_not_written_by_the_next(ledger: Ledger) -> None:
    """The pool gives the same connection to the next one."""

    def broken(connection: sa.Connection) -> None:
        with counts.counting(connection):
            counts.note(connection, QUEUE, "open", 100)
            raise ValueError("broke")

    with ledger._engine.connect() as connection:
        with pytest.raises(ValueError, match="broke"):
            broken(connection)
        with counts.counting(connection):
            counts.note(connection, QUEUE, "open", 1)
        assert counts.read(connection)[QUEUE] == {"open": 1}


def test_a_connection_that_is_lost_within_keeps_its_own_error(ledger: Ledger) -> None:
    """Else what could be tried again would look like a fault of ours, and its records be dropped."""
    with ledger._engine.connect() as connection:

        def lose() -> None:
            with connection.begin(), counts.counting(connection), counts.undone_by_errors(connection):
                connection.invalidate()
                raise OSError("the server has gone")

        with pytest.raises(OSError, match="the server has gone"):
            lose()
