"""The way out over OTLP: two threads with the SDK's own exporters, which may hang or fail without anybody
noticing.

In: traced calls (a bounded queue), the registry's families (collected every period). Out: OTLP over gRPC, by
the SDK's exporters, so that its environment variables (headers, certificates, compression) work as
documented.
Never: makes the thread that drains the data plane wait, or keeps the process from ending. What could not be
sent is counted. Imports the SDK and grpc (about 25 MB where nothing else has), so it is imported only when
there is an endpoint.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from gateway.telemetry.registry import Attributes, Distribution, Family, Registry
from gateway.telemetry.spans import SpanQueue, TracedCalls, build_spans

if TYPE_CHECKING:
    from gateway.runtime.batch import Batch

__all__ = ["OtlpExport", "metrics_data"]

logger = logging.getLogger(__name__)

POINTS_PER_REQUEST = 5000
"""Receivers take 4 MiB; a histogram's point has about 400 bytes."""

JOIN_S = 1.0
"""After the exporters were cut off, their threads have this long to count what they held."""


class OtlpExport:
    """Sends spans as they come and metrics every `metrics_period_s`."""

    def __init__(
        self,
        endpoint: str,
        registry: Registry,
        resource: Attributes,
        *,
        version: str,
        metrics_period_s: float,
        timeout_s: float,
        queue_spans: int,
        batch_spans: int,
    ) -> None:
        self._registry = registry
        self._resource = Resource.create(dict(resource))
        self._scope = InstrumentationScope("gateway.telemetry", version)
        self._period_s = metrics_period_s
        self._batch_spans = batch_spans
        self._queue = SpanQueue(queue_spans)
        self._spans_out = OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
        self._metrics_out = OTLPMetricExporter(
            endpoint=endpoint, timeout=timeout_s, max_export_batch_size=POINTS_PER_REQUEST
        )
        self._stopping = threading.Event()
        self._cut_off = threading.Event()
        # Daemons: if a library hangs beyond all bounds, the process ends all the same.
        self._threads = [
            threading.Thread(target=self._send_spans, name="otlp-spans", daemon=True),
            threading.Thread(target=self._send_metrics, name="otlp-metrics", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, batch: Batch) -> None:
        """Queue a batch's traced calls; what finds no room is counted."""
        self._registry.drop("span", "queue_full", self._queue.put(batch))

    def stop(self, timeout_s: float) -> None:
        """Send what waits for at most `timeout_s`, then cut the connection; at most `JOIN_S` longer in all."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        self._queue.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        self._cut_off.set()
        # Closing the channel cancels a call that hangs, so that its thread comes back and counts its loss.
        self._spans_out.shutdown()
        self._metrics_out.shutdown()
        until = time.monotonic() + JOIN_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _send_spans(self) -> None:
        while taken := self._queue.take(self._batch_spans):
            count = sum(piece.spans for piece in taken)
            if self._cut_off.is_set() or not self._try(partial(self._export_spans, taken)):
                reason = "shutdown" if self._cut_off.is_set() else "export_failed"
                self._registry.drop("span", reason, count)

    def _export_spans(self, taken: Sequence[TracedCalls]) -> bool:
        spans: list[ReadableSpan] = []
        for piece in taken:
            spans.extend(build_spans(piece, self._resource, self._scope))
        return self._spans_out.export(spans) is SpanExportResult.SUCCESS

    def _send_metrics(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(self._period_s)  # and once more on the way out
            if not self._try(self._export_metrics):
                self._registry.drop("metrics", "shutdown" if self._cut_off.is_set() else "export_failed")

    def _export_metrics(self) -> bool:
        data = metrics_data(self._registry, self._resource, self._scope)
        return self._metrics_out.export(data) is MetricExportResult.SUCCESS

    def _try(self, export: Callable[[], bool]) -> bool:
        try:
            return export()
        except Exception:
            # The SDK raises what it did not foresee (a closed channel, a value it cannot encode).
            if not self._cut_off.is_set():
                logger.exception("an OTLP export failed")
            return False


def metrics_data(registry: Registry, resource: Resource, scope: InstrumentationScope) -> MetricsData:
    """The registry as the SDK's data model: cumulative, from the time each series has counted since."""
    families = registry.collect()
    now_ns = registry.now_ns()
    metrics = [
        Metric(
            name=family.instrument.name,
            description=family.instrument.text,
            unit=family.instrument.unit,
            data=_data(family, now_ns),
        )
        for family in families
        if family.series
    ]
    scoped = ScopeMetrics(scope=scope, metrics=metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scoped], schema_url="")])


def _data(family: Family, now_ns: int) -> Sum | Gauge | Histogram:
    kind, bounds = family.instrument.kind, family.instrument.bounds
    if kind == "histogram":
        return Histogram(
            [
                HistogramDataPoint(
                    attributes=series.attributes,
                    start_time_unix_nano=series.since_ns,
                    time_unix_nano=now_ns,
                    count=series.value.count,
                    sum=series.value.total,
                    bucket_counts=series.value.counts.tolist(),
                    explicit_bounds=bounds,
                    min=series.value.low,
                    max=series.value.high,
                )
                for series in family.series
                if isinstance(series.value, Distribution)
            ],
            AggregationTemporality.CUMULATIVE,
        )
    points = [
        NumberDataPoint(
            attributes=series.attributes,
            start_time_unix_nano=series.since_ns,
            time_unix_nano=now_ns,
            value=series.value,
        )
        for series in family.series
        if not isinstance(series.value, Distribution)
    ]
    if kind == "gauge":
        return Gauge(points)
    return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=kind == "counter")
