"""The metrics as Prometheus text, named by the OpenTelemetry-to-Prometheus convention.

Dots become `_`, the unit is spelt out at the end (`s` -> `_seconds`, a gauge of `1` -> `_ratio`, `{things}`
-> nothing), counters end in `_total`. Imported at the first scrape only: the client library brings an HTTP
server (8 MB) that is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry.instruments import Instrument
from gateway.telemetry.registry import Attributes, Distribution, Family

__all__ = ["PrometheusText", "prometheus_name"]

_TYPES = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}


def prometheus_name(instrument: Instrument) -> str:
    """The name without `_total`, `_bucket` and the like."""
    name = instrument.name.replace(".", "_")
    if instrument.unit == "s":
        return f"{name}_seconds"
    if instrument.unit == "1" and instrument.kind == "gauge":
        return f"{name}_ratio"
    return name


class PrometheusText(Collector):
    """Renders whatever `collect_families` gives, with the resource as `target_info`."""

    def __init__(self, collect_families: Callable[[], Sequence[Family]], resource: Attributes) -> None:
        self._collect_families = collect_families
        self._resource = _labels(resource)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: without this the library would collect once just to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        target = Metric("target", "What is speaking.", "info")
        target.add_sample("target_info", self._resource, 1.0)
        yield target
        for family in self._collect_families():
            if family.series:
                yield _metric(family)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _metric(family: Family) -> Metric:
    name = prometheus_name(family.instrument)
    kind = _TYPES[family.instrument.kind]
    metric = Metric(name, family.instrument.text, kind)
    for series in family.series:
        labels = _labels(series.attributes)
        if isinstance(series.value, Distribution):
            _add_histogram(metric, name, labels, series.value, family.instrument.bounds)
        else:
            metric.add_sample(f"{name}_total" if kind == "counter" else name, labels, float(series.value))
    return metric


def _add_histogram(
    metric: Metric, name: str, labels: dict[str, str], values: Distribution, bounds: Sequence[float]
) -> None:
    reached = 0
    for bound, count in zip((*bounds, float("inf")), values.counts.tolist(), strict=True):
        reached += count
        metric.add_sample(f"{name}_bucket", {**labels, "le": _edge(bound)}, float(reached))
    metric.add_sample(f"{name}_count", labels, float(reached))
    metric.add_sample(f"{name}_sum", labels, values.total)


def _labels(attributes: Mapping[str, object]) -> dict[str, str]:
    return {
        key.replace(".", "_"): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in attributes.items()
    }


def _edge(bound: float) -> str:
    """A bucket's edge as the client library itself would write it."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
