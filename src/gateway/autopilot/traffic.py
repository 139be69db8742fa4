"""What one route's predictions are made of, and what their reviews cost: rates that follow bursts, and remember."""

from __future__ import annotations

from typing import Final

import numpy as np

from gateway.autopilot.division import CELLS, Floats

__all__ = ["Traffic"]

MEMORY_S: Final = 600.0
"""Time constant of the rates' exponential averages: long against bursts, short against a day."""

ENOUGH: Final = 200.0
"""A cell of which fewer came within its memory is remembered longer: the rate of what is rare would be mostly noise."""

LONG_MEMORY_S: Final = 4 * 3600.0

KEPT_S: Final = 300.0
"""So much time a rate from before a restart is worth: traffic may have changed while nobody looked."""

PEAK_MEMORY_S: Final = 86_400.0
"""The most that came is remembered for about a day."""

HORIZON_S: Final = 1800.0
"""What was spent too much or too little is made up for over so long."""

MOST_OWED_S: Final = 900.0
"""Budget of so much time is made up for at the most, so that a quiet night is not done after by noon."""


class Traffic:
    """Averages of predictions a second by cell, and the account of what was spent. Not thread-safe."""

    def __init__(self, rates: Floats | None = None) -> None:
        self._came = np.zeros(CELLS)
        self._spent = 0.0
        self._count = np.zeros(CELLS)
        self._time = np.zeros(CELLS)
        self._spent_average = self._spent_time = 0.0
        self._owed_s = 0.0
        self._peak = np.zeros(CELLS)
        if rates is not None:
            self._peak = rates
            self._count, self._time = rates * KEPT_S, np.full(CELLS, KEPT_S)

    def add(self, came: Floats) -> None:
        """Predictions that came since the last `settle`, by cell, shape (5, 2)."""
        self._came += came

    def spend(self, reviews: float) -> None:
        """Expected reviews since the last `settle`: the sum of their probabilities."""
        self._spent += reviews

    @property
    def known(self) -> bool:
        """Whether anything ever came."""
        return bool(self._count.any())

    @property
    def rates(self) -> Floats:
        """Predictions a second, shape (5, 2)."""
        return np.divide(self._count, self._time, out=np.zeros(CELLS), where=self._time > 0)

    @property
    def peak(self) -> Floats:
        """The most that the rates have been within about a day, shape (5, 2)."""
        return self._peak

    @property
    def spent(self) -> float:
        """Expected reviews a second, on average over some minutes."""
        return self._spent_average / self._spent_time if self._spent_time else 0.0

    @property
    def correction(self) -> float:
        """What the budget is multiplied by to make up for what was spent too much or too little."""
        return 1.0 + self._owed_s / HORIZON_S

    def settle(self, elapsed_s: float, per_second: float, *, everything: bool) -> None:
        """Bring the averages up to now.

        Args: seconds since the last time; the budget. everything: whether all shares were 1, so that no more could be
            spent: what is left over then is not owed.
        """
        memory = np.where(self._count >= ENOUGH, MEMORY_S, LONG_MEMORY_S)
        keep = np.exp(-elapsed_s / memory)
        if self._came.any():  # a night without any traffic teaches nothing about the morning's
            self._count = self._count * keep + self._came
            self._time = self._time * keep + elapsed_s
            self._peak = np.maximum(self._peak * np.exp(-elapsed_s / PEAK_MEMORY_S), self.rates)
        if self._came.any() or self._spent:
            missed_s = elapsed_s - self._spent / per_second
            if missed_s < 0 or not everything:  # nothing is owed for what could not be had
                self._owed_s = float(np.clip(self._owed_s + missed_s, -MOST_OWED_S, MOST_OWED_S))
        keep_spent = float(np.exp(-elapsed_s / MEMORY_S))
        self._spent_average = self._spent_average * keep_spent + self._spent
        self._spent_time = self._spent_time * keep_spent + elapsed_s
        self._came = np.zeros(CELLS)
        self._spent = 0.0
