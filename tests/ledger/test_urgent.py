"""Tasks that a caller waits for: first in line, gone when nobody waits, and in no sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gateway.errors import NotFound
from gateway.ledger import Kept, Lease, Ledger, NothingForYou, Urgent, Window, schema, truth_of
from gateway.ledger.quality import route_quality
from gateway.types import Outcome
from tests.ledger.making import CLASSES, NOW_US, Clock, batch, decision, sampled

WAIT_US = 20_000_000
ASKED = Urgent(
    decision=decision(1),
    rows=(0,),
    queue="moderation",
    route="spam",
    backend="moderators",
    segment="",
    unit=5,
    policy=7,
    time_us=NOW_US,
    until_us=NOW_US + WAIT_US,
    request=b"an email",
)


def asked(ledger: Ledger, number: int = 1, **changes: Any) -> list[int]:
    return ledger.ask_people(replace(ASKED, decision=decision(number), **changes)).result()


def leased(ledger: Ledger, reviewer: str = "ann") -> Lease:
    lease = ledger.lease("moderation", reviewer, 300).result()
    assert isinstance(lease, Lease)
    return lease


def submit(ledger: Ledger, lease: Lease, label: str = "spam", reviewer: str = "ann") -> Kept:
    truth = truth_of("spam", CLASSES, label=label)
    return ledger.submit_review(lease.task, lease.token, reviewer, lambda route: truth).result()


def rows_of(ledger: Ledger, table: sa.Table) -> int:
    count = sa.select(sa.func.count()).select_from(table)
    return int(ledger.reader.snapshot(lambda connection: connection.execute(count).scalar_one()))


def test_what_a_caller_waits_for_goes_before_the_sample_and_the_soonest_first(ledger: Ledger) -> None:
    """The queue may be long; a caller has seconds."""
    ledger.write_batch(sampled(9))
    assert ledger.flush()
    asked(ledger, 1)
    asked(ledger, 2, until_us=NOW_US + WAIT_US - 1)
    order = [leased(ledger) for _ in range(3)]
    assert [lease.decision for lease in order] == [decision(2), decision(1), decision(9)]
    assert [lease.answer_by_us for lease in order] == [NOW_US + WAIT_US - 1, NOW_US + WAIT_US, None]
    assert (order[1].request, order[1].answer, order[1].label) == (b"an email", b"", None)


def test_a_task_nobody_has_begun_goes_with_its_payload_when_nobody_waits(ledger: Ledger) -> None:
    """It was kept for an answer that would reach nobody, and must not fill the queue of the sample."""
    asked(ledger, 1, rows=(0, 1, 2))
    asked(ledger, 2)
    ledger.expire_urgent([decision(1)]).result()
    assert leased(ledger).decision == decision(2)
    assert [rows_of(ledger, table) for table in (schema.review_tasks, schema.captures, schema.decisions)] == [
        1,
        1,
        1,
    ]


def test_a_task_whose_time_is_up_is_leased_to_nobody(ledger: Ledger, clock: Clock) -> None:
    """Also when the gateway that made it is no more: the time stands in the task itself."""
    asked(ledger)
    clock.pass_s(21)
    assert ledger.lease("moderation", "ann", 300).result() == NothingForYou(0, None)
    [stats] = ledger.review_stats()
    assert (stats.open_tasks, stats.oldest_us) == (0, None)
    ledger.expire_urgent().result()
    assert rows_of(ledger, schema.review_tasks) == rows_of(ledger, schema.captures) == 0


def test_a_task_somebody_has_begun_may_be_finished_late_and_its_label_is_kept(
    ledger: Ledger, clock: Clock
) -> None:
    """Work that was done is not thrown away; after an hour it is not coming."""
    asked(ledger, 1)
    asked(ledger, 2)
    late, never = leased(ledger), leased(ledger)
    clock.pass_s(21)
    ledger.expire_urgent([decision(1), decision(2)]).result()
    assert submit(ledger, late) is Kept.ACCEPTED
    clock.pass_s(3601)
    ledger.expire_urgent().result()
    assert rows_of(ledger, schema.review_tasks) == 1
    with pytest.raises(NotFound):
        submit(ledger, never)


def test_a_call_that_went_on_and_was_sampled_is_an_ordinary_task_of_the_sample(ledger: Ledger) -> None:
    """Whether people were asked in vain before must not thin the sample out, nor change what is known of the row."""
    asked(ledger, 1)
    begun = leased(ledger)
    ledger.expire_urgent([decision(1)]).result()
    ledger.write_batch(sampled(1))
    assert ledger.flush()
    assert submit(ledger, begun) is Kept.ACCEPTED
    labelled = ledger.reader.labelled(source="review")
    assert (labelled.pi.tolist(), labelled.outcome.tolist()) == ([0.25], [int(Outcome.MODEL)])


def test_expiring_does_not_touch_what_the_sample_has_taken_over(ledger: Ledger) -> None:
    """Records may be stored before the desk hears that nobody waits."""
    asked(ledger, 1)
    ledger.write_batch(sampled(1))
    assert ledger.flush()
    ledger.expire_urgent([decision(1)]).result()
    assert leased(ledger).answer_by_us is None


def test_what_people_answer_is_a_label_and_changes_no_precision_and_no_recall(ledger: Ledger) -> None:
    """There is no model's prediction that they could be right or wrong about: a thousand answers that agree with
    themselves would lift every number."""
    for number in range(1, 5):
        ledger.write_batch(sampled(number))
    assert ledger.flush()
    for label in ("spam", "ham", "spam", "ham"):
        submit(ledger, leased(ledger), label)
    before = route_quality(ledger.reader, "spam")
    for number in range(100, 140):
        asked(ledger, number)
        submit(ledger, leased(ledger), "spam")
    human = {"outcome": int(Outcome.HUMAN), "flagged": 1, "label": 1, "backend": 2, "segment": 0}
    ledger.write_batch(
        batch([{**human, "id_lo": number} for number in range(100, 140)], strings=["", "spam"])
    )
    assert ledger.flush()
    after = route_quality(ledger.reader, "spam")
    assert after.numbers == before.numbers
    assert after.review == before.review
    labelled = ledger.reader.labelled(Window(route="spam"), source="review")
    assert np.count_nonzero(labelled.outcome == int(Outcome.HUMAN)) == 40
