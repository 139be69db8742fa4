"""A batch of a sidecar is counted exactly once, and together with the note that it was."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable, PolicyConflict
from gateway.ledger import Lease, Ledger, Limits, ReviewRules, TaskRule
from gateway.ledger.fleet import Intake
from tests.ledger.making import NOW_US, batch, sampled

RUN, OTHER = b"a" * 16, b"b" * 16


def push(ledger: Ledger, *batches: tuple[int, int, bytes]) -> list[bool]:
    """Keep batches of (sequence, rows, run) together."""
    intake = Intake(ledger)
    groups = [intake.reduce(batch([{}] * rows), run, sequence) for sequence, rows, run in batches]
    return intake.keep(groups, NOW_US).result()


def calls(ledger: Ledger) -> int:
    return int(ledger.reader.calls().calls.sum())


def test_a_batch_that_comes_again_is_not_counted_again(ledger: Ledger) -> None:
    """A sidecar whose acknowledgement was lost sends it again."""
    assert push(ledger, (1, 2, RUN), (2, 3, RUN)) == [True, True]
    assert push(ledger, (2, 3, RUN), (3, 1, RUN)) == [False, True]
    assert push(ledger, (1, 2, RUN)) == [False]
    assert calls(ledger) == 6
    counters = ledger.counters()
    assert (counters["stored.records"], counters["known.records"]) == (6, 5)


def test_gaps_are_batches_that_were_dropped(ledger: Ledger) -> None:
    """A full spool must not stop all that comes after it."""
    assert push(ledger, (1, 1, RUN), (7, 1, RUN)) == [True, True]
    assert push(ledger, (5, 1, RUN)) == [False]


def test_runs_are_counted_apart(ledger: Ledger) -> None:
    """A sidecar that starts anew counts from 1."""
    assert push(ledger, (1, 1, RUN), (1, 1, OTHER)) == [True, True]
    assert calls(ledger) == 2


def test_a_batch_that_cannot_be_stored_is_not_marked_as_counted(ledger: Ledger) -> None:
    """Sum and mark stand and fall together."""
    intake = Intake(ledger)
    wrong = intake.reduce(batch([{}]), RUN, 1)
    wrong.delta.decisions.append({"decision": b"x", "row": None})
    with pytest.raises(Exception, match=r"(?i)null|bind|required"):
        intake.keep([wrong], NOW_US).result()
    assert calls(ledger) == 0
    assert push(ledger, (1, 1, RUN)) == [True]
    assert calls(ledger) == 1


def test_sampled_calls_of_a_sidecar_become_review_tasks(ledger: Ledger) -> None:
    """What people are to look at comes the same way."""
    intake = Intake(ledger)
    intake.keep([intake.reduce(sampled(3, rows=2), RUN, 1)], NOW_US).result()
    assert [stats.open_tasks for stats in ledger.review_stats()] == [2]


def test_review_tasks_of_sidecars_have_their_routes_priority_and_deadline(ledger: Ledger) -> None:
    """As those of a single gateway."""
    ledger.set_review_rules(ReviewRules(routes={"spam": TaskRule(priority=2, deadline_us=3_600_000_000)}))
    intake = Intake(ledger)
    intake.keep([intake.reduce(sampled(3), RUN, 1)], NOW_US).result()
    lease = ledger.lease("moderation", "ann", 300).result()
    assert isinstance(lease, Lease)
    assert (lease.priority, lease.due_us) == (2, NOW_US + 3_600_000_000)


def test_two_controls_that_get_the_same_batches_count_each_once(url: str) -> None:
    """A sidecar that gave one control up sends to the next while the first still commits."""
    controls = [Ledger(url, Limits(linger_s=0.01)) for _ in range(2)]
    for control in controls:
        control.open()
    fresh: list[bool] = []

    def push_all(control: Ledger) -> None:
        for sequence in range(1, 21):
            while True:
                try:
                    fresh.extend(push(control, (sequence, 5, RUN), (sequence, 5, OTHER)))
                    break
                except LedgerUnavailable:  # SQLite's lock was held too long
                    continue

    threads = [threading.Thread(target=push_all, args=(control,)) for control in controls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(fresh) == 40
    assert calls(controls[0]) == 200
    for control in controls:
        control.close()


def test_a_policy_that_was_made_for_another_one_is_refused(ledger: Ledger) -> None:
    """Of two operators that decide at once the second must see what the first did."""
    assert ledger.keep_policy({"a": 1}, author="x", reason="y") == 1
    assert ledger.keep_policy({"a": 2}, author="x", reason="y", onto=1) == 2
    with pytest.raises(PolicyConflict, match="policy 2 is in force, not 1"):
        ledger.keep_policy({"a": 3}, author="x", reason="y", onto=1)
    assert ledger.latest_policy() == 2


def test_what_a_policy_was_made_of_is_kept_with_it(ledger: Ledger) -> None:
    """A control that starts later must run the same settings."""
    ledger.keep_policy({"a": 1}, author="serve", reason="start", source={"settings": "x: 1"})
    ledger.keep_policy({"a": 2}, author="anna", reason="better", source={"settings": "x: 2"})
    assert ledger.keep_policy({"a": 2}, author="bob", reason="same", source={"settings": "x: 2"}) == 2
    found = ledger.find_policy()
    assert found is not None
    assert (found.version, found.source, found.author) == (2, {"settings": "x: 2"}, "anna")
    of_file = ledger.find_policy(author="serve")
    assert of_file is not None
    assert (of_file.version, of_file.document) == (1, {"a": 1})
    assert [kept.version for kept in ledger.policy_history(10)] == [2, 1]
    assert ledger.find_policy(9) is None


def test_a_list_of_policies_does_not_read_what_they_say(ledger: Ledger) -> None:
    """A thousand documents and settings would be a gigabyte, for who did what and when."""
    large = "x" * 1000
    ledger.keep_policy({"a": large}, author="anna", reason="first")  # of an older gateway: made of nothing
    ledger.keep_policy({"a": 2}, author="bob", reason="next", source={"settings": large})
    stops = {"settings": large, "stopped": ["spam", 'o"dd']}
    ledger.keep_policy({"a": 3}, author="bob", reason="stop", source=stops)
    found = ledger.policy_history(10)
    assert [(one.version, one.author, one.reason, one.stopped) for one in found] == [
        (3, "bob", "stop", ("spam", 'o"dd')),
        (2, "bob", "next", ()),
        (1, "anna", "first", ()),
    ]
    assert large not in repr(found)


def test_versions_are_given_out_once_however_many_publish(url: str) -> None:
    """Two controls that publish at once must not both have made version 7."""
    controls = [Ledger(url, Limits(linger_s=0.01)) for _ in range(2)]
    for control in controls:
        control.open()
    versions: list[int] = []

    def publish(which: int) -> None:
        documents = [{f"{which}": number} for number in range(10)]
        versions.extend(controls[which].keep_policy(one, author="x", reason="y") for one in documents)

    threads = [threading.Thread(target=publish, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 21))
    for control in controls:
        control.close()


def test_the_trail_has_every_policy(ledger: Ledger) -> None:
    """Who changed what is the first question after a bad night."""
    ledger.keep_policy({"a": 1}, author="anna", reason="better")
    with ledger.reader.snapshot(
        lambda connection: connection.execute(sa.text("SELECT actor FROM audit"))
    ) as rows:
        assert [row.actor for row in rows] == ["anna"]
