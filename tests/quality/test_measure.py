"""Precision, recall and F1: against scikit-learn where unweighted, by hand where weighted, else in words."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from gateway.errors import QualityError
from gateway.quality import (
    Estimate,
    Labels,
    Predictions,
    Quality,
    labels_to_show_recall,
    measure,
    share,
    stratify,
)

SEED = 7


def quality(predictions: Predictions, labels: Labels) -> Quality:
    return measure(predictions, labels, np.random.default_rng(SEED))


def window(
    flagged: tuple[int, int, int], unflagged: tuple[int, int, int], pi: tuple[float, float] = (0.5, 0.1)
) -> Quality:
    """Per side: predictions, labels, positive labels; without scores."""
    sides = [(True, *flagged), (False, *unflagged)]
    predictions = Predictions.of([s[0] for s in sides], [math.nan] * 2, pi, [s[1] for s in sides])
    labels = Labels.of(
        [True, True, False, False],
        [math.nan] * 4,
        np.repeat(pi, 2),
        [True, False] * 2,
        [flagged[2], flagged[1] - flagged[2], unflagged[2], unflagged[1] - unflagged[2]],
    )
    return quality(predictions, labels)


def test_a_fully_labelled_window_agrees_with_scikit_learn_and_is_sure() -> None:
    """With every prediction labelled the estimate is the plain metric, and its interval has no width."""
    rng = np.random.default_rng(SEED)
    score = rng.random(3000)
    truth, flagged = rng.random(3000) < score, score >= 0.6
    one = np.ones(3000)
    numbers = quality(Predictions.of(flagged, score, one), Labels.of(flagged, score, one, truth))
    for estimate, oracle in (
        (numbers.precision, precision_score),
        (numbers.recall, recall_score),
        (numbers.f1, f1_score),
    ):
        wanted = oracle(truth, flagged)
        assert [estimate.low, estimate.value, estimate.high] == pytest.approx([wanted] * 3, abs=1e-12)


def test_weights_are_one_over_the_probability() -> None:
    """By hand: 1,000 flagged, 80 of 100 labels right; 9,000 not flagged, 2 of 90 labels positive."""
    numbers = window((1000, 100, 80), (9000, 90, 2), pi=(0.1, 0.01))
    assert numbers.precision.value == pytest.approx(0.8)
    assert numbers.recall.value == pytest.approx(800 / (800 + 200))
    assert numbers.f1.value == pytest.approx(2 * 800 / (1000 + 800 + 200))
    assert numbers.positives == pytest.approx(1000)
    assert (numbers.precision.method, numbers.recall.method) == ("wilson", "shared_jeffreys")
    assert (numbers.precision.labels, numbers.recall.labels) == (100, 190)


def test_unequal_probabilities_are_weighted_back_within_a_stratum() -> None:
    """Half of the flagged predictions came when reviews were twice as frequent, and were better."""
    predictions = Predictions.of([True, True, False], [math.nan] * 3, [0.4, 0.2, 0.1], [100, 100, 1000])
    labels = Labels.of(
        [True, True, True, True, False],
        [math.nan] * 5,
        [0.4, 0.4, 0.2, 0.2, 0.1],
        [True, False, True, False, False],
        [30, 10, 10, 10, 100],
    )
    numbers = quality(predictions, labels)
    assert numbers.precision.value == pytest.approx((30 / 0.4 + 10 / 0.2) / 200)
    assert numbers.precision.method == "shared_jeffreys"


def test_nothing_flagged_is_said() -> None:
    """No rate of nothing."""
    numbers = window((0, 0, 0), (9000, 90, 2))
    assert numbers.precision.value is None
    assert "no prediction was flagged" in str(numbers.precision.reason)
    assert numbers.recall.value == 0.0


def test_recall_is_not_estimable_when_only_flagged_predictions_are_reviewed() -> None:
    """Precision yes, recall no: nobody has looked where the missed positives are."""
    numbers = window((1000, 100, 80), (9000, 0, 0), pi=(0.1, 0.0))
    assert numbers.precision.value == pytest.approx(0.8)
    assert numbers.recall.value is None
    assert "unflagged predictions are never reviewed" in str(numbers.recall.reason)
    assert numbers.recall.missing == labels_to_show_recall(0.8, 9000, 800)
    assert numbers.f1.value is None
    assert numbers.positives is None


def test_recall_is_not_estimable_when_a_range_of_scores_is_never_reviewed() -> None:
    """Looking only near the threshold cannot find positives that score low."""
    score, flagged = [0.05, 0.45, 0.9], [False, False, True]
    predictions = Predictions.of(flagged, score, [0.0, 0.1, 0.5], [5000, 1000, 200])
    labels = Labels.of(
        [False, True, True], [0.45, 0.9, 0.9], [0.1, 0.5, 0.5], [False, True, False], [100, 80, 20]
    )
    numbers = quality(predictions, labels)
    assert numbers.precision.value == pytest.approx(0.8)
    assert "scores from 0.05 to 0.09 are never reviewed" in str(numbers.recall.reason)


def test_predictions_that_could_not_be_reviewed_are_left_out_and_counted() -> None:
    """Calls that asked for no review are not spoken for; elsewhere in the same range labels are there."""
    flagged, score = [True, True, False, False], [0.9, 0.9, 0.1, 0.1]
    predictions = Predictions.of(flagged, score, [0.5, 0.0, 0.1, 0.0], [200, 50, 1000, 500])
    labels = Labels.of(
        [True, True, False], [0.9, 0.9, 0.1], [0.5, 0.5, 0.1], [True, False, False], [80, 20, 100]
    )
    numbers = quality(predictions, labels)
    assert numbers.recall.value == pytest.approx(1.0)
    assert (numbers.predictions, numbers.unreachable) == (1750, 550)


def test_too_few_labels_say_how_many_are_missing() -> None:
    """Ten on a side before there is a number, fewer where there are fewer predictions."""
    numbers = window((1000, 4, 3), (9000, 90, 2))
    assert (numbers.precision.value, numbers.precision.missing) == (None, 6)
    assert "4 of the 10 labels" in str(numbers.precision.reason)
    assert numbers.recall.missing == 6
    assert window((4, 4, 3), (9000, 90, 2), pi=(1.0, 0.1)).precision.value == pytest.approx(0.75)


def test_no_positive_label_means_no_recall() -> None:
    """0 of 0 found is neither good nor bad."""
    numbers = window((1000, 50, 0), (9000, 90, 0))
    assert numbers.precision.value == 0.0
    assert "none of 140 labels is positive" in str(numbers.recall.reason)


def test_no_missed_positive_seen_is_not_a_recall_of_one_for_sure() -> None:
    """The interval reaches far down, and says how many labels would show a recall of 0.8."""
    recall = window((1000, 100, 80), (9000, 90, 0)).recall
    assert recall.value == 1.0
    assert recall.low is not None
    assert recall.low < 0.93
    assert recall.missing == 45  # 3 * 9000 * .8 / (800 * .2) = 135, and 90 are there
    assert recall.note == (
        "no missed positive among 90 labels of unflagged predictions; "
        "45 more without one would show a recall of 0.80"
    )


def test_an_empty_window_has_reasons_for_everything() -> None:
    """A route without a call yet."""
    numbers = quality(Predictions.of([], [], []), Labels.of([], [], [], []))
    assert all(e.value is None and e.reason for e in (numbers.precision, numbers.recall, numbers.f1))


def test_the_same_state_of_the_generator_gives_the_same_numbers() -> None:
    """Two readers of one ledger must not see different intervals."""
    assert window((1000, 60, 40), (9000, 90, 2)) == window((1000, 60, 40), (9000, 90, 2))


def test_strata_never_straddle_the_decision_and_hold_enough_labels() -> None:
    """Also where scores tie at the threshold and flags were set by a rule."""
    rng = np.random.default_rng(SEED)
    score = np.round(rng.random(5000), 1)
    flagged = (score >= 0.5) ^ (rng.random(5000) < 0.1)
    known = rng.random(5000) < 0.2
    pi = np.full(5000, 0.2)
    predictions = Predictions.of(flagged, score, pi)
    strata = stratify(predictions, Labels.of(flagged[known], score[known], pi[known], flagged[known]))
    assert int(strata.population[strata.flagged].sum()) == int(flagged.sum())
    assert int(strata.population[~strata.flagged].sum()) == int((~flagged).sum())
    assert strata.labelled.min() >= 40
    assert 4 <= len(strata.labelled) <= 10
    # labels repeat the flag: a stratum that mixed the sides would show it
    assert set(strata.rate) == {0.0, 1.0}


def test_a_label_whose_tally_was_dropped_still_counts() -> None:
    """Tallies may be dropped under load, acknowledged labels never are."""
    flagged, none = [True] * 20 + [False] * 20, [math.nan] * 40
    numbers = quality(Predictions.of([], [], []), Labels.of(flagged, none, [0.5] * 40, flagged))
    assert (numbers.precision.value, numbers.recall.value) == (1.0, 1.0)
    assert numbers.predictions == 40


def test_a_share_of_nothing_has_a_reason() -> None:
    """For shadows and feedback."""
    assert share(0, 0, "nothing compared yet") == Estimate.unknown("nothing compared yet", 0)
    assert share(9, 10, "").value == 0.9


@pytest.mark.parametrize(
    ("flagged", "score", "pi", "count", "word"),
    [
        ([True], [0.5, 0.6], [0.5], None, "score"),
        ([True], [0.5], [1.5], None, "pi"),
        ([True], [0.5], [math.nan], None, "pi"),
        ([True], [0.5], [0.5], [-1], "count"),
    ],
)
def test_arrays_that_cannot_be_are_refused(flagged, score, pi, count, word: str) -> None:  # type: ignore[no-untyped-def]
    """Which array, what was found, what was wanted."""
    with pytest.raises(QualityError, match=f"{word}: found .* wanted"):
        Predictions.of(flagged, score, pi, count)


def test_a_recall_of_one_cannot_be_shown_by_a_sample() -> None:
    """The labels it takes grow without bound."""
    with pytest.raises(QualityError, match="recall: found 1"):
        labels_to_show_recall(1.0, 1000, 10)
    assert labels_to_show_recall(0.8, 1000, 0) is None


CELL = st.tuples(
    st.booleans(),
    st.sampled_from([math.nan, -math.inf, -1.0, 0.0, 0.5, 0.5000001, 1.0, 1e300]),
    st.sampled_from([0.0, 1e-12, 1e-7, 0.001, 0.05, 0.3, 1.0]),
    st.integers(0, 3_000_000),
    st.integers(0, 400),
    st.integers(0, 400),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CELL, max_size=8))
def test_every_number_is_finite_and_ordered_or_has_a_reason(
    cells: list[tuple[bool, float, float, int, int, int]],
) -> None:
    """Any mixture of empty sides, ties, missing scores and extreme weights; numpy warnings are errors here."""
    columns = [list(c) for c in zip(*cells, strict=True)] or [[]] * 6
    flagged, score, pi, count, yes, no = columns
    labels = Labels.of(flagged * 2, score * 2, pi * 2, [True] * len(yes) + [False] * len(no), yes + no)
    numbers = measure(
        Predictions.of(flagged, score, pi, count), labels, np.random.default_rng(SEED), draws=50
    )
    for estimate in (numbers.precision, numbers.recall, numbers.f1):
        found = (estimate.low, estimate.value, estimate.high)
        if estimate.value is None:
            assert found == (None, None, None)
            assert estimate.reason
        else:
            assert estimate.reason is None
            low, value, high = (float(x) for x in found if x is not None)
            assert 0.0 <= low <= value <= high <= 1.0
    for field in fields(numbers):
        assert "nan" not in json.dumps(getattr(numbers, field.name), default=lambda e: e.as_dict()).lower()
