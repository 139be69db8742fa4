"""What a sidecar without a receiver must not pay for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv._incubating.metrics import rpc_metrics
from opentelemetry.semconv.attributes import error_attributes, service_attributes

import gateway
from gateway.telemetry import instruments


def test_without_an_endpoint_neither_the_sdk_nor_a_server_is_imported() -> None:
    """Exporters and grpc cost about 25 MB, the Prometheus library 8: only who uses them pays."""
    script = (
        "import sys; from gateway.telemetry import Telemetry; t = Telemetry(); t.start(); t.stop();"
        "print([m for m in ('opentelemetry', 'grpc', 'prometheus_client', 'httpx', 'cloudevents') if m in sys.modules])"
    )
    source = str(Path(gateway.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout.strip() == "[]"


def test_names_are_those_of_the_installed_semantic_conventions() -> None:
    """They stand as text for the sake of memory; this keeps the text right."""
    assert instruments.RPC_SYSTEM_NAME == rpc_attributes.RPC_SYSTEM_NAME
    assert instruments.RPC_METHOD == rpc_attributes.RPC_METHOD
    assert instruments.RPC_STATUS_CODE == rpc_attributes.RPC_RESPONSE_STATUS_CODE
    assert instruments.ERROR_TYPE == error_attributes.ERROR_TYPE
    assert rpc_metrics.RPC_SERVER_CALL_DURATION in instruments.CATALOGUE
    assert rpc_metrics.RPC_CLIENT_CALL_DURATION in instruments.CATALOGUE
    assert service_attributes.SERVICE_NAME == "service.name"
    assert service_attributes.SERVICE_VERSION == "service.version"
    assert service_attributes.SERVICE_INSTANCE_ID == "service.instance.id"


def test_the_catalogue_is_what_was_promised() -> None:
    """Dashboards and alerts are written against these names; one more or one less is a change of the public face."""
    assert sorted(instruments.CATALOGUE) == [
        "gateway.alerts",
        "gateway.attempts",
        "gateway.autopilot.duration",
        "gateway.autopilot.failures",
        "gateway.cancelled",
        "gateway.certificate.expiry",
        "gateway.circuit.state",
        "gateway.confusion",
        "gateway.decisions",
        "gateway.deleted",
        "gateway.dropped",
        "gateway.events",
        "gateway.feedback",
        "gateway.feedback.pending",
        "gateway.feedback.resolved",
        "gateway.fleet.batches",
        "gateway.fleet.leader",
        "gateway.fleet.sidecars",
        "gateway.fleet.waiting",
        "gateway.gate",
        "gateway.hedges",
        "gateway.in_flight",
        "gateway.label_tool.age",
        "gateway.label_tool.answers",
        "gateway.label_tool.open",
        "gateway.label_tool.requests",
        "gateway.labels",
        "gateway.mirror",
        "gateway.mirror.difference",
        "gateway.overhead",
        "gateway.people.age",
        "gateway.people.calls",
        "gateway.people.late",
        "gateway.people.waiting",
        "gateway.policy.version",
        "gateway.precision",
        "gateway.recall",
        "gateway.retries",
        "gateway.review.age",
        "gateway.review.budget",
        "gateway.review.open",
        "gateway.review.share",
        "gateway.review.tasks",
        "gateway.review.workload",
        "gateway.units",
        "rpc.client.call.duration",
        "rpc.server.call.duration",
    ]


def test_statuses_are_those_of_grpc() -> None:
    """The list stands apart from grpc so that it need not be imported."""
    import grpc

    assert {code.value[0]: code.name for code in grpc.StatusCode} == dict(enumerate(instruments.STATUS_NAMES))
