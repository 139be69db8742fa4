"""CloudEvents of captured payloads: what a receiver gets, and what a bad receiver costs (nothing but counted drops)."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from gateway.runtime.batch import Batch
from gateway.telemetry import EventOptions
from gateway.telemetry.events import MOST_WAIT_S, EventSink, retry_after_s
from tests.telemetry.event_receiver import EventReceiver, endless, first, garbage, nobody, say
from tests.telemetry.receiver import eventually

ID = uuid.UUID(int=7)


def capture(
    number: int = 7, request: bytes = b"\x0a\x04spam", answer: bytes = b"\x0a\x05spam3"
) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=number).bytes,
        "rows": [0, 3],
        "route": "spam",
        "queue": "moderation",
        "request": request,
        "answer": answer,
        "policy": 12,
        "time_us": 1_790_000_000_123_456,
    }


def batch(*captures: dict[str, Any]) -> Batch:
    return Batch({}, {}, {}, (), captures, {})


class Counts:
    """What a sink told of."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] += count

    def send(self, kind: str) -> None:
        self.sent[kind] += 1


@contextmanager
def sink(url: str, **options: Any) -> Iterator[tuple[EventSink, Counts]]:
    counts = Counts()
    made = EventSink(
        EventOptions(url, **{"timeout_s": 10.0, "retry_s": 20.0, **options}), counts.drop, counts.send
    )
    made.start()
    try:
        yield made, counts
    finally:
        made.stop(0.0)


def test_a_capture_is_two_events_of_kserves_types() -> None:
    """Consumers of KServe's logger read these very headers; the official SDK reads them back."""
    with EventReceiver() as receiver:
        with sink(receiver.url, token="t" * 16, namespace="fraud") as (made, counts):
            made.put(batch(capture()))
            eventually(lambda: counts.sent.total() == 2)
        assert not counts.dropped
    by_type = {one.headers["ce-type"]: one for one in receiver.posted}
    request = by_type["org.kubeflow.serving.inference.request"]
    response = by_type["org.kubeflow.serving.inference.response"]
    assert (request.body, response.body) == (b"\x0a\x04spam", b"\x0a\x05spam3")
    wanted = {
        "ce-specversion": "1.0",
        "ce-id": str(ID),
        "ce-source": "/model-gateway",
        "ce-time": "2026-09-21T14:13:20.123456Z",
        "ce-inferenceservicename": "spam",
        "ce-namespace": "fraud",
        "ce-component": "predictor",
        "ce-endpoint": "default",
        "ce-gatewaypolicy": "12",
        "ce-gatewayrows": "0,3",
        "content-type": "application/x-protobuf",
        "authorization": "Bearer " + "t" * 16,
    }
    for one in (request, response):
        assert one.path == "/events?from=gateway"
        assert {name: one.headers.get(name) for name in wanted} == wanted
        read = from_binary(HTTPMessage(one.headers, one.body), JSONFormat())
        data = read.get_data()  # bytes that happen to be UTF-8 become a text
        assert isinstance(data, str)
        assert (read.get_id(), data.encode()) == (str(ID), one.body)


def test_names_of_any_script_are_encoded_as_the_binding_says() -> None:
    """Percent-encoded UTF-8 (CloudEvents HTTP 1.0.2, 3.1.3.2): a header cannot be forged by a route's name."""
    with EventReceiver() as receiver:
        with sink(receiver.url, send=("request",)) as (made, counts):
            made.put(batch({**capture(), "route": 'sp\u00e4m "1"\r\nx: y'}))
            eventually(lambda: counts.sent.total() == 1)
        [one] = receiver.posted
    assert one.headers["ce-inferenceservicename"] == "sp%C3%A4m%20%221%22%0D%0Ax:%20y"
    assert "x" not in one.headers


def test_what_no_route_captures_does_not_leave() -> None:
    """A sampled call of a route without `capture` has an empty request; its answer stays here as well."""
    with EventReceiver() as receiver, sink(receiver.url) as (made, counts):
        made.put(batch(capture(1, request=b""), capture(2)))
        eventually(lambda: counts.sent.total() == 2)
    assert {one.headers["ce-id"] for one in receiver.posted} == {str(uuid.UUID(int=2))}


def test_connections_are_used_again() -> None:
    with EventReceiver() as receiver, sink(receiver.url, connections=2) as (made, counts):
        for number in range(50):
            made.put(batch(capture(number)))
        eventually(lambda: counts.sent.total() == 100)
    assert len({one.connection for one in receiver.posted}) <= 2


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_work_later_is_tried_again(status: int) -> None:
    """Each is sent until it is taken, the same each time, so that the receiver knows one it has."""
    with EventReceiver(first(2, say(status), say(200))) as receiver:
        with sink(receiver.url, send=("request",)) as (made, counts):
            made.put(batch(capture()))
            eventually(lambda: counts.sent.total() == 1)
        assert not counts.dropped
    assert len(receiver.posted) == 3
    assert len({(one.headers["ce-id"], one.headers["ce-type"], one.body) for one in receiver.posted}) == 1


def test_retry_after_is_kept() -> None:
    """A receiver that says when is not asked before."""
    with (
        EventReceiver(first(1, say(429, {"retry-after": "1"}), say(200))) as receiver,
        sink(receiver.url, send=("request",)) as (made, counts),
    ):
        began = time.monotonic()
        made.put(batch(capture()))
        eventually(lambda: counts.sent.total() == 1)
        took_s = time.monotonic() - began
    assert took_s >= 1.0


def test_retry_after_past_the_time_to_try_drops_at_once() -> None:
    """Waiting for what will not be tried again would hold room that others need."""
    with EventReceiver(say(429, {"retry-after": "3600"})) as receiver:
        with sink(receiver.url, send=("request",), retry_s=5.0) as (made, counts):
            began = time.monotonic()
            made.put(batch(capture()))
            eventually(lambda: counts.dropped["busy"] == 1)
            assert time.monotonic() - began < 4
        assert len(receiver.posted) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        ("99999999999999999999", MOST_WAIT_S),
        ("-1", None),
        ("soon", None),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("Mon, 21 Sep 2020 14:13:30 GMT", 0.0),
        ("Mon, 99 Sep 2026 14:13:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, 1_790_000_000.0) == seconds


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 501])
def test_a_refusal_is_not_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a redirect followed: payloads go to the url that was written down."""
    with EventReceiver(say(status, {"location": "http://127.0.0.1:1/"})) as receiver:
        with (
            caplog.at_level(logging.WARNING),
            sink(receiver.url, send=("request",), token="a-secret-of-some-length") as (made, counts),
        ):
            made.put(batch(capture()))
            eventually(lambda: counts.dropped["refused"] == 1)
        assert len(receiver.posted) == 1
    assert f"status {status}" in caplog.text
    assert "a-secret-of-some-length" not in caplog.text


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("hang", "timeout"),
        ("drip", "timeout"),
        ("garbage", "bad_answer"),
        ("500", "failed"),
        ("dead", "unreachable"),
    ],
)
def test_a_bad_receiver_costs_counted_drops(kind: str, reason: str) -> None:
    """Whatever it does: `put` returns at once, each event ends after `retry_s`, and none is lost without a count."""
    with EventReceiver() as receiver:
        answers = {"hang": receiver.hang, "drip": receiver.drip, "garbage": garbage, "500": say(500)}
        if kind in answers:
            receiver.answer(answers[kind])
        timeout_s = 0.3 if reason == "timeout" else 10.0
        url = nobody() if kind == "dead" else receiver.url
        with sink(url, connections=8, timeout_s=timeout_s, retry_s=0.4) as (made, counts):
            began = time.monotonic()
            for number in range(4):
                made.put(batch(capture(number)))
            put_s = time.monotonic() - began
            eventually(lambda: counts.dropped.total() == 8)
    assert put_s < 2, "nothing was waited for"
    assert set(counts.dropped) == {reason}, counts.dropped
    assert not counts.sent


def test_an_endless_answer_is_cut() -> None:
    """It was taken: the status said so; the rest is not read."""
    with (
        EventReceiver(endless) as receiver,
        sink(receiver.url, send=("request",)) as (made, counts),
    ):
        made.put(batch(capture()))
        eventually(lambda: counts.sent.total() == 1)


def test_room_is_bounded_by_number_and_by_bytes() -> None:
    """What is on its way counts too; what is dropped is dropped whole, and room comes back."""
    with EventReceiver() as receiver:
        receiver.answer(receiver.hang)
        options = {"timeout_s": 30.0, "retry_s": 60.0, "send": ("request",)}
        with sink(receiver.url, queue_events=10, **options) as (made, counts):
            for number in range(25):
                made.put(batch(capture(number)))
            assert counts.dropped == {"queue_full": 15}
            receiver.answer(say(200))
            receiver.release.set()
            eventually(lambda: counts.sent.total() == 10)
            made.put(batch(capture(99)))
            eventually(lambda: counts.sent.total() == 11)
    with EventReceiver() as receiver:
        receiver.answer(receiver.hang)
        with sink(receiver.url, queue_bytes=10_000, **options) as (made, counts):
            made.put(batch(*(capture(number, request=b"x" * 3000) for number in range(5))))
            assert counts.dropped == {"queue_full": 2}
            made.put(batch(capture(9, request=b"x" * 20_000)))
            assert counts.dropped == {"queue_full": 3}


def test_stopping_sends_what_waits() -> None:
    with EventReceiver() as receiver, sink(receiver.url) as (made, counts):
        made.put(batch(*(capture(number) for number in range(40))))
        made.stop(10.0)
        assert counts.sent.total() == 80
        made.put(batch(capture()))
        assert counts.dropped == {"shutdown": 2}


def test_stopping_with_a_receiver_that_hangs_is_bounded_and_counted() -> None:
    with EventReceiver() as receiver:
        receiver.answer(receiver.hang)
        with sink(receiver.url, timeout_s=30.0, retry_s=60.0, connections=2) as (made, counts):
            made.put(batch(*(capture(number) for number in range(5))))
            eventually(lambda: len(receiver.posted) == 2)
            began = time.monotonic()
            made.stop(0.2)
            assert time.monotonic() - began < 2.5
            assert counts.dropped == {"shutdown": 10}
            assert not counts.sent


def test_a_sink_that_never_started_counts_what_it_held() -> None:
    counts = Counts()
    made = EventSink(EventOptions("http://127.0.0.1:9/"), counts.drop, counts.send)
    made.put(batch(capture()))
    made.stop(0.1)
    assert counts.dropped == {"shutdown": 2}
