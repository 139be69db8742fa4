"""The text that a Prometheus server reads: names by the convention, numbers as in the registry."""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import Point, Telemetry, TelemetryOptions
from tests.telemetry.records import batch

SPAM = {"route": "spam"}


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_names_units_and_totals_follow_the_convention() -> None:
    """Dashboards are written against these names."""
    points = [
        Point("gateway.precision", 0.93, {"route": "spam", "bound": "low"}),
        Point("gateway.review.age", 12.5, {"queue": "moderation"}),
        Point("gateway.confusion", 3.5, {"route": "spam", "cell": "tp", "weighted": True}),
        Point("gateway.in_flight", 2),
    ]
    telemetry = Telemetry(TelemetryOptions(instance_id="one"), [lambda: points])
    telemetry.consume(
        batch([{}, {"outcome": 1, "reason": 2, "rule": 1}], [{}], [{"agree": 1, "difference": 0.02}])
    )
    found = samples(telemetry.prometheus())
    assert found[key("gateway_precision_ratio", route="spam", bound="low")] == 0.93
    assert found[key("gateway_review_age_seconds", queue="moderation")] == 12.5
    assert found[key("gateway_confusion_total", route="spam", cell="tp", weighted="true")] == 3.5
    assert found[key("gateway_in_flight")] == 2
    assert found[key("gateway_decisions_total", route="spam", outcome="fallback", reason="rule:new")] == 1
    assert found[key("gateway_attempts_total", route="spam", backend="spam-v3", reason="ok")] == 1
    assert (
        found[
            key(
                "gateway_mirror_total",
                route="spam",
                to="spam-lite",
                result="agreed",
                noise="false",
                segment="",
            )
        ]
        == 1
    )
    assert (
        found[
            key(
                "gateway_mirror_difference_bucket",
                route="spam",
                to="spam-lite",
                noise="false",
                segment="",
                le="0.02",
            )
        ]
        == 1
    )
    assert (
        found[
            key(
                "gateway_mirror_difference_bucket",
                route="spam",
                to="spam-lite",
                noise="false",
                segment="",
                le="0.01",
            )
        ]
        == 0
    )
    assert found[key("gateway_overhead_seconds_count", route="spam")] == 2
    server = {
        "rpc_system_name": "grpc",
        "rpc_method": "inference.GRPCInferenceService/ModelInfer",
        "rpc_response_status_code": "OK",
    }
    assert found[key("rpc_server_call_duration_seconds_sum", **server)] == 0.003
    assert found[key("rpc_server_call_duration_seconds_bucket", **server, le="+Inf")] == 2
    target = next(labels for name, labels in found if name == "target_info")
    assert ("service_name", "model-gateway") in target
    assert ("service_instance_id", "one") in target


def test_names_from_outside_cannot_break_the_text() -> None:
    """A label's value may hold quotes, line breaks and backslashes."""
    odd = 'a"b\\c\nd'
    telemetry = Telemetry(sources=[lambda: [Point("gateway.labels", 1, {"source": odd})]])
    assert samples(telemetry.prometheus())[key("gateway_labels_total", source=odd)] == 1


def test_the_announced_content_type_is_the_one_written() -> None:
    """The constant stands apart from the library so that nothing is imported before the first scrape."""
    assert Telemetry.content_type == CONTENT_TYPE_PLAIN_0_0_4


def test_a_batch_that_cannot_be_read_is_counted_and_does_not_raise() -> None:
    """The thread that drains the data plane survives whatever telemetry thinks of a batch."""
    telemetry = Telemetry()
    telemetry.consume(batch([{"outcome": 250}]))
    assert samples(telemetry.prometheus())[key("gateway_dropped_total", what="batch", reason="failed")] == 1
