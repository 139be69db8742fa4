"""Where numbers add up: series by instrument, bounded by name.

The SDK's own instruments take one call per value; here whole columns are added at once (a batch of 65,536
rows is a handful of additions), so the series are kept as plain counts and arrays. What comes after an
instrument's limit goes into one overflow series and is counted, so that a caller who invents names cannot
grow the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.telemetry.instruments import CATALOGUE, OVERFLOW, Instrument

__all__ = ["Attributes", "Distribution", "Family", "Point", "Registry", "Series", "Source"]

logger = logging.getLogger(__name__)

Value = str | bool | int | float
Attributes = Mapping[str, Value]
_Key = tuple[tuple[str, Value], ...]
_OVERFLOW_KEY: _Key = ((OVERFLOW, True),)


@dataclass(frozen=True, slots=True)
class Point:
    """One number that somebody else keeps, read when the metrics are collected.

    `since_ns`: unix time from which a counter has counted; None means since this process started. A counter
    that lives on in the ledger must give it, or a restart looks to the receiver like all of it happening
    again.
    """

    name: str
    value: float
    attributes: Attributes = field(default_factory=dict)
    since_ns: int | None = None


Source = Callable[[], Iterable[Point]]
"""Polled at every collection, by the scrape's thread and the exporter's, perhaps at once; may be slow, may fail."""


@dataclass(slots=True)
class Distribution:
    """A histogram's state: `counts` has one more element than the instrument has bounds."""

    counts: NDArray[np.int64]
    total: float
    low: float
    high: float

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def add(self, other: Distribution) -> None:
        self.counts += other.counts
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def copy(self) -> Distribution:
        return Distribution(self.counts.copy(), self.total, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Series:
    """One series at the moment of collection."""

    attributes: Attributes
    value: float | Distribution
    since_ns: int


@dataclass(frozen=True, slots=True)
class Family:
    """An instrument and its series, in the order in which they first appeared."""

    instrument: Instrument
    series: Sequence[Series]


class Registry:
    """Adds numbers up; thread-safe. `sources` are asked at `collect`."""

    def __init__(
        self,
        sources: Sequence[Source] = (),
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        catalogue: Mapping[str, Instrument] = CATALOGUE,
    ) -> None:
        self._sources = tuple(sources)
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._numbers: dict[str, dict[_Key, float]] = {name: {} for name in catalogue}
        self._distributions: dict[str, dict[_Key, Distribution]] = {name: {} for name in catalogue}
        self._clock_ns = clock_ns
        self.since_ns = clock_ns()

    def add(self, name: str, attributes: Attributes, amount: float) -> None:
        """Add to a counter's series."""
        with self._lock:
            series = self._numbers[name]
            key = self._admit(name, series, tuple(attributes.items()), int(amount))
            series[key] = series.get(key, 0) + amount

    def observe(self, name: str, attributes: Attributes, values: Distribution) -> None:
        """Add values that were already sorted into the instrument's buckets."""
        with self._lock:
            series = self._distributions[name]
            key = self._admit(name, series, tuple(attributes.items()), values.count)
            known = series.get(key)
            if known is None:
                series[key] = values.copy()
            else:
                known.add(values)

    def drop(self, what: str, reason: str, amount: int = 1) -> None:
        """Count something that was left out."""
        if amount:
            self.add("gateway.dropped", {"what": what, "reason": reason}, amount)

    def now_ns(self) -> int:
        return self._clock_ns()

    def collect(self) -> list[Family]:
        """Everything as it stands, sources asked first (outside the lock: they may be slow)."""
        points = [point for source in self._sources for point in self._ask(source)]
        polled: dict[str, dict[_Key, Series]] = {}
        for point in points:
            self._place(point, polled.setdefault(point.name, {}))
        with self._lock:
            return [
                Family(instrument, list(self._merged(instrument, polled.get(name, {})).values()))
                for name, instrument in self._catalogue.items()
            ]

    def _admit(self, name: str, series: Mapping[_Key, object], key: _Key, amount: int) -> _Key:
        """The key to add under: itself while there is room, else the overflow series."""
        if key in series or len(series) < self._catalogue[name].series_limit:
            return key
        dropped = self._numbers["gateway.dropped"]
        folded: _Key = (("what", "series"), ("reason", "cardinality"))
        dropped[folded] = dropped.get(folded, 0) + amount
        return _OVERFLOW_KEY

    def _ask(self, source: Source) -> list[Point]:
        try:
            return list(source())
        except Exception:
            # Whatever a source does, the other numbers still go out.
            logger.exception("a source of metrics failed; its numbers are missing from this collection")
            self.drop("source", "failed")
            return []

    def _place(self, point: Point, into: dict[_Key, Series]) -> None:
        instrument = self._catalogue.get(point.name)
        known = instrument is not None and instrument.kind != "histogram"
        if instrument is None or not known or not set(point.attributes) <= set(instrument.attributes):
            self.drop("point", "not_in_catalogue")
            return
        key = tuple(point.attributes.items())
        additive = instrument.kind != "gauge"
        if key not in into and len(into) >= instrument.series_limit:
            self.drop("series", "cardinality")
            if not additive:
                return  # a sum of gauges would be a number nobody measured
            key = _OVERFLOW_KEY
        since_ns = self.since_ns if point.since_ns is None else point.since_ns
        value = point.value
        if additive and key in into:
            value += _number(into[key])
            since_ns = min(since_ns, into[key].since_ns)
        into[key] = Series(dict(key), value, since_ns)

    def _merged(self, instrument: Instrument, polled: dict[_Key, Series]) -> dict[_Key, Series]:
        merged: dict[_Key, Series] = {
            key: Series(dict(key), distribution.copy(), self.since_ns)
            for key, distribution in self._distributions[instrument.name].items()
        }
        for key, number in self._numbers[instrument.name].items():
            merged[key] = Series(dict(key), number, self.since_ns)
        for key, series in polled.items():
            own = merged.get(key)
            merged[key] = (
                series
                if own is None
                else Series(
                    series.attributes, _number(own) + _number(series), min(own.since_ns, series.since_ns)
                )
            )
        return merged


def _number(series: Series) -> float:
    if isinstance(series.value, Distribution):
        raise TypeError("a distribution is no single number")
    return series.value
