"""Five kinds of traffic with a known truth, and reviews drawn from them, for the simulations.

All work on the ledger's grid of score bins: drawing which predictions of a bin are positive, and which of
those are reviewed, is the same as drawing one prediction at a time, and a thousand times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from gateway.quality import Labels, Predictions

N = 20_000
BINS = 200
THRESHOLD = 0.5
DISAGREEMENT = 0.1
"""Probability of review of what a shadow contradicts."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """One window: per score bin, how many predictions, and how many of them are positive."""

    score: Floats
    count: Ints
    positive: Ints

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return np.asarray(self.score >= THRESHOLD)

    @property
    def precision(self) -> float:
        return float(self.positive[self.flagged].sum() / self.count[self.flagged].sum())

    @property
    def recall(self) -> float:
        return float(self.positive[self.flagged].sum() / self.positive.sum())

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall)


@cache
def _shape(a: float, b: float) -> Floats:
    return np.diff(beta.cdf(np.linspace(0, 1, BINS + 1), a, b))


def _bins(rng: np.random.Generator, a: float, b: float, size: int) -> Ints:
    """Scores of `size` predictions from Beta(a, b)."""
    return np.asarray(rng.multinomial(size, _shape(a, b)), dtype=np.int64)


def _traffic(positive: Ints, negative: Ints) -> Traffic:
    return Traffic(np.arange(BINS) / BINS, positive + negative, positive)


def calibrated(rng: np.random.Generator) -> Traffic:
    """A score of .3 is right three times of ten; 10 % are positive, most of them scored low."""
    count = _bins(rng, 0.3, 2.7, N)
    return _traffic(positive := rng.binomial(count, (np.arange(BINS) + 0.5) / BINS), count - positive)


def rare(rng: np.random.Generator) -> Traffic:
    """1 % are positive, and the model finds about four of five."""
    positives = int(rng.binomial(N, 0.01))
    return _traffic(_bins(rng, 4, 2, positives), _bins(rng, 2, 9, N - positives))


def blind_spots(rng: np.random.Generator) -> Traffic:
    """1 % are positive; two of five of them look to the model exactly like negatives."""
    positives = int(rng.binomial(N, 0.01))
    unseen = int(rng.binomial(positives, 0.4))
    return _traffic(
        _bins(rng, 6, 2, positives - unseen) + _bins(rng, 2, 9, unseen), _bins(rng, 2, 9, N - positives)
    )


def common(rng: np.random.Generator) -> Traffic:
    """45 % are positive, and the two classes overlap."""
    positives = int(rng.binomial(N, 0.45))
    return _traffic(_bins(rng, 4, 2, positives), _bins(rng, 2, 4, N - positives))


def missed(rng: np.random.Generator) -> Traffic:
    """3.4 % are positive, and three of four look like negatives: about 2.5 of 100 labels below the threshold
    find one.

    The hardest place for an interval: often none is found, though there are 500.
    """
    return _traffic(_bins(rng, 6, 2, 170) + _bins(rng, 2, 9, 505), _bins(rng, 2, 9, N - 675))


POPULATIONS: dict[str, Callable[[np.random.Generator], Traffic]] = {
    "calibrated": calibrated,
    "rare": rare,
    "blind_spots": blind_spots,
    "common": common,
    "missed": missed,
}


def shares(traffic: Traffic, flagged: int = 100, unflagged: int = 100) -> Floats:
    """The probability of review per bin that spends so many labels on either side."""
    above = traffic.flagged
    return np.where(
        above,
        min(1.0, flagged / traffic.count[above].sum()),
        min(1.0, unflagged / traffic.count[~above].sum()),
    )


def review(
    rng: np.random.Generator, parts: list[tuple[Traffic, Floats]], answered: float = 1.0
) -> tuple[Predictions, Labels]:
    """Poisson-sample each part with its own probabilities; reviewers answer a share of the sample."""
    score = np.concatenate([traffic.score for traffic, _ in parts])
    pi = np.concatenate([p for _, p in parts])
    count = np.concatenate([traffic.count for traffic, _ in parts])
    positive = np.concatenate([traffic.positive for traffic, _ in parts])
    flagged = score >= THRESHOLD
    yes, no = rng.binomial(positive, pi * answered), rng.binomial(count - positive, pi * answered)
    labels = Labels.of(
        np.tile(flagged, 2),
        np.tile(score, 2),
        np.tile(pi, 2),
        np.repeat([True, False], len(score)),
        np.concatenate([yes, no]),
    )
    return Predictions.of(flagged, score, pi, count), labels


def review_by_strata(rng: np.random.Generator, traffic: Traffic) -> tuple[Predictions, Labels]:
    """As the data plane samples: shares of their own for flagged, near and low, and a shadow that contradicts 30 % of
    the wrong predictions and 2 % of the right ones, whose probability is then raised to that of disagreement.

    Each row has one uniform number; so who was chosen stays chosen. Drawn by bin, that is the same as one draw with the
    larger probability.
    """
    flagged, count, positive = traffic.flagged, traffic.count, traffic.positive
    near = ~flagged & (traffic.score >= THRESHOLD - 0.1)
    low = ~flagged & ~near
    pi = np.zeros(len(count))
    for rows, labels in ((flagged, 100), (near, 50), (low, 100)):
        pi[rows] = min(1.0, labels / max(count[rows].sum(), 1))
    wrong = np.where(flagged, count - positive, positive)
    hit, odd = rng.binomial(wrong, 0.3), rng.binomial(count - wrong, 0.02)
    contradicted = np.where(flagged, odd, hit), np.where(flagged, hit, odd)  # positive, negative
    parts = [
        (np.maximum(pi, DISAGREEMENT), contradicted[0], contradicted[1]),
        (pi, positive - contradicted[0], count - positive - contradicted[1]),
    ]
    chances = np.concatenate([chance for chance, _, _ in parts])
    yes = np.concatenate([rng.binomial(rows, chance) for chance, rows, _ in parts])
    no = np.concatenate([rng.binomial(rows, chance) for chance, _, rows in parts])
    known = Labels.of(
        np.tile(flagged, 4),
        np.tile(traffic.score, 4),
        np.tile(chances, 2),
        np.repeat([True, False], len(chances)),
        np.concatenate([yes, no]),
    )
    all_rows = np.concatenate([one + other for _, one, other in parts])
    return Predictions.of(np.tile(flagged, 2), np.tile(traffic.score, 2), chances, all_rows), known
