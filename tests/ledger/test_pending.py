"""What waits for its decision's record, on both databases: judged once, whoever looks, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gateway.ledger import Kept, Ledger, Limits, PendingRow, RouteClasses, Truth, pending
from gateway.ledger.label_rows import said_rows
from tests.ledger.making import CLASSES, NOW_US, Clock, decision, sampled

LATER_US = NOW_US + 600_000_000


def classes(route: str) -> RouteClasses | None:
    return CLASSES if route == "spam" else None


def row(number: int, label: str = "spam", **changes: object) -> PendingRow:
    made = PendingRow(decision(number), 0, "crm", Truth(label=label), NOW_US, LATER_US)
    return replace(made, **changes)  # type: ignore[arg-type]


def hold(ledger: Ledger, *rows: PendingRow) -> list[Kept]:
    return ledger.submit_feedback([], rows).result()[1]


def test_it_is_judged_when_its_record_has_come(ledger: Ledger) -> None:
    """Only what has one; the rest waits on."""
    assert hold(ledger, row(1), row(2), row(3, "spma")) == [Kept.PENDING] * 3
    for number in (1, 3):
        ledger.write_batch(sampled(number))
    assert ledger.flush()
    done = ledger.resolve_pending(classes).result()
    assert (done.kept, done.left) == ({Kept.ACCEPTED: 1}, 1)
    assert {reason: count for reason, count in done.dropped.items() if count} == {"pending_unknown_label": 1}
    [kept] = said_rows(ledger.reader)
    assert (kept.decision, kept.label, kept.positive, kept.received_us) == (decision(1), "spam", True, NOW_US)


def test_the_time_of_what_gets_no_record_runs_out(ledger: Ledger, clock: Clock) -> None:
    """And what has one is not given up, however late it is looked at."""
    hold(ledger, row(1), row(2))
    ledger.write_batch(sampled(2))
    assert ledger.flush()
    clock.pass_s(600)
    done = ledger.resolve_pending(classes).result()
    assert (done.kept, done.dropped["pending_expired"], done.left) == ({Kept.ACCEPTED: 1}, 1, 0)


def test_a_label_of_a_route_that_is_not_known_here_waits_until_it_is(ledger: Ledger) -> None:
    """It was acknowledged; a control that just started has no policy yet, and the next one brings the route."""
    hold(ledger, row(1))
    ledger.write_batch(sampled(1))
    assert ledger.flush()
    done = ledger.resolve_pending(lambda _route: None).result()
    assert (done.kept.total(), done.dropped.total(), done.left) == (0, 0, 1)
    done = ledger.resolve_pending(classes).result()
    assert (done.kept, done.left) == ({Kept.ACCEPTED: 1}, 0)


def test_a_label_of_a_route_that_stays_unknown_runs_out(ledger: Ledger, clock: Clock) -> None:
    """What waits is bounded by time, and its end is told by its own reason."""
    hold(ledger, row(1))
    ledger.write_batch(sampled(1))
    assert ledger.flush()
    clock.pass_s(600)
    done = ledger.resolve_pending(lambda _route: None).result()
    assert (done.dropped["pending_unknown_route"], done.dropped["pending_expired"], done.left) == (1, 0, 0)


def test_what_waits_for_its_route_does_not_hold_up_the_rest(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are of them, and though they came first."""
    monkeypatch.setattr(pending, "AT_ONCE", 2)
    hold(
        ledger,
        *[row(number) for number in range(1, 6)],
        *[row(number, truth=Truth(positive=True)) for number in (7, 8, 9)],
    )
    for number in range(1, 10):
        ledger.write_batch(sampled(number))
    assert ledger.flush()
    looks = [ledger.resolve_pending(lambda _route: None).result() for _ in range(2)]
    assert [(done.kept[Kept.ACCEPTED], done.left) for done in looks] == [(2, 6), (1, 5)]


def test_the_last_one_of_a_key_waits(ledger: Ledger) -> None:
    """A change of mind takes the place of what waits, unless it is known to have happened before it."""
    assert hold(ledger, row(1, "spam", event_us=NOW_US + 2), row(1, "ham", event_us=NOW_US + 1)) == [
        Kept.PENDING,
        Kept.SUPERSEDED,
    ]
    assert hold(ledger, row(1, "ham", event_us=NOW_US + 3)) == [Kept.PENDING]
    ledger.write_batch(sampled(1))
    assert ledger.flush()
    ledger.resolve_pending(classes).result()
    assert [one.label for one in said_rows(ledger.reader)] == ["ham"]


def test_more_than_may_wait_is_told(url: str) -> None:
    """Those that wait already can still be changed."""
    ledger = Ledger(url, Limits(pending_labels=2), Clock())
    ledger.open()
    try:
        assert hold(ledger, row(1), row(2), row(3), row(1, "ham")) == [
            Kept.PENDING,
            Kept.PENDING,
            Kept.FULL,
            Kept.PENDING,
        ]
    finally:
        ledger.close()


@pytest.fixture
def second(url: str, ledger: Ledger) -> Iterator[Ledger]:
    """Another gateway on the same database; it takes what the first has made."""
    opened = Ledger(url, Limits(linger_s=0.01), Clock())
    opened.open()
    yield opened
    opened.close()


def test_of_several_that_look_one_judges(ledger: Ledger, second: Ledger) -> None:
    """Each statement is kept once and counted once, whichever of two controls comes first."""
    hold(ledger, *[row(number) for number in range(100)])
    for number in range(100):
        ledger.write_batch(sampled(number))
    assert ledger.flush()
    with ThreadPoolExecutor(4) as threads:
        looks = [
            threads.submit(lambda one=one: one.resolve_pending(classes).result())  # type: ignore[misc]
            for one in (ledger, second) * 3
        ]
        done = [look.result() for look in looks]
    assert sum(one.kept[Kept.ACCEPTED] for one in done) == 100
    assert sum(one.kept.total() for one in done) == 100
    assert [one.revision for one in _revisions(ledger)] == [1] * 100


def _revisions(ledger: Ledger) -> list[object]:
    import sqlalchemy as sa

    from gateway.ledger import schema

    query = sa.select(schema.labels.c.revision)
    return list(ledger.reader.snapshot(lambda connection: connection.execute(query).all()))
