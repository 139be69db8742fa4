"""What a shadow contradicts is told after its record: it moves in the tallies, and is put before people once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.ledger import Ledger
from gateway.ledger.shadows import shadow_reports
from tests.ledger.making import NOW_US, batch, decision

WAIT_S = 20.0


def write(ledger: Ledger, *batches: Any) -> None:
    for one in batches:
        ledger.write_batch(one)
    assert ledger.flush(WAIT_S)


def record(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id_lo": number,
        "score": 0.1,
        "flagged": 0,
        "stratum": 0,
        "review_pi": 0.125,
        "label": 0,
    } | changes


def cells(ledger: Ledger) -> dict[tuple[int, float], int]:
    found = ledger.reader.population()
    return {
        (flagged, pi): rows
        for flagged, pi, rows in zip(
            found.flagged.tolist(), found.pi.tolist(), found.rows.tolist(), strict=True
        )
    }


def test_a_contradicted_prediction_moves_to_the_cell_of_its_new_probability(ledger: Ledger) -> None:
    """Otherwise its label, weighted by the new one, would speak for predictions that were never so likely."""
    write(
        ledger,
        batch([record(number) for number in range(10)], strings=["ham"]),
        batch(
            raises=[record(number, review_pi_before=0.125, review_pi=0.5) for number in (3, 4)],
            strings=["ham"],
        ),
    )
    assert cells(ledger) == {(0, 0.125): 8, (0, 0.5): 2}
    write(
        ledger,
        batch(
            raises=[record(n, review_pi_before=0.125, review_pi=0.5) for n in (0, 1, 2, 5, 6, 7, 8, 9)],
            strings=["ham"],
        ),
    )
    assert cells(ledger) == {(0, 0.5): 10}, "a cell that was left by all is gone"


def test_one_that_is_sampled_by_it_becomes_a_task_and_one_that_was_has_its_probability_put_right(
    ledger: Ledger,
) -> None:
    """Reviewers get the first; the second's label will weigh by what its chance came to."""
    capture = {
        "id": decision(1),
        "rows": [0],
        "route": "spam",
        "queue": "q",
        "request": b"r",
        "answer": b"a",
        "policy": 7,
        "time_us": NOW_US,
    }
    write(
        ledger,
        batch([record(1), record(2, sampled=1)], strings=["ham"]),
        batch(
            raises=[
                record(1, review_pi_before=0.125, review_pi=0.5, sampled=1, stratum=4),
                record(2, review_pi_before=0.125, review_pi=0.5, sampled=1, sampled_before=1, stratum=4),
                record(3, review_pi_before=0.125, review_pi=0.5, sampled=0, stratum=4),
            ],
            strings=["ham"],
            captures=[capture],
        ),
    )
    with ledger._engine.connect() as connection:
        kept = connection.exec_driver_sql(
            "SELECT decision, review_pi, stratum, sampled, label FROM decisions ORDER BY decision"
        ).fetchall()
        tasks = connection.exec_driver_sql("SELECT decision FROM review_tasks").fetchall()
    assert [tuple(row) for row in kept] == [
        (decision(1), 0.5, 4, True, "ham"),
        (decision(2), 0.5, 4, True, "ham"),
    ]
    assert [row[0] for row in tasks] == [decision(1)]


def test_a_raise_without_its_record_leaves_no_negative_count(ledger: Ledger) -> None:
    """A batch may be dropped when the ledger's queue is full; what came after it must not break a report."""
    write(ledger, batch(raises=[record(1, review_pi_before=0.125, review_pi=0.5)], strings=["ham"]))
    assert cells(ledger) == {(0, 0.5): 1}


def comparison(**changes: Any) -> dict[str, Any]:
    return {"agree": 1, "difference": 0.01} | changes


def test_a_shadow_is_held_against_the_primarys_twin_by_segment(ledger: Ledger) -> None:
    """Only of calls that the primary answered: that is where the twin was asked as well."""
    rows = [comparison(segment=0) for _ in range(160)]
    rows += [comparison(segment=0, agree=0, difference=0.5) for _ in range(40)]
    rows += [comparison(segment=1) for _ in range(200)]
    rows += [comparison(segment=0, noise=1, agree=int(at % 50 != 0), difference=0.01) for at in range(100)]
    rows += [comparison(segment=1, noise=1) for _ in range(100)]
    rows += [comparison(backend=2, agree=0) for _ in range(1000)]  # answered by the fallback
    write(ledger, batch(mirrors=rows, strings=["device=phone", "device=desk"]))
    [report] = shadow_reports(ledger.reader.shadows(), "spam")
    assert (report.shadow, report.all.compared) == ("spam-lite", 1400)
    assert report.noise is not None
    assert (report.noise.compared, report.noise.agreement.value) == (200, 0.99)
    assert (report.disagreement.compared, report.disagreement.noise) == (400, 200)
    assert report.disagreement.value == pytest.approx(0.1 - 0.01)
    assert report.disagreement.counts is True
    assert report.score_difference.value == pytest.approx((40 * 0.5 + 360 * 0.01) / 400 - 0.01)
    by_segment = {name: (found.compared, excess.counts) for name, found, excess in report.segments}
    assert by_segment == {"device=phone": (200, True), "device=desk": (200, False)}
    assert np.isfinite(report.as_dict()["above_noise"]["disagreement"]["low"])
