"""Spans and metrics as a real gRPC receiver gets them; and receivers that hang, die or never were."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from gateway.telemetry import Point, Telemetry, TelemetryOptions
from gateway.telemetry.spans import MOST_PIECES
from gateway.types import NO_STRING
from tests.telemetry.receiver import Receiver, attributes, eventually
from tests.telemetry.records import batch, traced_batch
from tests.telemetry.test_prometheus import key, samples

HI, LO = 0x0190_1234_5678_7ABC, 0x8123_4567_89AB_CDEF


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def hung() -> Iterator[Receiver]:
    one = Receiver(hang=True)
    yield one
    one.close()


def running(endpoint: str, *, points: tuple[Point, ...] = (), **options: float) -> Telemetry:
    chosen = TelemetryOptions(otlp=endpoint, instance_id="one", **options)  # type: ignore[arg-type]
    telemetry = Telemetry(chosen, [lambda: points])
    telemetry.start()
    return telemetry


def dropped_spans(telemetry: Telemetry) -> dict[str, float]:
    return {
        dict(labels)["reason"]: value
        for (name, labels), value in samples(telemetry.prometheus()).items()
        if name == "gateway_dropped_total" and ("what", "span") in labels
    }


def test_a_traced_call_arrives_as_a_server_span_with_a_client_span_per_attempt(receiver: Receiver) -> None:
    """Ids, parentage, times and the decision are those of the record."""
    telemetry = running(receiver.endpoint)
    call = {
        "id_hi": HI,
        "id_lo": LO,
        "trace_hi": 0xAAAA,
        "trace_lo": 0xBBBB,
        "span": 0x51,
        "parent": 0x50,
        "traced": 1,
        "outcome": 1,
        "reason": 1,
        "backend": 1,
        "label": 2,
        "score": 0.75,
    }
    telemetry.consume(
        batch(
            [{"traced": 0, "span": 0x99}, call],
            [
                {"record": 1, "backend": 0, "reason": 4, "status": 14, "span": 0x61},
                {"record": 0, "span": 0x98},
                {
                    "record": 1,
                    "backend": 1,
                    "span": 0x62,
                    "start_us": 1_760_000_000_001_400,
                    "duration_us": 90,
                },
            ],
        )
    )
    telemetry.stop()
    spans = {int.from_bytes(span.span_id): span for span in receiver.spans()}
    assert sorted(spans) == [0x51, 0x61, 0x62]
    server, missed, answered = spans[0x51], spans[0x61], spans[0x62]
    assert {span.trace_id.hex() for span in spans.values()} == {f"{0xAAAA:016x}{0xBBBB:016x}"}
    assert int.from_bytes(server.parent_span_id) == 0x50
    assert {missed.parent_span_id, answered.parent_span_id} == {server.span_id}
    assert (server.kind, missed.kind) == (server.SPAN_KIND_SERVER, missed.SPAN_KIND_CLIENT)
    assert server.name == "inference.GRPCInferenceService/ModelInfer"
    assert server.end_time_unix_nano - server.start_time_unix_nano == 1_500_000
    assert answered.start_time_unix_nano == 1_760_000_000_001_400_000
    assert attributes(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "gateway.decision.id": str(uuid.UUID(int=HI << 64 | LO)),
        "gateway.policy.version": 7,
        "gateway.route": "spam",
        "gateway.outcome": "fallback",
        "gateway.reason": "low_confidence",
        "gateway.backend": "spam-lite",
        "gateway.rows": 1,
        "gateway.prediction.score": 0.75,
        "gateway.prediction.label": "spam",
    }
    assert server.status.code == server.status.STATUS_CODE_UNSET
    assert missed.status.code == missed.status.STATUS_CODE_ERROR
    assert attributes(missed)["error.type"] == "UNAVAILABLE"
    assert attributes(missed)["gateway.reason"] == "backend_error"
    assert attributes(answered)["gateway.backend"] == "spam-lite"


def test_a_traced_call_of_a_method_too_long_to_keep_takes_no_other_with_it(receiver: Receiver) -> None:
    """Its text is not in the batch; the span says so."""
    telemetry = running(receiver.endpoint)
    calls = [{"traced": 1, "span": 0x51}, {"traced": 1, "span": 0x52, "method": NO_STRING}]
    telemetry.consume(batch([{**call, "trace_lo": 1} for call in calls]))
    telemetry.stop()
    names = {int.from_bytes(span.span_id): span.name for span in receiver.spans()}
    assert names == {0x51: "inference.GRPCInferenceService/ModelInfer", 0x52: "_OTHER"}


def test_a_batch_of_rows_is_one_span_without_a_prediction(receiver: Receiver) -> None:
    """Three rows are three decisions of one call; the span speaks for the call."""
    telemetry = running(receiver.endpoint)
    rows = [{"row": row, "rows": 3, "traced": 1, "trace_lo": 1, "span": 5, "score": 0.1} for row in range(3)]
    telemetry.consume(batch(rows))
    telemetry.stop()
    (span,) = receiver.spans()
    assert attributes(span)["gateway.rows"] == 3
    assert "gateway.prediction.score" not in attributes(span)
    assert span.parent_span_id == b""


def test_metrics_arrive_with_the_sums_that_the_text_shows(receiver: Receiver) -> None:
    """Both ways out render the same registry, with the resource and cumulative starts."""
    before = time.time_ns()
    points = (
        Point("gateway.labels", 40, {"source": "review"}, since_ns=77),
        Point("gateway.policy.version", 7),
    )
    telemetry = running(receiver.endpoint, points=points)
    for _ in range(3):
        telemetry.consume(
            batch([{"duration_us": 2000}, {"duration_us": 700_000, "outcome": 6, "status": 14}], [{}])
        )
    telemetry.stop()
    metrics = receiver.last_metrics()
    decisions = {
        attributes(point)["outcome"]: point for point in metrics["gateway.decisions"].sum.data_points
    }
    assert {outcome: point.as_int for outcome, point in decisions.items()} == {"model": 3, "error": 3}
    total = metrics["gateway.decisions"].sum
    assert total.is_monotonic
    assert total.aggregation_temporality == 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
    assert before <= decisions["model"].start_time_unix_nano <= decisions["model"].time_unix_nano
    spread = metrics["rpc.server.call.duration"]
    assert spread.unit == "s"
    by_status = {attributes(p)["rpc.response.status_code"]: p for p in spread.histogram.data_points}
    assert by_status["OK"].count == 3
    assert by_status["OK"].sum == pytest.approx(0.006)
    assert (by_status["OK"].min, by_status["OK"].max) == (0.002, 0.002)
    assert attributes(by_status["UNAVAILABLE"])["error.type"] == "UNAVAILABLE"
    (labels,) = metrics["gateway.labels"].sum.data_points
    assert (labels.as_int, labels.start_time_unix_nano) == (40, 77)
    assert metrics["gateway.policy.version"].gauge.data_points[0].as_int == 7
    resource = attributes(receiver.metrics[-1].resource_metrics[0].resource)
    assert resource["service.name"] == "model-gateway"
    assert resource["service.instance.id"] == "one"
    assert resource["service.version"]

    text = samples(telemetry.prometheus())
    assert text[key("gateway_decisions_total", route="spam", outcome="error", reason="ok")] == 3
    for point in spread.histogram.data_points:
        labels_of = {name.replace(".", "_"): value for name, value in attributes(point).items()}
        assert text[key("rpc_server_call_duration_seconds_sum", **labels_of)] == pytest.approx(point.sum)
        reached = 0
        for bound, count in zip((*point.explicit_bounds, "+Inf"), point.bucket_counts, strict=True):
            reached += count
            assert text[key("rpc_server_call_duration_seconds_bucket", **labels_of, le=str(bound))] == reached


def test_metrics_are_sent_every_period_without_being_asked(receiver: Receiver) -> None:
    """A receiver sees counts grow while the gateway runs, not only when it ends."""
    telemetry = running(receiver.endpoint, metrics_period_s=0.02)
    telemetry.consume(batch([{}]))
    eventually(lambda: len(receiver.metrics) >= 3)
    telemetry.stop()
    assert receiver.last_metrics()["gateway.decisions"].sum.data_points[0].as_int == 1


def test_a_hung_receiver_costs_counted_drops_only(hung: Receiver) -> None:
    """It takes requests and never answers: consuming stays quick, what does not fit is counted, stop is bounded."""
    telemetry = running(hung.endpoint, queue_spans=100, batch_spans=10, timeout_s=60, metrics_period_s=0.01)
    telemetry.consume(traced_batch(5, attempts_each=1))
    eventually(lambda: hung.taken >= 2)  # one export of spans and one of metrics hang from here on
    slowest = 0.0
    for step in range(50):
        one = traced_batch(20, attempts_each=1, first_id=100 * (step + 1))
        start = time.perf_counter()
        telemetry.consume(one)
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 1.0  # an export in the way would have taken its 60 s
    assert dropped_spans(telemetry) == {"queue_full": 50 * 40 - 100}
    start = time.perf_counter()
    telemetry.stop(timeout_s=0.2)
    assert time.perf_counter() - start < 5
    eventually(lambda: sum(dropped_spans(telemetry).values()) == 50 * 40 + 10)
    assert dropped_spans(telemetry)["shutdown"] == 110


def test_a_hung_receiver_loses_an_export_after_its_timeout_and_no_more(hung: Receiver) -> None:
    """The thread comes back by itself: the next export is tried anew."""
    telemetry = running(hung.endpoint, timeout_s=0.2)
    telemetry.consume(traced_batch(3))
    eventually(lambda: dropped_spans(telemetry) == {"export_failed": 6})
    telemetry.consume(traced_batch(1, first_id=50))
    eventually(lambda: dropped_spans(telemetry) == {"export_failed": 8})
    telemetry.stop(timeout_s=0.2)


def test_a_dead_receiver_costs_counted_drops_only() -> None:
    """Nobody listens at the address: consume and stop do not care."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    telemetry = running(endpoint, timeout_s=60)
    telemetry.consume(traced_batch(4))
    start = time.perf_counter()
    telemetry.stop(timeout_s=0.2)
    assert time.perf_counter() - start < 5
    eventually(lambda: sum(dropped_spans(telemetry).values()) == 8)


def test_calls_that_do_not_fit_are_left_out_whole(receiver: Receiver) -> None:
    """Half a trace would look like a call that had no attempts."""
    telemetry = Telemetry(TelemetryOptions(otlp=receiver.endpoint, queue_spans=10))
    telemetry.consume(traced_batch(7, attempts_each=2))  # three spans a call: three calls fit
    telemetry.start()
    telemetry.stop()
    spans = receiver.spans()
    assert len(spans) == 9
    assert sum(span.kind == span.SPAN_KIND_SERVER for span in spans) == 3
    assert dropped_spans(telemetry) == {"queue_full": 12}


def test_many_small_pieces_are_bounded_too(receiver: Receiver) -> None:
    """At a trickle each batch brings one traced call: what waits must not grow by array heads."""
    telemetry = Telemetry(TelemetryOptions(otlp=receiver.endpoint))
    for number in range(MOST_PIECES + 3):
        telemetry.consume(traced_batch(1, first_id=number + 1))
    assert dropped_spans(telemetry) == {"queue_full": 6}
    telemetry.start()
    telemetry.stop()
    assert len(receiver.spans()) == 2 * MOST_PIECES


def test_after_stop_batches_are_still_counted_and_spans_dropped(receiver: Receiver) -> None:
    """The last batches may come while the process ends; they must not raise or wait."""
    telemetry = running(receiver.endpoint)
    telemetry.stop()
    telemetry.consume(traced_batch(2))
    telemetry.stop()
    assert dropped_spans(telemetry) == {"queue_full": 4}


def test_a_telemetry_that_was_never_started_stops() -> None:
    """Shutdown after a start that failed half-way."""
    Telemetry(TelemetryOptions(otlp="http://127.0.0.1:1")).stop(timeout_s=0.1)
