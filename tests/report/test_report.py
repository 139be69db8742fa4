"""What a report says about a real ledger whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.ledger import Facts, LabelRow, Reader, Truth, Window
from gateway.ledger.quality import route_quality
from gateway.ledger.report import Report, make_report
from gateway.quality import Estimate
from gateway.types import Outcome
from tests.report import traffic
from tests.report.conftest import Told


def test_calls_add_up_by_outcome_and_by_reason(told: Told, report: Report) -> None:
    """Every call is counted once, under one outcome and one reason."""
    [spam] = report.routes
    outcomes = {
        o.text: int((told.made.outcome == o).sum()) for o in Outcome if (told.made.outcome == o).any()
    }
    assert spam.route == "spam"
    assert spam.calls.total == 3000
    assert spam.calls.by_outcome == outcomes
    assert spam.calls.by_reason == {
        "ok": outcomes["model"],
        "low_confidence": outcomes["fallback"],
        "rule:allow-list": outcomes["static"],
        "holdout": outcomes["holdout"],
    }
    assert report.unmatched.total == 0


def test_the_time_added_is_that_of_the_calls(report: Report) -> None:
    """Written as 30 to 129 us, evenly; buckets are right to 4.4 %."""
    [spam] = report.routes
    assert spam.overhead_p50_us == pytest.approx(79.5, rel=0.05)
    assert spam.overhead_p99_us == pytest.approx(129, rel=0.05)


def test_precision_and_recall_are_weighted_and_their_intervals_hold_the_truth(
    told: Told, report: Report
) -> None:
    """The truth of all 2,800 predictions that were not held out is known here, and 4 of 5 were never labelled."""
    [spam] = report.routes
    numbers = spam.quality.numbers
    for estimate, truth in ((numbers.precision, told.made.precision), (numbers.recall, told.made.recall)):
        assert estimate.value is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.5
    assert numbers.recall.labels == numbers.labels
    known = told.made.sampled & told.made.counted
    assert known.sum() - 15 <= numbers.labels <= known.sum()
    unweighted = told.made.flagged[known & told.made.truth].mean()
    assert numbers.recall.value is not None
    assert abs(numbers.recall.value - told.made.recall) < abs(unweighted - told.made.recall)


def test_one_route_alone_has_the_same_numbers(told: Told, report: Report) -> None:
    """Metrics read one route, the report all of them: they must agree."""
    reader = told.reader()
    assert route_quality(reader, "spam") == report.routes[0].quality
    reader.close()


def test_the_holdout_is_not_part_of_the_models_quality(told: Told, report: Report) -> None:
    """There everything is called ham; with it, recall would look worse than the model is."""
    [spam] = report.routes
    assert spam.quality.numbers.predictions == 2800
    assert spam.quality.numbers.flagged == int(told.made.flagged.sum())


def test_review_progress_and_what_it_means_are_told(told: Told, report: Report) -> None:
    """Predictions without a label yet are taken to be missing at random, and the reader is told so."""
    [spam] = report.routes
    review = spam.quality.review
    assert (review.sampled, review.done, review.open) == (int(told.made.sampled.sum()), told.answered, 15)
    assert review.oldest_open_us == int(told.made.time_us[told.made.sampled][-15:].min())
    assert any("15 of" in note and "missing at random" in note for note in spam.quality.notes)


def test_shadows_agree_by_count(report: Report) -> None:
    """Of 1,000 copies 20 failed, and every 25th of the others disagreed."""
    [shadow] = report.routes[0].shadows
    assert (shadow.shadow, shadow.all.compared, shadow.all.failed) == ("spam-v4", 980, 20)
    assert shadow.all.agreement.value == pytest.approx(940 / 980)
    assert shadow.all.mean_difference == pytest.approx(0.02)
    assert shadow.all.mean_absolute_difference == pytest.approx(0.02)
    assert shadow.noise is None
    assert shadow.disagreement.counts is None
    assert "name one as the mirror's `noise`" in (shadow.disagreement.reason or "")


def test_feedback_stands_apart(told: Told, report: Report) -> None:
    """Nobody knows who answers, so it is shown and never mixed into precision."""
    [user] = report.routes[0].quality.feedback
    assert user.source == "user"
    assert user.labels == 300
    assert user.confirmed.labels + user.missed.labels == 300
    assert report.routes[0].quality.numbers.labels <= told.answered


def test_a_ledger_without_labels_gives_reasons(tmp_path: Path) -> None:
    """No number, and how many labels are missing."""
    ledger = traffic.write(tmp_path, traffic.make(500))
    numbers = route_quality(ledger.reader, "spam").numbers
    ledger.close()
    assert numbers.precision == Estimate.unknown(
        "0 of the 10 labels that it takes at least on flagged predictions", 0, 10
    )
    assert numbers.recall.value is None
    assert numbers.recall.missing == 10


def test_a_route_reviewed_on_one_side_has_precision_and_no_recall(tmp_path: Path) -> None:
    """Labels of flagged predictions alone say nothing about those that were missed."""
    made = traffic.make(600, pi=(0.5, 0.0))
    ledger = traffic.write(tmp_path, made)
    traffic.answer(ledger, made, most=40)
    numbers = route_quality(ledger.reader, "spam").numbers
    ledger.close()
    assert numbers.precision.value is not None
    assert "unflagged predictions are never reviewed" in str(numbers.recall.reason)


def test_a_corrected_label_counts_once_as_corrected(tmp_path: Path) -> None:
    """Somebody's first word is kept in the ledger and is not in the numbers."""
    made = traffic.make(500)
    ledger = traffic.write(tmp_path, made)
    at = [int(i) for i in np.flatnonzero(made.flagged)[:20]]
    ledger.submit_labels([traffic.label(made, i, "user", False) for i in at]).result(10.0)
    ledger.submit_labels([traffic.label(made, i, "user", True) for i in at[:15]]).result(10.0)
    [user] = route_quality(ledger.reader, "spam").feedback
    ledger.close()
    assert (user.labels, user.confirmed.labels, user.confirmed.value) == (20, 20, 0.75)


def test_a_review_of_what_was_not_sampled_is_not_weighted(tmp_path: Path) -> None:
    """It was chosen by somebody, with no known probability."""
    made = traffic.make(500)
    ledger = traffic.write(tmp_path, made)
    chosen = np.flatnonzero(made.flagged & ~made.sampled)[:30]
    ledger.submit_labels([traffic.label(made, int(i), "review", True) for i in chosen]).result(10.0)
    numbers = route_quality(ledger.reader, "spam").numbers
    ledger.close()
    assert numbers.labels == 0


def test_a_label_whose_route_has_no_tally_is_still_told(tmp_path: Path) -> None:
    """Feedback may come for a route whose records were dropped."""
    made = traffic.make(300)
    ledger = traffic.write(tmp_path, made)
    row = traffic.label(made, 0, "user", True)
    facts: Facts = replace(row.facts, route="gone")
    ledger.submit_labels([LabelRow(row.decision, 7, "user", Truth(positive=True), facts, 1)]).result(10.0)
    report = make_report(ledger.reader, Window())
    ledger.close()
    assert [one.route for one in report.routes] == ["gone", "spam"]
    assert report.routes[0].quality.feedback[0].labels == 1


def test_a_window_leaves_out_what_came_before(tmp_path: Path) -> None:
    """Whole hours, by the time of the prediction."""
    made = traffic.make(500)
    ledger = traffic.write(tmp_path, made)
    since = traffic.NOW_US - 3 * traffic.HOUR_US
    report = make_report(ledger.reader, Window(since_us=since))
    ledger.close()
    cut = since // traffic.HOUR_US * traffic.HOUR_US
    assert report.since_us == cut
    assert report.routes[0].calls.total == int((made.time_us >= cut).sum())


def test_routes_without_a_call_are_listed_when_known(told: Told) -> None:
    """A route that gets nothing is news."""
    reader: Reader = told.reader()
    report = make_report(reader, Window(), known=["quiet"])
    reader.close()
    quiet = report.routes[0]
    assert (quiet.route, quiet.calls.total, quiet.overhead_p50_us) == ("quiet", 0, None)
    assert quiet.quality.numbers.precision.reason


def test_slices_add_up_and_are_about_their_own_predictions(told: Told, report: Report) -> None:
    """Each backend's precision is about what that backend said, not about the route."""
    [spam] = report.routes
    made = told.made
    backends = {one.name: one for one in spam.slices["backend"]}
    assert sum(one.predictions for one in backends.values()) == spam.quality.numbers.predictions
    assert set(backends) == {"spam-v3", "ham"}
    model = made.outcome == Outcome.MODEL
    assert backends["spam-v3"].predictions == int(model.sum())
    precision, recall = backends["spam-v3"].precision, backends["spam-v3"].recall
    for estimate, truth in (
        (precision, made.truth[made.flagged & model].mean()),
        (recall, made.flagged[made.truth & model].mean()),
    ):
        # Coverage is measured in tests/quality/test_groups.py; here, whether it is about these predictions at all.
        assert estimate.value == pytest.approx(truth, abs=0.1)
    assert (
        report.as_dict()["routes"]["spam"]["slices"]["backend"]["spam-v3"]["precision"] == precision.as_dict()
    )


def test_a_prediction_counts_for_each_of_its_segments_and_few_slices_are_kept() -> None:
    """Of thousands of values only those that matter are measured; of days the newest."""
    from gateway.ledger.breakdown import MOST_SLICES, _measure

    rows = [("spam", f"device=d{at},country=de", 1, 10, 0.5, at + 1) for at in range(100)]
    found = _measure("segment", rows, [])
    assert [one.predictions for one in found["spam", "segment country"]] == [5050]
    devices = found["spam", "segment device"]
    assert len(devices) == MOST_SLICES
    assert min(one.predictions for one in devices) == 51
    assert devices[0].precision.reason is not None
    days = _measure("day", [("spam", 20_000 + at, 1, 10, 0.5, 1) for at in range(60)], [])["spam", "day"]
    assert (len(days), days[-1].name) == (MOST_SLICES, "2024-12-02")
