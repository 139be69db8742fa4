"""A real OTLP receiver on loopback, which can be told to hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every request; with `hang` it takes them and never answers until it is closed."""

    def __init__(self, *, hang: bool = False) -> None:
        self.traces: list[Any] = []
        self.metrics: list[Any] = []
        self.taken = 0
        self._release = threading.Event()
        if not hang:
            self._release.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        # Both services call their method `Export`, so that one object cannot be both.
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        self.taken += 1
        self._release.wait(60)
        self.traces.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(self, request: Any) -> Any:
        self.taken += 1
        self._release.wait(60)
        self.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def close(self) -> None:
        self._release.set()
        self._server.stop(0).wait(5)

    def spans(self) -> list[Any]:
        return [
            span
            for request in list(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def last_metrics(self) -> dict[str, Any]:
        """The newest request's metrics by name."""
        return {
            metric.name: metric
            for resource in self.metrics[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        return self._receiver.take_metrics(request)


def attributes(owner: Any) -> dict[str, Any]:
    """A span's, point's or resource's attributes as plain values."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in owner.attributes
    }


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Poll until something holds; fails after the bound."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.005)
