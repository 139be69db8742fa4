"""Holds a ledger to what its users were told: nothing that was acknowledged is missing, nothing is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.ledger import Reader, schema
from gateway.v1 import feedback_pb2
from tests.faults.people import LABELS, Caller, Client, Reviewer

__all__ = ["Account", "hold_to_account"]


@dataclass
class Account:
    """What there was, once all of it was found as it should be."""

    labels: int
    again: int
    tasks: int
    answers: int
    calls: int
    records: int

    def __str__(self) -> str:
        return (
            f"{self.labels} labels acknowledged ({self.again} had been kept before they were), lost 0, doubled 0; "
            f"{self.tasks} review tasks, {self.answers} answers acknowledged, lost 0, doubled 0; "
            f"{self.calls} calls answered, {self.records} records, of the others a killed process had the memory"
        )


def hold_to_account(
    url: str,
    clients: Sequence[Client],
    reviewers: Sequence[Reviewer],
    callers: Sequence[Caller],
    setup_calls: int,
) -> Account:
    """Compare. Everybody has stopped, and every task is done.

    Args: setup_calls: those of the bucket `setup`.
    Raises: AssertionError.
    """
    reader = Reader.open(url)
    try:
        labels = hold_labels(reader, clients)
        tasks, answers = hold_tasks(reader, reviewers, callers)
        records = hold_records(reader, callers, setup_calls)
    finally:
        reader.close()
    return Account(
        labels,
        sum(client.kinds[feedback_pb2.FeedbackResult.DUPLICATE] for client in clients),
        tasks,
        answers,
        sum(caller.answered.total() for caller in callers) + setup_calls,
        records,
    )


def hold_labels(reader: Reader, clients: Sequence[Client]) -> int:
    """Every statement of every client once, in its order; returns how many."""
    label = schema.labels
    names = ("decision", "row", "source", "revision", "label")
    query = sa.select(*(label.c[name] for name in names)).where(label.c.source != "review")
    rows = reader.snapshot(lambda connection: connection.execute(query.order_by(label.c.id)).all())
    there: dict[tuple[str, int, str], list[tuple[int, str]]] = {}
    for decision, row, source, revision, text in rows:
        there.setdefault((bytes(decision).hex(), row, source), []).append((revision, text))
    wanted = {
        (decision.replace("-", ""), row, client.name): said
        for client in clients
        for (decision, row), said in client.said.items()
        if said
    }
    counted = {key: len(found) for key, found in there.items()}
    lost = {key: said - counted.get(key, 0) for key, said in wanted.items() if counted.get(key, 0) < said}
    assert lost == {}, f"acknowledged labels that are not there: {lost}"
    more = {key: count - wanted.get(key, 0) for key, count in counted.items() if count > wanted.get(key, 0)}
    assert more == {}, f"labels that are there more often than they were said: {more}"
    for key, found in there.items():
        assert found == [(at + 1, LABELS[at % 2]) for at in range(len(found))], f"not as said: {key}: {found}"
    return len(rows)


def hold_tasks(reader: Reader, reviewers: Sequence[Reviewer], callers: Sequence[Caller]) -> tuple[int, int]:
    """Every reviewed call is a task, and every task has the one answer that was acknowledged; returns how many."""
    event, task, label = schema.review_events, schema.review_tasks, schema.labels
    made = reader.snapshot(
        lambda connection: connection.execute(sa.select(task.c.decision, task.c.row, task.c.done_us)).all()
    )
    tasks = Counter((bytes(row.decision).hex(), row.row) for row in made)
    assert set(tasks.values()) <= {1}, "a task is there twice"
    assert all(row.done_us is not None for row in made), "a task was never done"
    safe: set[str] = set().union(*(caller.decisions - caller.decisions_at_risk for caller in callers))
    lost = safe - {decision for decision, _ in tasks}
    assert not lost, f"reviewed calls without a task: {lost}"
    known = set().union(*(caller.decisions for caller in callers))
    strange = {decision for decision, _ in tasks} - known
    broken = sum(caller.broken_calls.total() for caller in callers)
    assert len(strange) <= broken, f"{len(strange)} tasks of calls that nobody made"

    said = (
        sa.select(task.c.decision, task.c.row, event.c.reviewer, event.c.label)
        .join(task, task.c.id == event.c.task)
        .where(event.c.kind.in_(("answer", "decide")))
    )
    answers = reader.snapshot(lambda connection: connection.execute(said).all())
    on_disk = Counter((bytes(row[0]).hex(), row[1], row[2], row[3]) for row in answers)
    told = Counter(one for reviewer in reviewers for one in reviewer.acknowledged)
    assert set(told.values()) <= {1}, "somebody was told twice of one answer"
    assert told - on_disk == Counter(), "acknowledged answers that are not there"
    assert on_disk - told == Counter(), "answers that nobody was told of, or that are there twice"
    assert Counter((decision, row) for decision, row, _, _ in on_disk) == tasks, "each task was answered once"

    kept = sa.select(label.c.decision, label.c.row).where(label.c.source == "review")
    counted = reader.snapshot(lambda connection: connection.execute(kept).all())
    assert Counter((bytes(row[0]).hex(), row[1]) for row in counted) == tasks, "each task made one label"
    return len(made), on_disk.total()


def hold_records(reader: Reader, callers: Sequence[Caller], setup_calls: int) -> int:
    """By route and bucket, as many records as calls: no fewer, but for what a killed process had in memory; no more,
    but for calls that broke. Returns how many there are.
    """
    found: Counter[tuple[str, str]] = Counter()
    calls = reader.calls()
    for route, segment, count in zip(calls.route, calls.segment, calls.calls, strict=True):
        found[str(route), str(segment).removeprefix("bucket=")] += int(count)
    total = found.total()
    assert sum(found.pop(key) for key in list(found) if key[1] == "setup") == setup_calls
    for caller in callers:
        for key in caller.answered | caller.broken_calls:
            least = caller.answered[key] - caller.at_risk[key]
            most = caller.answered[key] + caller.broken_calls[key]
            assert least <= found[key] <= most, f"{key}: {found[key]} records, wanted {least} to {most}"
            del found[key]
    assert found == Counter(), "records of calls that nobody made"
    return total
