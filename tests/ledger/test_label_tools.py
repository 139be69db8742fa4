"""Tasks in a label tool: whose they are, which answers were taken, and what has become of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from gateway.errors import LeaseLost
from gateway.ledger import Kept, Lease, Ledger, NothingForYou, Truth, label_tools, tool_answers, truth_of
from gateway.ledger.label_tools import Sent, State
from gateway.ledger.review import QueueRule, ReviewRules
from gateway.ledger.tool_answers import Answered, Known
from tests.ledger.making import CLASSES, Clock, decision, sampled

HOLDER, PLACE, HOUR_US = "tool", "https://tool project 3", 3_600_000_000


def says(label: str) -> Callable[[str], Truth]:
    return lambda route: truth_of(route, CLASSES, label=label)


def take(
    ledger: Ledger, clock: Clock, *, place: str = PLACE, at_most: int = 10, again: bool = False
) -> tuple[int, list[Sent]]:
    work = partial(
        label_tools.take,
        queue="moderation",
        holder=HOLDER,
        place=place,
        at_most=at_most,
        hold_us=HOUR_US,
        now_us=clock(),
        again=again,
    )
    taken, new = ledger.transact(work).result()
    return taken, [task for _, task in new]


def sent(ledger: Ledger, *states: State, place: str = PLACE, **more: object) -> list[Sent]:
    work = partial(label_tools.sent, place=place, states=states or tuple(State), limit=100, **more)  # type: ignore[arg-type]
    return ledger.reader.snapshot(work)


def submit(
    ledger: Ledger, clock: Clock, task: Sent, answered: Answered, label: str, before: Known | None = None
) -> Kept:
    work = partial(
        tool_answers.submit,
        task=task,
        holder=HOLDER,
        answered=answered,
        truth=says(label),
        now_us=clock(),
        before=before,
    )
    return ledger.transact(work).result()


def known(ledger: Ledger, task: Sent) -> dict[int, Known]:
    return ledger.reader.snapshot(partial(tool_answers.known, task=task))


def fill(ledger: Ledger, *numbers: int) -> None:
    for number in numbers:
        ledger.write_batch(sampled(number))
    assert ledger.flush()


def test_a_task_is_taken_once_and_again_only_when_its_lease_is_over(ledger: Ledger, clock: Clock) -> None:
    """What lies there already is not sent again, unless it went out in a file that may have been lost."""
    fill(ledger, 1, 2)
    taken, new = take(ledger, clock)
    assert (taken, [task.key for task in new]) == (2, [(decision(1), 0), (decision(2), 0)])
    assert take(ledger, clock) == (0, [])
    clock.pass_s(3_601)
    taken, new = take(ledger, clock)
    assert (taken, new) == (2, [])
    assert {task.token for task in sent(ledger)} == {2}
    clock.pass_s(3_601)
    taken, new = take(ledger, clock, again=True)
    assert (taken, {task.token for task in new}) == (2, {3})


def test_only_what_is_held_now_counts_against_the_limit(ledger: Ledger, clock: Clock) -> None:
    """Otherwise leases that ran out would keep the tool empty for ever."""
    fill(ledger, *range(1, 6))
    assert take(ledger, clock, at_most=3)[0] == 3
    assert take(ledger, clock, at_most=3)[0] == 0
    clock.pass_s(3_601)
    assert take(ledger, clock, at_most=3)[0] == 3


def test_a_task_of_another_place_is_sent_anew(ledger: Ledger, clock: Clock) -> None:
    """The settings name another project; numbers and answers of the old one mean nothing there."""
    fill(ledger, 1)
    [old] = take(ledger, clock)[1]
    ledger.transact(partial(label_tools.mark_sent, tasks=[old], remote=[7])).result()
    ledger.transact(
        partial(tool_answers.note, task=old, answered=Answered(5, "a", "ann"), token=None)
    ).result()
    clock.pass_s(3_601)
    [new] = take(ledger, clock, place="elsewhere")[1]
    assert new.remote is None
    assert known(ledger, new) == {}
    assert (sent(ledger), len(sent(ledger, place="elsewhere"))) == ([], 1)


def test_an_answer_is_its_authors_and_a_new_version_corrects_it(ledger: Ledger, clock: Clock) -> None:
    """Under the token of the first version, whatever was leased since."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    assert submit(ledger, clock, task, Answered(5, "a", "ann"), "spam") is Kept.ACCEPTED
    before = known(ledger, task)[5]
    assert (before.version, before.author, before.token) == ("a", "ann", 1)
    assert submit(ledger, clock, task, Answered(5, "b", "ann"), "ham", before) is Kept.CORRECTED
    assert submit(ledger, clock, task, Answered(5, "c", "ann"), "ham", before) is Kept.DUPLICATE
    assert ledger.reader.labelled().positive.tolist() == [False]
    assert [task.state for task in sent(ledger)] == [State.ANSWERED]


def test_nobody_answers_for_somebody_elses_lease(ledger: Ledger, clock: Clock) -> None:
    """Of the tool and a person who took the task after its lease, the person has it; nothing is written."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    clock.pass_s(3_601)
    taken = ledger.lease("moderation", "bob", 60).result()
    assert isinstance(taken, Lease)
    assert [task.state for task in sent(ledger)] == [State.LEASED]
    with pytest.raises(LeaseLost):
        submit(ledger, clock, task, Answered(5, "a", "ann"), "spam")
    assert known(ledger, task) == {}
    ledger.submit_review(taken.task, taken.token, "bob", says("ham")).result()
    assert [task.state for task in sent(ledger)] == [State.ELSEWHERE]


def test_a_second_persons_answer_is_refused_when_one_is_wanted(ledger: Ledger, clock: Clock) -> None:
    """The first counts."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    submit(ledger, clock, task, Answered(5, "a", "ann"), "spam")
    with pytest.raises(LeaseLost):
        submit(ledger, clock, task, Answered(6, "a", "bob"), "ham")
    assert ledger.reader.labelled().positive.tolist() == [True]


def test_a_skip_is_its_authors_and_the_task_stays_for_others(ledger: Ledger, clock: Clock) -> None:
    """Others in the tool, too: the holder may lease it again."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    give_back = partial(tool_answers.give_back, task=task, holder=HOLDER, reason="unclear", now_us=clock())
    ledger.transact(partial(give_back, answered=Answered(5, "a", "ann"))).result()
    assert isinstance(ledger.lease("moderation", "ann", 60).result(), NothingForYou)
    assert (known(ledger, task)[5].token, known(ledger, task)[5].skipped) == (1, True)
    assert take(ledger, clock) == (1, [])
    [again] = sent(ledger)
    assert submit(ledger, clock, again, Answered(6, "a", "bob"), "ham") is Kept.ACCEPTED


def undo(ledger: Ledger, clock: Clock, task: Sent, taken: Known) -> Sent:
    work = partial(tool_answers.undo, task=task, holder=HOLDER, taken=taken, now_us=clock())
    return ledger.transact(work).result()


def test_an_answer_that_is_taken_back_leaves_the_task_with_the_tool(ledger: Ledger, clock: Clock) -> None:
    """As if it had never been given, but for the trail; somebody else there may answer, or the same person anew."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    submit(ledger, clock, task, Answered(5, "a", "ann"), "spam")
    task = undo(ledger, clock, task, known(ledger, task)[5])
    assert (task.state, task.token) == (State.OPEN, 2)
    assert sent(ledger) == [task]
    assert known(ledger, task)[5].token is None
    assert len(ledger.reader.labelled().positive) == 0
    assert isinstance(ledger.lease("moderation", "bob", 60).result(), NothingForYou)
    assert submit(ledger, clock, task, Answered(6, "a", "ann"), "ham") is Kept.ACCEPTED
    assert ledger.reader.labelled().positive.tolist() == [False]


def test_who_skipped_may_think_again_and_who_answered_may_skip(ledger: Ledger, clock: Clock) -> None:
    """The same annotation, changed from one to the other and back."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]

    def skip(version: str) -> None:
        before = known(ledger, task).get(5)
        work = partial(
            tool_answers.give_back, task=task, holder=HOLDER, reason="unclear", now_us=clock(), before=before
        )
        ledger.transact(partial(work, answered=Answered(5, version, "ann"))).result()

    skip("a")
    [task] = sent(ledger)
    assert (
        submit(ledger, clock, task, Answered(5, "b", "ann"), "spam", known(ledger, task)[5]) is Kept.ACCEPTED
    )
    [task] = sent(ledger)
    skip("c")
    skip("d")
    [task] = sent(ledger)
    assert (task.state, len(ledger.reader.labelled().positive)) == (State.OPEN, 0)
    [stats] = ledger.review_stats("moderation")
    assert (stats.open_tasks, stats.done) == (1, 0)


def test_nobody_counts_as_two_where_two_answers_are_wanted(ledger: Ledger, clock: Clock) -> None:
    """Two annotations by one person are one opinion; the second opinion is somebody else's."""
    ledger.set_review_rules(ReviewRules({"moderation": QueueRule(reviews_required=2)}))
    rules = ledger.review_rules
    fill(ledger, 1)
    take(ledger, clock)

    def answer(number: int, author: str) -> Kept:
        work = partial(tool_answers.submit, holder=HOLDER, truth=says("spam"), now_us=clock(), rules=rules)
        [held] = sent(ledger)
        return ledger.transact(partial(work, task=held, answered=Answered(number, "a", author))).result()

    answer(5, "ann")
    with pytest.raises(LeaseLost, match="'ann' has answered or skipped"):
        answer(6, "ann")
    assert len(ledger.reader.labelled().positive) == 0
    answer(7, "bob")
    assert ledger.reader.labelled().positive.tolist() == [True]


def test_what_the_holder_gives_back_it_does_not_get_again(ledger: Ledger, clock: Clock) -> None:
    """Somebody deleted it in the tool."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    ledger.transact(
        partial(tool_answers.give_back, task=task, holder=HOLDER, reason="deleted", now_us=clock())
    ).result()
    assert take(ledger, clock) == (0, [])
    assert isinstance(ledger.lease("moderation", "bob", 60).result(), Lease)


def test_what_did_not_arrive_is_free_at_once(ledger: Ledger, clock: Clock) -> None:
    """The tool refused it; nobody should wait for the lease to run out."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    ledger.transact(partial(label_tools.release, tasks=[task], holder=HOLDER)).result()
    assert sent(ledger) == []
    assert isinstance(ledger.lease("moderation", "bob", 60).result(), Lease)


def test_tasks_are_found_by_their_number_or_an_answers(ledger: Ledger, clock: Clock) -> None:
    """A webhook of a deleted annotation names nothing else."""
    fill(ledger, 1, 2, 3)
    tasks = take(ledger, clock)[1]
    ledger.transact(partial(label_tools.mark_sent, tasks=tasks, remote=[11, 12, 13])).result()
    submit(ledger, clock, tasks[1], Answered(5, "a", "ann"), "spam")

    def recall(**numbers: list[int]) -> list[int | None]:
        found = ledger.reader.snapshot(partial(label_tools.recall, place=PLACE, **numbers))
        return sorted(task.remote or 0 for task in found)

    assert recall(remote=[11, 99]) == [11]
    assert recall(answers=[5]) == [12]
    assert recall(remote=[13], answers=[5]) == [12, 13]
    assert recall() == []


def test_pages_lead_through_all_answered_tasks(ledger: Ledger, clock: Clock) -> None:
    """By decision and row, and only those that were answered after a time."""
    fill(ledger, 1, 2, 3)
    for number, task in enumerate(take(ledger, clock)[1]):
        clock.pass_s(10)
        submit(ledger, clock, task, Answered(number, "a", "ann"), "spam")
    first = sent(ledger, State.ANSWERED)[0]
    rest = sent(ledger, State.ANSWERED, after=first.key)
    assert [task.key for task in rest] == [(decision(2), 0), (decision(3), 0)]
    assert len(sent(ledger, State.ANSWERED, done_after_us=clock() - 11_000_000)) == 2


def test_what_is_deleted_here_is_gone_and_can_be_forgotten(ledger: Ledger, clock: Clock) -> None:
    """Also where the number of its task was given to another one."""
    fill(ledger, 1)
    [task] = take(ledger, clock)[1]
    note = partial(tool_answers.note, task=task, answered=Answered(5, "a", "ann"), token=1)
    ledger.transact(note).result()
    from gateway.ledger import schema

    ledger.transact(lambda connection: connection.execute(schema.review_tasks.delete()) and None).result()
    assert [one.state for one in sent(ledger)] == [State.GONE]
    ledger.transact(partial(label_tools.forget, tasks=[task])).result()
    assert (sent(ledger), known(ledger, task)) == ([], {})
