"""What reviewers say about a task, and what that makes of it.

A task is done when as many reviewers as its queue wants have answered and agree. Where they do not, somebody else
settles it, and that answer counts. Whatever happens is a further event, and the task's state is worked out anew from
all of them: an answer that is corrected or taken back leaves the task as if it had never been given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.errors import LeaseLost, NotFound, TooLate
from gateway.ledger import schema
from gateway.ledger.labels import REVIEW, Facts, Kept, LabelRow, Truth, keep
from gateway.ledger.review import counts, gold
from gateway.ledger.review.events import (
    ANSWER,
    DECIDE,
    REVEAL,
    SKIP,
    UNDO,
    Event,
    History,
    append,
    facts_of,
    history,
    marks,
    same,
)
from gateway.ledger.review.finding import joined
from gateway.ledger.review.leasing import Lease, Stage, hand_over, hand_over_gold, held, locked
from gateway.ledger.review.rules import MAX_REVIEWERS, MAX_SEEN, USUAL, QueueRule, ReviewRules

__all__ = ["Revealed", "reveal", "skip", "submit", "undo"]

_task = schema.review_tasks
_decision = schema.decisions


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a reviewer may see after the answer. `answer`: the captured message, redacted; `others`: their answers."""

    facts: Facts
    label: str | None
    answer: bytes
    others: tuple[Truth, ...]


def submit(
    connection: sa.Connection,
    task: int,
    token: int,
    reviewer: str,
    truth: Callable[[str], Truth],
    now_us: int,
    rules: ReviewRules = USUAL,
) -> Kept:
    """Keep a reviewer's answer; with the last one that is wanted, the task is done and there is a label.

    Args:
        truth: makes of the task's route what was said; may raise LabelError.
    Raises: NotFound, no such task. LeaseLost, somebody else has it. TooLate, others work on what was said.
    """
    found = locked(connection, task)._mapping
    past = history(connection, task)
    before = _under(past, token, reviewer)
    if before is None:
        held(found, token, reviewer)
    elif before.kind == SKIP:
        raise LeaseLost(f"task {task} was skipped by {reviewer!r} under lease {token}; lease another one")
    said = truth(_route(connection, found))
    if before is not None:
        if before.truth == said:
            return Kept.DUPLICATE
        _changeable(found, before)
    deciding = found[_task.c.stage] == Stage.DECIDE
    kind = before.kind if before is not None else DECIDE if deciding else ANSWER
    blind = History(past).blind(reviewer)
    past.append(append(connection, found, kind, reviewer, now_us, token=token, truth=said, blind=blind))
    _settle(connection, found, past, rules, now_us, given_up=before is None)
    return Kept.ACCEPTED if before is None else Kept.CORRECTED


def skip(
    connection: sa.Connection,
    task: int,
    token: int,
    reviewer: str,
    reason: str,
    now_us: int,
    rules: ReviewRules = USUAL,
) -> None:
    """Give a task back for good; sent twice it counts once.

    Raises: NotFound, no such task. LeaseLost, somebody else has it or it is answered.
    """
    found = locked(connection, task)._mapping
    past = history(connection, task)
    before = _under(past, token, reviewer)
    if before is not None:
        if before.kind == SKIP:
            return
        raise LeaseLost(f"task {task} is answered already; it cannot be skipped")
    held(found, token, reviewer)
    past.append(append(connection, found, SKIP, reviewer, now_us, token=token, reason=reason))
    _settle(connection, found, past, rules, now_us, given_up=True)


def undo(
    connection: sa.Connection,
    task: int,
    token: int,
    reviewer: str,
    lease_us: int,
    now_us: int,
    rules: ReviewRules = USUAL,
) -> Lease | None:
    """Take back the reviewer's answer or skip under that lease, and lease the task to them again.

    Returns: None where somebody else holds the task now, or it was taken back before.
    Raises: NotFound, no such task. LeaseLost, nothing of this reviewer's stands under that lease. TooLate, it was put
    before somebody else to be settled.
    """
    found = locked(connection, task)._mapping
    past = history(connection, task)
    if History(past).undone(reviewer, token):
        return None
    before = _under(past, token, reviewer)
    if before is None:
        raise LeaseLost(f"{reviewer!r} has said nothing under lease {token} of task {task} that stands")
    _changeable(found, before)
    past.append(append(connection, found, UNDO, reviewer, now_us, token=token))
    is_held = found[_task.c.done_us] is None and found[_task.c.lease_until_us] > now_us
    _settle(connection, found, past, rules, now_us, given_up=not is_held)
    if is_held:
        return None
    return _again(connection, task, reviewer, lease_us, now_us)


def reveal(connection: sa.Connection, task: int, token: int, reviewer: str, now_us: int) -> Revealed:
    """What the model and the others said, for a reviewer who has answered; what this one says later is not blind.

    Raises: NotFound, no such task. LeaseLost, the reviewer has not answered.
    """
    found = locked(connection, task)._mapping
    past = history(connection, task)
    before = _under(past, token, reviewer)
    if before is None or before.kind == SKIP:
        raise LeaseLost(f"{reviewer!r} has not answered task {task} under lease {token}; answer first")
    append(connection, found, REVEAL, reviewer, now_us, token=token, blind=False)
    number = found[_task.c.gold]
    if number is not None:
        shown = gold.shown(connection, found)
        # As many as there would be if this were the task that it looks like.
        others = (gold.truth_of_gold(connection, number)[1],) * (token - 1)
        return Revealed(shown.facts, shown.label, shown.answer, others)
    row = connection.execute(joined().where(_task.c.id == task)).first()
    if row is None:
        raise NotFound(f"the call of task {task} is no longer kept")
    standing = History(past)
    others = tuple(
        event.truth
        for event in [*standing.standing(ANSWER), *standing.standing(DECIDE)]
        if event.reviewer != reviewer
    )
    answer = bytes(row._mapping[schema.captures.c.answer])
    return Revealed(facts_of(row._mapping), row._mapping[_decision.c.label], answer, others)


def _under(past: list[Event], token: int, reviewer: str) -> Event | None:
    """What stands of what the reviewer said under a lease."""
    last = History(past).last(reviewer)
    return last if last is not None and last.token == token else None


def _changeable(found: sa.RowMapping, before: Event) -> None:
    """Raises: TooLate, when others work on what was said."""
    if found[_task.c.stage] == Stage.DECIDE and before.kind != DECIDE:
        raise TooLate(
            f"task {found[_task.c.id]} is before somebody who settles it; what was said stands as it is"
        )


def _route(connection: sa.Connection, found: sa.RowMapping) -> str:
    if found[_task.c.gold] is not None:
        return gold.truth_of_gold(connection, found[_task.c.gold])[0]
    return _facts(connection, found).route


def _facts(connection: sa.Connection, found: sa.RowMapping) -> Facts:
    same_row = (_decision.c.decision == found[_task.c.decision], _decision.c.row == found[_task.c.row])
    row = connection.execute(sa.select(_decision).where(*same_row)).first()
    if row is None:
        raise NotFound(f"the call of task {found[_task.c.id]} is no longer kept; lease another task")
    return facts_of(row._mapping)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the answers come to. `truth`: None while it is open. `agreement`: share of `reviews` that say so."""

    stage: int
    queue: str
    truth: Truth | None = None
    author: str = ""
    agreement: float | None = None


def _judge(found: sa.RowMapping, standing: History, rule: QueueRule) -> _Verdict:
    """The state of a task by what stands."""
    answers, decided = standing.standing(ANSWER), standing.standing(DECIDE)
    queue, stage = found[_task.c.queue], found[_task.c.stage]
    if decided:
        last = decided[-1]
        agree = sum(same(answer.truth, last.truth) for answer in answers)
        return _Verdict(stage, queue, last.truth, last.reviewer, agree / len(answers) if answers else None)
    skips = len(standing.standing(SKIP))
    if len(answers) + skips >= (MAX_SEEN if stage == Stage.DECIDE else MAX_REVIEWERS):
        return _Verdict(Stage.ASIDE, queue)
    if stage == Stage.DECIDE:
        return _Verdict(stage, queue)
    wanted = 1 if found[_task.c.urgent_until_us] is not None else rule.reviews_required
    if len(answers) >= wanted:
        best = next((answer for answer in answers if answer.truth.label is not None), answers[0])
        if all(same(answer.truth, best.truth) for answer in answers):
            return _Verdict(Stage.REVIEW, queue, best.truth, answers[-1].reviewer, 1.0)
        return _Verdict(Stage.DECIDE, rule.adjudicate_in or queue)
    if rule.adjudicate_in is not None and skips >= rule.max_skips:
        return _Verdict(Stage.DECIDE, rule.adjudicate_in)
    return _Verdict(Stage.REVIEW, queue)


def _settle(
    connection: sa.Connection,
    found: sa.RowMapping,
    past: list[Event],
    rules: ReviewRules,
    now_us: int,
    *,
    given_up: bool,
) -> None:
    """Bring the task's row, its label and the counts to what the events say.

    Args:
        given_up: nobody holds the task any more.
    """
    standing = History(past)
    answers, skips = standing.standing(ANSWER), standing.standing(SKIP)
    is_gold = found[_task.c.gold] is not None
    verdict = _judge(found, standing, rules.queue(found[_task.c.home] or found[_task.c.queue]))
    if is_gold:
        # One reviewer's alone: an answer or a skip ends it.
        said = (answers + skips)[-1:]
        verdict = _Verdict(Stage.REVIEW, found[_task.c.queue], said[0].truth if said else None)
    was_done, is_done = found[_task.c.done_us] is not None, verdict.truth is not None
    seen = [event.reviewer for kind in (ANSWER, DECIDE, SKIP) for event in standing.standing(kind)]
    values: dict[str, Any] = {
        "done_us": now_us if is_done else None,
        "stage": verdict.stage,
        "queue": verdict.queue,
        "reviews": len(answers),
        "skips": len(skips),
        "seen": marks(seen),
    }
    if (given_up or was_done) and not is_done:
        # Without a reviewer no answer fits the lease any more, though its token is still the last one.
        values |= {"lease_until_us": 0, "reviewer": found[_task.c.reviewer] if is_gold else ""}
    connection.execute(sa.update(_task).where(_task.c.id == found[_task.c.id]).values(values))
    counts.note(connection, found[_task.c.queue], "done" if was_done else "open", -1)
    counts.note(connection, verdict.queue, "done" if is_done else "open", 1)
    if not is_gold and (is_done or was_done):
        _label(connection, found, verdict, len(answers), now_us)


def _label(
    connection: sa.Connection, found: sa.RowMapping, verdict: _Verdict, answers: int, now_us: int
) -> None:
    """The label that a task is done with; a revision that says nothing, where there is none any more."""
    label = LabelRow(
        decision=bytes(found[_task.c.decision]),
        row=found[_task.c.row],
        source=REVIEW,
        truth=verdict.truth or Truth(),
        facts=_facts(connection, found),
        received_us=now_us,
        author=verdict.author,
        agreement=verdict.agreement,
        reviews=answers,
    )
    keep(connection, [label])


def _again(connection: sa.Connection, task: int, reviewer: str, lease_us: int, now_us: int) -> Lease | None:
    """Lease a task to whom it was taken back from; None where its call is no longer kept."""
    found = locked(connection, task)._mapping
    if found[_task.c.gold] is not None:
        return hand_over_gold(connection, found, reviewer, lease_us, now_us, shown=False)
    row = connection.execute(joined().where(_task.c.id == task)).first()
    return None if row is None else hand_over(connection, row, reviewer, lease_us, now_us, shown=False)
