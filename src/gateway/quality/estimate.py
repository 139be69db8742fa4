"""One number with what is needed to believe it: its interval, its count, or the reason why it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.quality.intervals import wilson_interval

__all__ = ["Estimate", "share"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate in [0, 1], or the reason why there is none.

    `value`, `low`, `high`: all three or none of them. `labels`: how many labels it rests on (comparisons, for
    a shadow). `method`: how the interval was made. `reason`: why there is no number; None where there is one.
    `missing`: how many further labels are needed, where that can be said. `note`: what a reader should know
    beside the number.
    """

    value: float | None
    low: float | None
    high: float | None
    labels: int
    method: str | None = None
    reason: str | None = None
    missing: int | None = None
    note: str | None = None

    @classmethod
    def known(
        cls,
        value: float,
        interval: tuple[float, float],
        labels: int,
        method: str,
        *,
        missing: int | None = None,
        note: str | None = None,
    ) -> Estimate:
        """A number; its interval always contains it, and stays within [0, 1]."""
        value = min(max(value, 0.0), 1.0)
        low, high = min(max(interval[0], 0.0), value), max(min(interval[1], 1.0), value)
        return cls(value, low, high, labels, method, missing=missing, note=note)

    @classmethod
    def unknown(cls, reason: str, labels: int, missing: int | None = None) -> Estimate:
        """No number, and why."""
        return cls(None, None, None, labels, reason=reason, missing=missing)

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "labels": self.labels,
            "method": self.method,
            "reason": self.reason,
            "labels_missing": self.missing,
            "note": self.note,
        }


def share(events: int, trials: int, absent: str, level: float = 0.95) -> Estimate:
    """An unweighted share of trials with Wilson's interval; `absent` is the reason when there are none."""
    if trials <= 0:
        return Estimate.unknown(absent, 0)
    return Estimate.known(events / trials, wilson_interval(events, trials, level), trials, "wilson")
