"""Forgetting a unit: all that can be found of it is gone, from the file too, and nothing of anybody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import REVIEW, Ledger, PendingRow, Truth, Window, audit, schema
from gateway.ledger.review.events import mark
from tests.ledger.making import NOW_US, Clock, batch, decision, label, sampled
from tests.ledger.reviewers import fill, labels, lease, review, rule

UNIT, OTHER = 77, -5
WAIT_S = 20.0


def of_unit(number: int, unit: int, rows: int = 1) -> Any:
    one = sampled(number, rows)
    one.records["unit"][:] = unit % 2**64
    one.captures[0]["request"] = b"the words of unit %d" % unit  # type: ignore[index]
    return one


def filled(ledger: Ledger) -> None:
    """Two calls of the unit (one of two rows, one answered) and one of another; feedback on each."""
    for one in (of_unit(1, UNIT, rows=2), of_unit(2, UNIT), of_unit(3, OTHER)):
        ledger.write_batch(one)
    assert ledger.flush(WAIT_S)
    lease = ledger.lease("moderation", "ann", 60).result()
    ledger.submit_review(lease.task, lease.token, "ann", lambda _: Truth("spam", True)).result()  # type: ignore[union-attr]
    ledger.submit_labels([label(1, True), label(2, True), label(3, True), label(4, True)]).result()
    ledger.submit_labels([label(2, False)]).result()


def left(ledger: Ledger) -> dict[str, int]:
    def read(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: found
            for table in schema.metadata.sorted_tables
            if "decision" in table.c
            and (
                found := connection.execute(
                    sa.select(sa.func.count()).select_from(table).where(table.c.decision != decision(4))
                ).scalar_one()
            )
        }

    return ledger.reader.snapshot(read)


def test_all_of_a_unit_goes_and_all_of_others_stays(ledger: Ledger) -> None:
    """Decisions, payloads, tasks and labels with their corrections; the other unit has one of each."""
    filled(ledger)
    done = ledger.forget(UNIT, "u-77", actor="dpo")
    assert (done.decisions, done.captures, done.open_tasks, done.closed_tasks) == (3, 2, 2, 1)
    assert (done.labels, done.authored) == (4, 0)
    assert left(ledger) == {"captures": 1, "decisions": 1, "labels": 1, "review_tasks": 1}
    assert ledger.forget(UNIT, "u-77", actor="dpo").decisions == 0


def test_the_tally_of_labels_forgets_too(ledger: Ledger) -> None:
    """A report counts what is there, by whichever way it is read."""
    filled(ledger)
    ledger.forget(UNIT, "u-77", actor="dpo")
    rows = ledger.reader.summed(schema.tally_labels, Window(), ("source", "positive"))
    assert [tuple(row) for row in rows if row[2]] == [("app", 1, 2)], "one of another unit, one of nobody's"
    assert len(ledger.reader.labelled(source=REVIEW).positive) == 0


def test_it_is_audited_without_saying_who(ledger: Ledger) -> None:
    """The trail outlives what was deleted, so neither the unit nor its hash may stand in it."""
    filled(ledger)
    ledger.forget(UNIT, "u-77", actor="dpo")
    [entry] = [one for one in ledger.reader.snapshot(audit.entries) if one.action == "unit.forget"]
    assert (entry.actor, entry.subject) == ("dpo", "a unit")
    assert entry.details["decisions"] == 3
    assert "77" not in str(entry.details)


def test_an_authors_name_goes_and_their_label_stays(ledger: Ledger) -> None:
    """What somebody said about another's prediction is still true."""
    from dataclasses import replace

    ledger.submit_labels([replace(label(9), author="u-77"), replace(label(8), author="ann")]).result()
    assert ledger.forget(UNIT, "u-77", actor="dpo").authored == 1
    authors = ledger.reader.snapshot(
        lambda connection: connection.execute(sa.select(schema.labels.c.author)).scalars().all()
    )
    assert sorted(authors) == ["", "ann"]


def test_a_reviewers_name_goes_from_everywhere_and_their_answers_stay(ledger: Ledger) -> None:
    """Answers, leases, gold, label tools and what waits: a name that stays in one table is not forgotten."""
    name = "ann@example.org"
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2, 3)
    review(ledger, name, True)
    lease(ledger, name)
    assert ledger.make_gold(decision(1), 0, Truth("spam", True), name).result()
    waits = PendingRow(decision(9), 0, "crm", Truth(label="spam"), NOW_US, NOW_US + 600_000_000, author=name)
    ledger.submit_feedback([], [waits]).result()
    taken = {
        "of_decision": decision(2),
        "of_row": 0,
        "answer": 5,
        "version": "1",
        "author": name,
        "skipped": False,
    }
    ledger.submit(
        lambda connection: connection.execute(sa.insert(schema.tool_answers), taken).rowcount
    ).result()
    assert named(ledger, name) == {
        "pending_labels.author",
        "review_events.reviewer",
        "review_gold.author",
        "review_tasks.reviewer",
        "review_tasks.seen",
        "tool_answers.author",
    }
    assert (
        ledger.forget(UNIT, name, actor="dpo").renamed == 7
    )  # shown twice, answered, leased, and one of each
    assert named(ledger, name) == set()
    assert ledger.forget(UNIT, "", actor="dpo").renamed == 0
    assert ledger.forget(UNIT, name, actor="dpo").renamed == 0
    review(ledger, "bob", True)
    assert labels(ledger) == [True], "the forgotten answer is still the first of two"


def named(ledger: Ledger, name: str) -> set[str]:
    """Every column of text that has a name in it, or the mark that stands for it, but the audit trail's."""

    def read(connection: sa.Connection) -> set[str]:
        return {
            f"{table.name}.{column.name}"
            for table in schema.metadata.sorted_tables
            if table is not schema.audit
            for column in table.c
            if isinstance(column.type, sa.Text)
            for (value,) in connection.execute(sa.select(column))
            if value and (name in value or mark(name) in value)
        }

    return ledger.reader.snapshot(read)


def test_what_was_deleted_cannot_be_read_in_the_file(
    sqlite_ledger: Ledger, tmp_path: Path, clock: Clock
) -> None:
    """SQLite only unlinks a page by default; a right to be forgotten is one to be overwritten."""
    filled(sqlite_ledger)
    for number in range(10, 14):
        one = of_unit(number, UNIT)
        one.captures[0]["request"] = b"the words of unit 77" * 1_000  # type: ignore[index]
        sqlite_ledger.write_batch(one)
    assert sqlite_ledger.flush(WAIT_S)
    sqlite_ledger.forget(UNIT, "u-77", actor="dpo")
    held = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
    assert b"the words of unit -5" in held
    assert b"the words of unit 77" not in held


def test_nothing_goes_where_the_trail_cannot_be_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: deleted and said, or neither."""
    filled(ledger)
    before = left(ledger)

    def fail(*_: Any, **__: Any) -> None:
        raise OverflowError("no room in the trail")

    monkeypatch.setattr(audit, "note", fail)
    with pytest.raises(OverflowError):
        ledger.forget(UNIT, "u-77", actor="dpo")
    assert left(ledger) == before


def test_calls_that_were_not_sampled_leave_no_unit(ledger: Ledger) -> None:
    """What is said in words at the end: nothing leads back from a tally."""
    ledger.write_batch(batch([{"id_lo": 5, "unit": UNIT, "score": 0.2, "flagged": 0}]))
    assert ledger.flush(WAIT_S)
    assert ledger.forget(UNIT, "u-77", actor="dpo").decisions == 0
    assert ledger.reader.population().rows.tolist() == [1]
