"""One object that the runtime hands its batches to, and that the admin port asks for text."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import gateway
from gateway.errors import GatewayError
from gateway.telemetry.aggregate import add_batch
from gateway.telemetry.registry import Point, Registry, Source

if TYPE_CHECKING:
    from gateway.runtime.batch import Batch
    from gateway.telemetry.events import EventSink
    from gateway.telemetry.otlp import OtlpExport
    from gateway.telemetry.prometheus import PrometheusText

__all__ = ["EventOptions", "Telemetry", "TelemetryOptions", "certificate_source", "plane_source"]

logger = logging.getLogger(__name__)

CIRCUIT_STATES: Final = ("closed", "open", "half_open")
"""By the data plane's numbers."""


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Where captured payloads go as CloudEvents.

    `send`: request, response or both. `queue_events`, `queue_bytes`: how much may wait or be on its way. `connections`:
    events sent at once. `timeout_s`: for one try, all in all. `retry_s`: how long one event is tried again.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    send: tuple[str, ...] = ("request", "response")
    source: str = "/model-gateway"
    namespace: str | None = None
    queue_events: int = 1000
    queue_bytes: int = 16_777_216
    connections: int = 4
    timeout_s: float = 5.0
    retry_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """How telemetry leaves.

    `otlp`: "http://host:port" of a gRPC receiver, None for none. `queue_spans`: how many may wait for it; a full
    queue takes at most about 3 MB. `timeout_s`: how long one export may take, with its retries.
    """

    otlp: str | None = None
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    metrics_period_s: float = 15.0
    timeout_s: float = 5.0
    queue_spans: int = 8192
    batch_spans: int = 512
    events: EventOptions | None = None


class Telemetry:
    """Records in; spans, metrics and text out. Nothing here ever waits for a receiver but `stop`, and that is
    bounded.
    """

    content_type: ClassVar[str] = "text/plain; version=0.0.4; charset=utf-8"
    """What `prometheus` writes, for the header."""

    def __init__(
        self,
        options: TelemetryOptions | None = None,
        sources: Sequence[Source] = (),
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._options = options or TelemetryOptions()
        self._registry = Registry(sources, clock_ns=clock_ns)
        self._resource = {
            "service.name": "model-gateway",
            "service.version": gateway.__version__,
            "service.instance.id": self._options.instance_id,
        }
        self._text: PrometheusText | None = None
        self._otlp: OtlpExport | None = None
        if self._options.otlp is not None:
            self._otlp = self._make_otlp(self._options.otlp)
        self._events: EventSink | None = None
        if self._options.events is not None:
            self._events = self._make_events(self._options.events)

    def start(self) -> None:
        """Start exporting; without an OTLP endpoint there is nothing to start."""
        if self._otlp is not None:
            self._otlp.start()
        if self._events is not None:
            self._events.start()

    def consume(self, batch: Batch) -> None:
        """Count a batch and queue its traced calls. Called by one thread; does not raise, does not wait."""
        try:
            add_batch(batch, self._registry)
            if self._otlp is not None:
                self._otlp.put(batch)
            if self._events is not None:
                self._events.put(batch)
        except Exception:
            # Telemetry is not worth the thread that drains the data plane.
            logger.exception("a batch could not be counted")
            self._registry.drop("batch", "failed")

    def send_captures(self, batch: Batch) -> None:
        """Queue a batch's payloads as events and count nothing of it: its records were counted where they were made."""
        if self._events is not None:
            self._events.put(batch)

    def prometheus(self) -> bytes:
        """Everything as it stands, in Prometheus' text format 0.0.4."""
        if self._text is None:
            from gateway.telemetry.prometheus import PrometheusText

            self._text = PrometheusText(self._registry.collect, self._resource)
        return self._text.text()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is left within `timeout_s`; whatever receivers do, this returns two seconds later at
        most.
        """
        until = time.monotonic() + timeout_s
        if self._events is not None:
            self._events.finish()  # both at once: neither waits for the other's receiver
        if self._otlp is not None:
            self._otlp.stop(timeout_s)
        if self._events is not None:
            self._events.stop(max(0.0, until - time.monotonic()))

    def _make_events(self, options: EventOptions) -> EventSink:
        try:
            from gateway.telemetry.events import EventSink
        except ImportError as error:
            raise GatewayError(
                f"telemetry.events: the package {error.name} is not installed; "
                "pip install 'model-gateway[events]' brings it"
            ) from error
        registry = self._registry
        return EventSink(
            options,
            lambda reason, count: registry.drop("event", reason, count),
            lambda kind: registry.add("gateway.events", {"kind": kind}, 1),
        )

    def _make_otlp(self, endpoint: str) -> OtlpExport:
        from gateway.telemetry.otlp import OtlpExport

        return OtlpExport(
            endpoint,
            self._registry,
            self._resource,
            version=gateway.__version__,
            metrics_period_s=self._options.metrics_period_s,
            timeout_s=self._options.timeout_s,
            queue_spans=self._options.queue_spans,
            batch_spans=self._options.batch_spans,
        )


def certificate_source(certificates: Callable[[], Sequence[Mapping[str, Any]]]) -> Source:
    """How long the certificates in use are still good, by where the settings name them."""

    def points() -> list[Point]:
        now = time.time()
        return [
            Point(
                "gateway.certificate.expiry",
                one["not_after"] - now,
                {"setting": ".".join((*one["place"], one["setting"]))},
            )
            for one in certificates()
        ]

    return points


OVERLOADED: Final = {"backend": "attempt", "connections": "connection", "calls": "call"}
"""What is turned away, by whose limit was reached."""


def plane_source(counters: Callable[[], Mapping[str, int]], policy_version: Callable[[], int]) -> Source:
    """The data plane's own counters (`dropped.<what>.<reason>`, `in_flight`, `circuit.<backend>`) and the
    policy's version as points.
    """

    def points() -> list[Point]:
        found = [Point("gateway.policy.version", policy_version())]
        for name, value in counters().items():
            head, _, rest = name.partition(".")
            if name == "in_flight":
                found.append(Point("gateway.in_flight", value))
            elif head == "units":
                found.append(Point("gateway.units", value, {"what": rest}))
            elif head == "dropped":
                what, _, reason = rest.partition(".")
                found.append(Point("gateway.dropped", value, {"what": what, "reason": reason}))
            elif head == "overload":
                found.append(
                    Point("gateway.dropped", value, {"what": OVERLOADED[rest], "reason": "overload"})
                )
            elif head == "hedged":
                found.append(Point("gateway.hedges", value, {"result": rest}))
            elif head == "retried":
                found.append(Point("gateway.retries", value, {"reason": rest}))
            elif head == "cancelled":
                found.append(Point("gateway.cancelled", value))
            elif head == "circuit":
                found.extend(
                    Point("gateway.circuit.state", int(value == number), {"backend": rest, "state": state})
                    for number, state in enumerate(CIRCUIT_STATES)
                )
        return found

    return points
