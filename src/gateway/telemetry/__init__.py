"""Records become spans, metrics and text; what happens becomes structured logs.

In: batches of records (`Telemetry.consume`), and numbers that other rooms keep (`Source`, polled at
collection).
Out: OTLP traces and metrics by the SDK's exporters, the same metrics as Prometheus text, log lines; captured
payloads as CloudEvents.
Never: sits on a call's path, blocks whoever hands it a batch, lets a receiver hold up shutdown, or writes out
payloads that no route captures. What does not fit is dropped whole and counted in `gateway.dropped`.
"""

from gateway.telemetry.logs import configure_logs
from gateway.telemetry.registry import Point, Source
from gateway.telemetry.telemetry import (
    EventOptions,
    Telemetry,
    TelemetryOptions,
    certificate_source,
    plane_source,
)

__all__ = [
    "EventOptions",
    "Point",
    "Source",
    "Telemetry",
    "TelemetryOptions",
    "certificate_source",
    "configure_logs",
    "plane_source",
]
