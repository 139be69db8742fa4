"""Rates of many groups at once are those of each by itself, and their bounds hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import QualityError
from gateway.quality import Estimate, Labels, Predictions, cp_monte_carlo, measure, stratify
from gateway.quality.groups import measure_groups
from gateway.quality.sequential import METRICS, Metric
from tests.quality.populations import POPULATIONS, Traffic, review, review_by_strata
from tests.quality.test_coverage import flat, too_low

WINDOWS = 120
Window = tuple[Predictions, Labels]


def together(windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Estimate]:
    """One metric of each window, in one call."""
    groups = np.arange(len(windows))
    predictions, labels = [one for one, _ in windows], [one for _, one in windows]
    all_predictions = Predictions.of(
        *(
            np.concatenate([getattr(one, name) for one in predictions])
            for name in ("flagged", "score", "pi", "count")
        )
    )
    all_labels = Labels.of(
        *(
            np.concatenate([getattr(one, name) for one in labels])
            for name in ("flagged", "score", "pi", "positive", "count")
        )
    )
    return measure_groups(
        metrics,
        np.repeat(groups, [len(one.count) for one in predictions]),
        all_predictions,
        np.repeat(groups, [len(one.count) for one in labels]),
        all_labels,
    )


def truth(traffic: Traffic, metric: Metric) -> float:
    flagged = traffic.flagged
    tp, fn = float(traffic.positive[flagged].sum()), float(traffic.positive[~flagged].sum())
    fp = float(traffic.count[flagged].sum()) - tp
    tn = float(traffic.count.sum()) - tp - fp - fn
    beta = {"f2": 4.0, "f0.5": 0.25}.get(metric, 1.0)
    return {
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "false_positive_rate": fp / (fp + tn),
    }.get(metric, (1 + beta) * tp / ((1 + beta) * tp + beta * fn + fp))


@pytest.mark.parametrize("by_strata", [False, True], ids=["two_sides", "strata"])
@pytest.mark.parametrize("name", POPULATIONS)
def test_bounds_hold_the_truth_and_values_are_those_of_measure(name: str, by_strata: bool) -> None:
    """Something acts on these: they may be wide but not wrong."""
    rng = np.random.default_rng(701)
    traffics = [POPULATIONS[name](rng) for _ in range(WINDOWS)]
    windows = [
        review_by_strata(rng, one) if by_strata else review(rng, [(one, flat(one, rng))]) for one in traffics
    ]
    for metric in METRICS:
        made = together(windows, [metric] * WINDOWS)
        held = 0
        for estimate, traffic in zip(made, traffics, strict=True):
            assert estimate.low is not None, estimate.reason
            assert estimate.high is not None
            held += estimate.low - 1e-12 <= truth(traffic, metric) <= estimate.high + 1e-12
        assert not too_low(held, WINDOWS), (metric, held)
    for metric in ("precision", "recall", "f1"):
        made = together(windows[:5], [metric] * 5)
        for estimate, (predictions, labels) in zip(made, windows, strict=False):
            alone = getattr(measure(predictions, labels, rng, draws=2), metric)
            assert estimate.value == pytest.approx(alone.value, abs=1e-9)
            assert estimate.labels == alone.labels


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_bound_that_recall_gates_act_on_is_that_of_cp_monte_carlo(name: str) -> None:
    """Closed form against 4,000 draws: the same but for the draws' own noise."""
    rng = np.random.default_rng(702)
    windows = []
    for _ in range(6):
        traffic = POPULATIONS[name](rng)
        windows.append(review(rng, [(traffic, flat(traffic, rng))]))
    recall, precision = together(windows, ["recall"] * 6), together(windows, ["precision"] * 6)
    for index, (predictions, labels) in enumerate(windows):
        drawn = cp_monte_carlo(stratify(predictions, labels), rng)
        assert drawn.recall is not None
        assert drawn.precision is not None
        assert recall[index].low == pytest.approx(drawn.recall[0], abs=0.012)
        assert precision[index].low == pytest.approx(drawn.precision[0], abs=0.012)
        assert precision[index].high == pytest.approx(drawn.precision[1], abs=0.012)


def cells(*rows: tuple[bool, float, float, int, int, int]) -> Window:
    """Rows of (flagged, score, pi, predictions, positive labels, negative labels)."""
    flagged, score, pi, count, yes, no = (np.array(column) for column in zip(*rows, strict=True))
    labels = Labels.of(
        np.tile(flagged, 2),
        np.tile(score, 2),
        np.tile(pi, 2),
        np.repeat([True, False], len(rows)),
        np.concatenate([yes, no]),
    )
    return Predictions.of(flagged, score, pi, count), labels


ODD: list[tuple[str, Window, Metric, str]] = [
    ("nothing", cells((True, 0.9, 0.5, 0, 0, 0)), "precision", "no prediction was flagged"),
    ("nothing", cells((True, 0.9, 0.5, 0, 0, 0)), "recall", "no prediction that is either"),
    ("none_flagged", cells((False, 0.1, 0.5, 100, 3, 40)), "precision", "no prediction was flagged"),
    (
        "few",
        cells((True, 0.9, 0.5, 100, 3, 1), (False, 0.1, 0.5, 100, 3, 40)),
        "precision",
        "4 of the 10 labels",
    ),
    (
        "few",
        cells((True, 0.9, 0.5, 100, 30, 9), (False, 0.1, 0.5, 100, 1, 1)),
        "recall",
        "2 of the 10 labels",
    ),
    (
        "never",
        cells((True, 0.9, 0.5, 100, 30, 9), (False, 0.1, 0.0, 100, 0, 0)),
        "accuracy",
        "never reviewed",
    ),
    (
        "no_yes",
        cells((True, 0.9, 0.5, 100, 0, 30), (False, 0.1, 0.5, 100, 0, 40)),
        "recall",
        "nothing to recall",
    ),
    (
        "no_no",
        cells((True, 0.9, 0.5, 99, 30, 0), (False, 0.1, 0.5, 99, 40, 0)),
        "false_positive_rate",
        "no false",
    ),
    (
        "blind",
        cells((True, 0.9, 0.5, 99, 30, 9), (False, 0.0, 0.5, 200, 1, 90), (False, 0.4, 0.0, 200, 0, 0)),
        "recall",
        "with scores from 0.36 to 0.4 are never reviewed",
    ),
]


@pytest.mark.parametrize(
    ("window", "metric", "reason"), [case[1:] for case in ODD], ids=[case[0] for case in ODD]
)
def test_what_cannot_be_known_has_its_reason(window: Window, metric: Metric, reason: str) -> None:
    """As in the report; beside a sound group, which is not disturbed."""
    sound = cells((True, 0.9, 0.5, 100, 40, 10), (False, 0.1, 0.5, 100, 5, 45))
    odd, good = together([window, sound], [metric, metric])
    assert odd.value is None
    assert odd.reason is not None
    assert reason in odd.reason
    assert good.value is not None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("pi", [1.0, 0.5, 1e-6])
@pytest.mark.parametrize(("yes", "no"), [(20, 0), (0, 20), (20, 20), (1_000_000, 1)])
def test_extremes_give_numbers_or_reasons_and_never_a_warning(
    metric: Metric, pi: float, yes: int, no: int
) -> None:
    """All right, all wrong, all labelled, one weight of a million: numpy's warnings are errors here."""
    window = cells((True, float("nan"), pi, yes + no, yes, no), (False, 0.1, 0.5, 10**9, no, yes))
    [made] = together([window], [metric])
    if made.value is None:
        assert made.reason
    else:
        assert made.low is not None
        assert made.high is not None
        assert 0 <= made.low <= made.value <= made.high <= 1


def test_wrong_groups_are_named_and_none_are_none() -> None:
    """A label that is nobody's must not be counted for somebody."""
    predictions, labels = cells((True, 0.9, 0.5, 100, 40, 10))
    ones: NDArray[np.int64] = np.ones(2, np.int64)
    with pytest.raises(QualityError, match="group: found shape"):
        measure_groups(["recall"], ones, predictions, ones, labels)
    with pytest.raises(QualityError, match="group_of_label: found one outside"):
        measure_groups(["recall"], 0 * ones[:1], predictions, ones, labels)
    none = np.zeros(0, np.int64)
    empty = Predictions.of(none, none, none), Labels.of(none, none, none, none)
    assert measure_groups([], none, empty[0], none, empty[1]) == []
    assert measure_groups(["f1"], none, empty[0], none, empty[1])[0].value is None
