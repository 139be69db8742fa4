"""A plan promises what a report then says: the widths of the intervals that are planned come about."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.errors import QualityError
from gateway.quality import Labels, Predictions, measure
from gateway.quality.planning import expected_quality, milestones

PER_HOUR = np.array([900.0, 60.0, 40.0])
SHARE = np.array([0.02, 0.1, 0.3])
RATE = np.array([0.005, 0.2, 0.75])
FLAGGED = np.array([False, False, True])


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_the_interval_that_was_planned_comes_about() -> None:
    """Poisson-sampled windows of the same traffic: the median width is within a fifth of the planned one."""
    hours, draw = 40.0, np.random.default_rng(6)
    planned = expected_quality(PER_HOUR, SHARE, RATE, FLAGGED, hours, rng())
    widths = {"precision": [], "recall": []}
    for _ in range(60):
        count = draw.poisson(PER_HOUR * hours)
        positive = draw.binomial(count, RATE)
        yes, no = draw.binomial(positive, SHARE), draw.binomial(count - positive, SHARE)
        score = np.arange(3.0)
        known = Labels.of(
            np.tile(FLAGGED, 2),
            np.tile(score, 2),
            np.tile(SHARE, 2),
            np.repeat([True, False], 3),
            np.concatenate([yes, no]),
        )
        found = measure(Predictions.of(FLAGGED, score, SHARE, count), known, draw, draws=1000)
        for name, of in widths.items():
            estimate = getattr(found, name)
            of.append(estimate.high - estimate.low)
    for name, of in widths.items():
        estimate = getattr(planned, name)
        assert np.median(of) == pytest.approx(estimate.high - estimate.low, rel=0.2), name


def test_half_the_width_takes_four_times_as_long() -> None:
    """About: the root law, on a grid of a fifth."""
    found = {
        (one.metric, one.within): one
        for one in milestones(PER_HOUR, SHARE, RATE, FLAGGED, [0.1, 0.05], rng())
    }
    for metric in ("precision", "recall"):
        wide, narrow = found[metric, 0.1], found[metric, 0.05]
        assert wide.hours is not None
        assert narrow.hours is not None
        assert 2.5 < narrow.hours / wide.hours < 6
        assert narrow.reviews == round(narrow.hours * float((PER_HOUR * SHARE).sum()))


def test_what_can_never_be_known_has_no_time() -> None:
    """Without a review of what is not flagged there is no recall, however long one waits."""
    found = milestones([900.0, 40.0], [0.0, 0.3], [0.01, 0.75], [False, True], [0.1], rng())
    by_metric = {one.metric: one for one in found}
    assert by_metric["precision"].hours is not None
    assert (by_metric["recall"].hours, by_metric["recall"].reviews) == (None, None)


def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(QualityError, match=r"within: found 0\.5"):
        milestones(PER_HOUR, SHARE, RATE, FLAGGED, [0.5], rng())
    with pytest.raises(QualityError, match="hours: found 0"):
        expected_quality(PER_HOUR, SHARE, RATE, FLAGGED, 0, rng())
