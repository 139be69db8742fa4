"""Simulated traffic that arms share by chance while the shares follow the rewards, as a bandit's do.

Many windows at once: shape (windows, arms). A window is a number of policy versions, each with its own shares and so
many labels; what a version brought is a cell for each arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.quality import Rewards

__all__ = ["FLOOR", "Played", "play"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 0.05


@dataclass(frozen=True, slots=True)
class Played:
    """Columns of shape (windows, versions, arms): shares in force, labels, and sums of their rewards."""

    share: Floats
    count: Ints
    total: Floats
    squares: Floats

    def rewards(self, window: int) -> Rewards:
        """The cells of one window; the context is the version."""
        _, versions, arms = self.share.shape
        return Rewards.cells(
            self.share[window].ravel(),
            np.tile(np.arange(arms), versions),
            arms,
            self.count[window].ravel(),
            self.total[window].ravel(),
            self.squares[window].ravel(),
            context=np.repeat(np.arange(versions), arms),
        )

    def plain(self) -> Floats:
        """The plain mean of each arm's rewards, (windows, arms)."""
        return self.total.sum(axis=1) / np.maximum(self.count.sum(axis=1), 1)


def play(
    rng: np.random.Generator,
    truth: Floats,
    windows: int,
    labels: int,
    *,
    spread: float | None = None,
    adaptive: bool = True,
) -> Played:
    """Play windows with Thompson's shares, mixed with equal ones so that none is below `FLOOR`.

    Args:
        truth: (versions, arms), mean rewards. labels: of each version. spread: rewards are uniform within so much of
        the mean; None: yes or no. adaptive: shares follow the rewards, else they drift by chance alone.
    """
    versions, arms = truth.shape
    shape = (windows, versions, arms)
    share, count = np.empty(shape), np.empty(shape, np.int64)
    total, squares = np.empty(shape), np.empty(shape)
    alpha, beta = np.ones((windows, arms)), np.ones((windows, arms))
    for version, means in enumerate(truth):
        if adaptive:
            draws = rng.beta(alpha, beta, (60, windows, arms)).argmax(axis=2)
            best = (draws[:, :, None] == np.arange(arms)).mean(axis=0)
        else:
            best = rng.dirichlet(np.ones(arms), windows)
        share[:, version] = FLOOR + (1 - FLOOR * arms) * best
        here = rng.multinomial(labels, share[:, version])
        if spread is None:
            found = rng.binomial(here, means).astype(np.float64)
            again = found
        else:
            rewards = rng.uniform(means - spread, means + spread, (labels, windows, arms))
            taken = np.arange(labels)[:, None, None] < here
            found, again = (rewards * taken).sum(axis=0), (rewards**2 * taken).sum(axis=0)
        count[:, version], total[:, version], squares[:, version] = here, found, again
        alpha += found
        beta += here - found
    return Played(share, count, total, squares)
