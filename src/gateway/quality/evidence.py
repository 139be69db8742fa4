"""Evidence that something changed, day by day, such that a false alarm is rare however long one watches.

Each day brings an e-value: a number of at least 0 that is 1 on average, or less, while nothing changed. Summed up as
Shiryaev and Roberts did it, an alarm at a sum of A comes after A days on average, or later, while nothing changes; and
a long good history does not blind it, as each day may be the first of a change.

Several things may be watched together: the average of their sums is such a sum again, so one of k that reaches A times
k is an alarm of the whole at A. Labels one by one are watched by `sequential`.

Source: Shin, Ramdas and Rinaldo 2024, E-detectors: a nonparametric framework for sequential change detection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gateway.errors import QualityError

__all__ = ["MOST", "Evidence", "e_value"]

MOST: Final = 1e8
"""Of a sum: beyond it nothing more is said, and it would take months to sink again."""

ALLOWANCE: Final = 2.0
"""By so much a day's e-value must exceed 1 to belong to a change: days of mere bad luck before it are else taken for
its beginning, and make it look small."""

LEAST_P: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is remembered of one thing that is watched; JSON-able, so that a restart forgets nothing.

    `sums`: Shiryaev and Roberts' sum, one for each e-value that a day brings. `run`: the largest product up to now of
    e-values over `ALLOWANCE`. `since`: the day that this product begins with, about the first day of a change where it
    is above 1; None before the first day. `days`: looked at.
    """

    sums: tuple[float, ...] = (0.0,)
    run: float = 0.0
    since: int | None = None
    days: int = 0

    @property
    def level(self) -> float:
        """As it is compared with the run length wanted, in days."""
        return sum(self.sums) / len(self.sums)

    def after(self, day: int, *e_values: float) -> Evidence:
        """A further day.

        Args: its number, by which `since` is told; an e-value for each sum.
        Raises: QualityError for one that is negative or NaN, or another number of them than there are sums.
        """
        if len(e_values) != len(self.sums) or not all(one >= 0 for one in e_values):
            raise QualityError(f"e-values: found {e_values}, wanted {len(self.sums)} of at least 0")
        sums = tuple(min((old + 1.0) * one, MOST) for old, one in zip(self.sums, e_values, strict=True))
        mean = sum(min(one, MOST) for one in e_values) / len(e_values)
        fresh = self.since is None or self.run <= 1.0
        run = min((1.0 if fresh else self.run) * mean / ALLOWANCE, MOST)
        return Evidence(sums, run, day if fresh else self.since, self.days + 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sums": list(self.sums), "run": self.run, "since": self.since, "days": self.days}

    @classmethod
    def of(cls, kept: Mapping[str, Any], sums: int) -> Evidence | None:
        """From what `as_dict` gave; None where it is of another form, as another version may have kept it."""
        try:
            found = tuple(float(one) for one in kept["sums"])
            run, days, since = float(kept["run"]), int(kept["days"]), kept["since"]
            since = None if since is None else int(since)
        except (KeyError, TypeError, ValueError):
            return None
        good = len(found) == sums and bool(
            np.all(np.isfinite([*found, run]) & (np.array([*found, run]) >= 0))
        )
        return cls(found, run, since, days) if good and days >= 0 else None


def e_value(p: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """p-values -> e-values: .5/sqrt(p), whose mean is at most 1 where p is uniform.

    Source: Vovk and Wang 2021, Annals of Statistics 49:1736-1754, calibrators k p^(k-1) with k = 1/2.
    """
    return np.asarray(0.5 / np.sqrt(np.maximum(np.asarray(p, dtype=np.float64), LEAST_P)))
