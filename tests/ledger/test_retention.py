"""Retention: what is old goes, what is needed stays, a little at a time, and the trail says how much."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import (
    Kept,
    Ledger,
    Limits,
    QueueRule,
    ReviewRules,
    Truth,
    Window,
    audit,
    label_tools,
    retention,
    rolling,
    schema,
    size,
)
from gateway.ledger.retention import TOOL_LINGER_US, Keep
from tests.ledger.making import HOUR_US, NOW_US, Clock, batch, decision, label, sampled

DAY_US = 24 * HOUR_US
WAIT_S = 20.0


def write(ledger: Ledger, *batches: Any) -> None:
    for one in batches:
        ledger.write_batch(one)
    assert ledger.flush(WAIT_S)


def count(ledger: Ledger, table: sa.Table) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    return ledger.reader.snapshot(lambda connection: connection.execute(query).scalar_one())


def answer(ledger: Ledger, queue: str = "moderation") -> None:
    lease = ledger.lease(queue, "ann", 60).result()
    done = ledger.submit_review(lease.task, lease.token, "ann", lambda _: Truth("spam", True)).result()  # type: ignore[union-attr]
    assert done is Kept.ACCEPTED


def test_old_payloads_go_and_those_of_open_tasks_stay(ledger: Ledger, clock: Clock) -> None:
    """A reviewer must see what a task is about, however late they are; the decision is kept for longer."""
    write(ledger, sampled(1), sampled(2))
    answer(ledger)
    clock.pass_s(10 * 24 * 3600)
    done = ledger.tidy(Keep(captures_us=9 * DAY_US, decisions_us=30 * DAY_US))
    assert done.deleted == {"captures.age": 1}
    assert (count(ledger, schema.captures), count(ledger, schema.decisions)) == (1, 2)
    answer(ledger)
    assert ledger.tidy(Keep(captures_us=9 * DAY_US)).deleted == {"captures.age": 1}


def test_a_label_outlives_its_decision(ledger: Ledger, clock: Clock) -> None:
    """It carries the facts that it is counted by; the task and what was noted of it go with the decision."""
    write(ledger, sampled(1), sampled(2))
    answer(ledger)
    clock.pass_s(10 * 24 * 3600)
    assert ledger.tidy(Keep(decisions_us=9 * DAY_US)).deleted == {"decisions.age": 1}
    assert (count(ledger, schema.captures), count(ledger, schema.review_tasks)) == (1, 1)
    assert ledger.reader.labelled().positive.tolist() == [True]


def test_retired_gold_goes_with_what_was_said_of_it(ledger: Ledger, clock: Clock) -> None:
    """Every reviewer leaves a task for each of them: what nobody is measured by any more must not stay for ever."""
    write(ledger, sampled(1), sampled(2), sampled(3))
    for number in (1, 2):
        answer(ledger)
        assert ledger.make_gold(decision(number), 0, None, "lea").result()
    ledger.set_review_rules(ReviewRules({"moderation": QueueRule(gold_share=1.0)}))
    for _ in range(2):
        lease = ledger.lease("moderation", "bob", 60).result()
        ledger.submit_review(lease.task, lease.token, "bob", lambda _: Truth("spam", True)).result()  # type: ignore[union-attr]
    old, in_use = ledger.gold()
    ledger.retire_gold(old.id, "lea").result()
    clock.pass_s(10 * 24 * 3600)
    deleted = ledger.tidy(Keep(decisions_us=9 * DAY_US)).deleted
    assert deleted["gold.age"] == 1
    assert [one.id for one in ledger.gold()] == [in_use.id]
    query = sa.select(schema.review_tasks.c.gold).where(schema.review_tasks.c.gold.is_not(None))
    assert ledger.reader.snapshot(lambda c: list(c.execute(query).scalars())) == [in_use.id]


def test_old_labels_leave_their_cells(ledger: Ledger, clock: Clock) -> None:
    """What a report adds up is at all times what is there; corrections go with what they correct."""
    old, new = NOW_US - 50 * DAY_US, NOW_US
    ledger.submit_labels([label(1, True, time_us=old), label(1, row=1, time_us=old)]).result()
    ledger.submit_labels([label(1, False, time_us=old), label(2, True, time_us=new)]).result()
    ledger.tidy(Keep())
    assert count(ledger, rolling.rolled_of[schema.tally_labels]) > 0, "days are rolled before they are old"
    assert ledger.tidy(Keep(labels_us=49 * DAY_US)).deleted == {"labels.age": 3}
    found = ledger.reader.summed(schema.tally_labels, Window(), ("positive",))
    assert [tuple(row) for row in found if row[1]] == [(1, 1)]
    ledger.tidy(Keep(labels_us=49 * DAY_US))
    assert count(ledger, schema.tally_labels) == 1, "empty cells go too"
    assert count(ledger, rolling.rolled_of[schema.tally_labels]) == 0


def test_old_tallies_go_by_days_and_what_is_left_adds_up(ledger: Ledger, clock: Clock) -> None:
    """Also where a span of 768 hours is cut through: its days are read one by one then."""
    hours = [NOW_US - back * HOUR_US for back in range(0, 2_000, 7)]
    write(ledger, *(batch([{"time_us": at, "score": 0.5, "flagged": 1} for at in hours]) for _ in range(2)))
    ledger.tidy(Keep())
    spans = {
        row[0]
        for row in ledger.reader.snapshot(
            lambda c: c.execute(sa.text("SELECT span FROM rolled_scores")).all()
        )
    }
    assert spans == set(rolling.SPANS)
    done = ledger.tidy(Keep(tallies_us=1_000 * HOUR_US))
    assert done.deleted["tallies.age"] > 100
    cut = (NOW_US - 1_000 * HOUR_US) // DAY_US * DAY_US
    left = [at for at in hours if at >= cut]
    assert sum(ledger.reader.population().rows.tolist()) == 2 * len(left)
    assert sum(ledger.reader.calls().calls.tolist()) == 2 * len(left)
    since = cut + 100 * HOUR_US
    some = ledger.reader.population(Window(since_us=since)).rows.tolist()
    assert sum(some) == 2 * len([at for at in left if at >= since // HOUR_US * HOUR_US])


def test_the_policy_in_force_stays_however_old_it_is(ledger: Ledger, clock: Clock) -> None:
    """Also the one that was in force when the time begins: decisions since then name it."""
    for version in (1, 2, 3):
        ledger.keep_policy({"version of": version}, author="ann", reason="test")
        clock.pass_s(24 * 3600)
    done = ledger.tidy(Keep(policies_us=DAY_US + DAY_US // 2, audit_us=DAY_US + DAY_US // 2))
    assert done.deleted == {"policies.age": 1, "audit.age": 2}
    assert count(ledger, schema.policies) == 2
    clock.pass_s(999 * 24 * 3600)
    ledger.tidy(Keep(policies_us=DAY_US))
    assert count(ledger, schema.policies) == 1


def test_what_was_deleted_is_in_the_trail_and_the_counters(ledger: Ledger, clock: Clock) -> None:
    """Entry and deletion are one transaction; a run that deletes nothing says nothing."""
    write(ledger, sampled(1))
    answer(ledger)
    ledger.tidy(Keep(captures_us=DAY_US))
    clock.pass_s(2 * 24 * 3600)
    ledger.tidy(Keep(captures_us=DAY_US, decisions_us=DAY_US))
    found = [one for one in ledger.reader.snapshot(audit.entries) if one.action == "retention.delete"]
    assert [one.details for one in found] == [{"captures_by_age": 1, "decisions_by_age": 1}]
    assert ledger.counters()["deleted.captures.age"] == 1


def test_a_run_takes_many_steps_and_lets_others_write_between_them(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand old rows must not hold up a reviewer."""
    monkeypatch.setattr(retention, "STEP_ROWS", 10)
    ledger.submit_labels([label(number, time_us=NOW_US - DAY_US) for number in range(95)]).result()
    between = []

    def watch() -> None:
        while not stop.is_set():
            between.append(count(ledger, schema.labels))
            time.sleep(0.01)

    stop = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    done = ledger.tidy(Keep(labels_us=HOUR_US))
    stop.set()
    thread.join()
    assert done.deleted == {"labels.age": 95}
    assert len({left for left in between if 0 < left < 95}) >= 3
    trail = [one for one in ledger.reader.snapshot(audit.entries) if one.action == "retention.delete"]
    assert [one.details["labels_by_age"] for one in trail] == [10] * 9 + [5]


def test_the_oldest_payloads_go_first_when_there_is_too_much(ledger: Ledger, clock: Clock) -> None:
    """Then decisions; labels, tallies and open tasks stay, and it is said by how much that is too much."""
    for number in range(40):
        one = sampled(number)
        one.captures[0]["request"] = bytes(200_000)  # type: ignore[index]
        one.captures[0]["time_us"] = NOW_US + number  # type: ignore[index]
        write(ledger, one)
    for _ in range(39):
        answer(ledger)
    used = ledger.reader.snapshot(size.used_bytes)
    assert used > 8_000_000
    done = ledger.tidy(Keep(max_bytes=4_500_000))
    assert ledger.reader.snapshot(size.used_bytes) <= 4_500_000
    assert set(done.deleted) == {"captures.size"}
    assert done.over_bytes == 0
    oldest = ledger.reader.snapshot(
        lambda connection: connection.execute(sa.select(sa.func.min(schema.captures.c.time_us))).scalar_one()
    )
    assert oldest == NOW_US + done.deleted["captures.size"], "from the oldest on, and no more than needed"
    done = ledger.tidy(Keep(max_bytes=10_000))
    assert (done.deleted["decisions.size"], done.over_bytes > 0) == (39, True)
    assert (count(ledger, schema.captures), count(ledger, schema.decisions)) == (1, 1)
    assert len(ledger.reader.labelled().positive) == 39


def test_an_sqlite_file_grows_no_more_and_shrinks(tmp_path: Path, clock: Clock) -> None:
    """The limit is one of the disk's: pages are used again, and given back when there are many."""
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}", Limits(linger_s=0.01), clock)
    ledger.open()
    keep, most = Keep(max_bytes=3_000_000), 0
    try:
        for turn in range(6):
            for number in range(10):
                one = sampled(turn * 10 + number)
                one.captures[0]["request"] = bytes(100_000)  # type: ignore[index]
                write(ledger, one)
                answer(ledger)
            clock.pass_s(60)
            ledger.tidy(keep)
            size.clear_log(ledger._engine)
            most = max(most, file.stat().st_size)
        assert most <= 3_000_000 + 1_100_000, "what came between two rounds may stand beyond it"
        ledger.tidy(Keep(captures_us=1))
        size.clear_log(ledger._engine)
        assert file.stat().st_size < 1_000_000, "three quarters of it were free"
    finally:
        ledger.close()


def test_two_gateways_do_not_tidy_at_once(postgres_url: str, clock: Clock) -> None:
    """What one has begun the other leaves alone, so nothing is counted twice."""
    ledgers = [Ledger(postgres_url, Limits(linger_s=0.01), clock) for _ in range(2)]
    for one in ledgers:
        one.open()
    try:
        ledgers[0].submit_labels([label(1, time_us=NOW_US - DAY_US)]).result()
        with ledgers[0]._engine.begin() as connection:
            assert retention.step(connection, Keep(labels_us=HOUR_US), NOW_US).deleted == {"labels.age": 1}
            assert ledgers[1].tidy(Keep(labels_us=HOUR_US)).deleted == {}
    finally:
        for one in ledgers:
            one.close()


def test_decisions_of_many_rows_go_whole(ledger: Ledger, clock: Clock) -> None:
    """One open task of a batch keeps all of the call: its payload is one."""
    write(ledger, sampled(1, rows=3), sampled(2, rows=2))
    for _ in range(4):
        answer(ledger)
    clock.pass_s(10 * 24 * 3600)
    assert ledger.tidy(Keep(decisions_us=DAY_US)).deleted == {"decisions.age": 3}
    assert count(ledger, schema.captures) == 1
    assert ledger.find_facts([(decision(2), 0)]) != {}


def test_what_lay_in_a_label_tool_is_forgotten_last(ledger: Ledger, clock: Clock) -> None:
    """While its task is here, or somebody may still look there to delete it, it stays known; then no row is left."""
    write(ledger, sampled(1), sampled(2))
    ledger.submit(
        lambda connection: label_tools.take(connection, "moderation", "tool", "place", 1, HOUR_US, clock())
    ).result()
    answered = {"answer": 5, "version": "1", "author": "ann", "token": 1, "skipped": False}
    [lies] = ledger.reader.snapshot(lambda connection: connection.execute(sa.select(schema.tool_tasks)).all())
    key = {"of_decision": lies.of_decision, "of_row": lies.of_row}
    ledger.submit(
        lambda connection: connection.execute(sa.insert(schema.tool_answers), {**key, **answered})
    ).result()
    keep = Keep(decisions_us=HOUR_US)
    clock.now_us += TOOL_LINGER_US + 2 * HOUR_US
    assert ledger.tidy(keep).deleted == {}, "its task is open"
    ledger.submit(
        lambda connection: connection.execute(sa.update(schema.review_tasks).values(done_us=clock()))
    ).result()
    clock.now_us -= 2 * HOUR_US
    assert set(ledger.tidy(keep).deleted) == {"decisions.age"}
    assert (count(ledger, schema.tool_tasks), count(ledger, schema.tool_answers)) == (1, 1)
    clock.now_us += 2 * HOUR_US
    assert ledger.tidy(keep).deleted == {"tool_tasks.age": 1}
    assert (count(ledger, schema.tool_tasks), count(ledger, schema.tool_answers)) == (0, 0)
