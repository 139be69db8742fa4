"""Reviewed windows without a threshold of their own, for whatever looks for one."""

from __future__ import annotations

import numpy as np

from gateway.quality import Labels, Predictions
from tests.quality.populations import Floats, Traffic


def window(rng: np.random.Generator, traffic: Traffic, pi: Floats) -> tuple[Predictions, Labels]:
    """Each prediction reviewed with the probability of its bin."""
    bins = len(pi)
    yes, no = rng.binomial(traffic.positive, pi), rng.binomial(traffic.count - traffic.positive, pi)
    labels = Labels.of(
        np.zeros(2 * bins),
        np.tile(traffic.score, 2),
        np.tile(pi, 2),
        np.repeat([True, False], bins),
        np.concatenate([yes, no]),
    )
    return Predictions.of(np.zeros(bins), traffic.score, pi, traffic.count), labels


def rows(score: Floats, truth: Floats, pi: float = 1.0) -> tuple[Predictions, Labels]:
    """One cell a row, all of them labelled."""
    every = np.full(len(score), pi)
    none = np.zeros(len(score))
    return Predictions.of(none, score, every), Labels.of(none, score, every, truth)


def overlapping(seed: int, n: int = 2000) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return np.where(truth, rng.beta(4, 2, n), rng.beta(2, 4, n)), truth
