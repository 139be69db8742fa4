"""The account that the tests of killed gateways and fleets rest on finds what is lost and what is there twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.ledger import Ledger, Limits, schema
from tests.faults.accounts import hold_to_account
from tests.faults.people import Caller, Client, Reviewer
from tests.ledger.making import batch, label

RECORDS = 5


class Told:
    """People who were told of all that is in the ledger; a test makes one of them know better."""

    def __init__(self) -> None:
        self.client = Client([""], 0, 0)
        self.reviewer = Reviewer([""], "ann", "moderation")
        self.caller = Caller("", "s", every_s=0)
        self.caller.answered["spam", ""] = RECORDS


def kept(url: str, told: Told) -> None:
    """Two statements about a row, and a task with its answer."""
    with closing(Ledger(url, Limits(linger_s=0.01))) as ledger:  # type: ignore[type-var]
        ledger.open()
        said = replace(label(1, positive=False), source="app-0")
        ledger.submit_labels([said]).result(20)
        ledger.submit_labels([replace(said, truth=label(1).truth)]).result(20)
        told.client.said[str(uuid.UUID(bytes=said.decision)), 0] = 2
        ledger.write_batch(batch([{}] * RECORDS))
        assert ledger.flush()
        decision = b"\x07" * 16

        def reviewed(connection: sa.Connection) -> None:
            task = {"id": 1, "decision": decision, "row": 0, "queue": "moderation", "created_us": 1}
            rest = {"done_us": 2, "lease_token": 1, "lease_until_us": 0, "reviewer": "ann"}
            connection.execute(sa.insert(schema.review_tasks), [task | rest])
            event = {"task": 1, "time_us": 2, "kind": "answer", "reviewer": "ann", "token": 1, "label": "ham"}
            connection.execute(sa.insert(schema.review_events), [event | {"blind": True}])

        ledger.submit(reviewed).result(20)
        ledger.submit_labels([replace(said, decision=decision, source="review")]).result(20)
        told.caller.decisions.add(decision.hex())
        told.reviewer.acknowledged.append((decision.hex(), 0, "ann", "ham"))


def account(url: str, told: Told) -> None:
    found = hold_to_account(url, [told.client], [told.reviewer], [told.caller], 0)
    assert (found.labels, found.tasks, found.answers, found.records) == (2, 1, 1, RECORDS)


def more_labels(told: Told) -> None:
    told.client.said[next(iter(told.client.said))] += 1


def fewer_labels(told: Told) -> None:
    told.client.said[next(iter(told.client.said))] -= 1


def another_answer(told: Told) -> None:
    told.reviewer.acknowledged.append(("ff" * 16, 0, "ann", "ham"))


def no_answer(told: Told) -> None:
    told.reviewer.acknowledged.clear()


def the_other_answer(told: Told) -> None:
    decision, row, name, _ = told.reviewer.acknowledged.pop()
    told.reviewer.acknowledged.append((decision, row, name, "spam"))


def another_task(told: Told) -> None:
    told.caller.decisions.add("ee" * 16)


def no_task(told: Told) -> None:
    told.caller.decisions.clear()


def more_calls(told: Told) -> None:
    told.caller.answered["spam", ""] += 1


def fewer_calls(told: Told) -> None:
    told.caller.answered["spam", ""] -= 1


def other_calls(told: Told) -> None:
    told.caller.answered["spam", "another"] = told.caller.answered.pop(("spam", ""))


def test_what_was_told_and_is_there_is_accepted(sqlite_url: str) -> None:
    """And calls of a killed process's last seconds may be missing, broken ones be there."""
    told = Told()
    kept(sqlite_url, told)
    account(sqlite_url, told)
    told.caller.answered["spam", ""] += 2
    told.caller.at_risk["spam", ""] = 2
    account(sqlite_url, told)
    told.caller.answered["spam", ""] -= 3
    told.caller.at_risk.clear()
    told.caller.broken_calls["spam", ""] = 1
    account(sqlite_url, told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (more_labels, "acknowledged labels that are not there"),
        (fewer_labels, "there more often than they were said"),
        (another_answer, "acknowledged answers that are not there"),
        (the_other_answer, "acknowledged answers that are not there"),
        (no_answer, "answers that nobody was told of"),
        (another_task, "reviewed calls without a task"),
        (no_task, "tasks of calls that nobody made"),
        (more_calls, "5 records, wanted 6 to 6"),
        (fewer_calls, "5 records, wanted 4 to 4"),
        (other_calls, "0 records, wanted 5 to 5"),
    ],
)
def test_what_does_not_fit_is_found(tmp_path: Path, change: Callable[[Told], None], words: str) -> None:
    """Else the tests that kill would pass on any ledger."""
    url, told = f"sqlite:///{tmp_path / 'ledger.db'}", Told()
    kept(url, told)
    change(told)
    with pytest.raises(AssertionError, match=words):
        account(url, told)
