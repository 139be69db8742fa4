"""What leaves a call beside its answer: shadows, captures, counts; and that none of it delays the call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, fail, pb, scores

REVIEW = {"queue": "moderation", "flagged": 1.0, "unflagged": 1.0, "capture": ["inputs"], "redact": []}


def mirror(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"to": "shadow", "share": 1.0, "max_in_flight": 64, "max_bytes": 4 << 20, "timeout_ms": 1000}
        | changes
    ]


@pytest.fixture(scope="module")
def main() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def shadow() -> Iterator[ScriptedServer]:
    with ScriptedServer(threads=64) as server:
        yield server


def policy(main: ScriptedServer, shadow: ScriptedServer, **changes: Any) -> dict[str, Any]:
    backends = [model("main", main.address), model("shadow", shadow.address, model="next"), static()]
    return document(backends, [route(["main", "ham"], **changes)])


def infer(channel: grpc.Channel, message: pb.ModelInferRequest | None = None) -> pb.ModelInferResponse:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    return ask(message or request("spam", rows()), timeout=10, metadata=[("x-own", "1")])


def mirrored(plane: RunningPlane, count: int) -> list[dict[str, Any]]:
    return plane.until(lambda drained: drained.rows("mirrors") >= count).each("mirrors")


def test_a_shadow_gets_the_same_call_and_is_compared_row_by_row(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9, 0.1))
    shadow.reset(scores(0.95, 0.7))
    with running(policy(main, shadow, mirror=mirror())) as (plane, channel):
        infer(channel, request("spam", rows(2)))
        first, second = mirrored(plane, 2)
        record = plane.records(2)[0]
    assert [call.request.model_name for call in shadow.calls()] == ["next"]
    assert shadow.calls()[0].metadata["gateway-shadow"] == "1"
    assert shadow.calls()[0].metadata["x-own"] == "1"
    assert shadow.calls()[0].request.inputs == main.calls()[0].request.inputs
    assert (first["agree"], first["row"], first["result"]) == (1, 0, 0)
    assert first["difference"] == pytest.approx(0.05)
    assert (second["agree"], second["row"]) == (0, 1)
    assert second["difference"] == pytest.approx(0.6)
    assert (first["id_hi"], first["id_lo"]) == (record["id_hi"], record["id_lo"])
    assert (first["backend"], first["to"], first["route"]) == (0, 1, 0)


def test_a_shadow_that_fails_is_counted_and_nothing_else(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9))
    shadow.reset(fail(grpc.StatusCode.INTERNAL))
    with running(policy(main, shadow, mirror=mirror())) as (plane, channel):
        infer(channel)
        [failed] = mirrored(plane, 1)
        assert plane.counted("dropped.mirror.error") == 1
    assert (failed["result"], failed["agree"]) == (1, 255)
    assert np.isnan(failed["difference"])


def test_a_black_holed_shadow_costs_the_call_nothing(main: ScriptedServer, shadow: ScriptedServer) -> None:
    """Its copies time out, the caps hold, and what does not fit is counted by reason."""
    main.reset(scores(0.9))
    silent = Silent(scores(0.9))
    shadow.reset(silent)
    with running(policy(main, shadow, mirror=mirror(max_in_flight=4, timeout_ms=400))) as (plane, channel):
        infer(channel)
        silent.wait_for(1)
        began = time.monotonic()
        for _ in range(50):
            infer(channel)
        took = time.monotonic() - began
        assert plane.counted("dropped.mirror.in_flight") >= 1
        assert plane.counted("dropped.mirror.timeout", 4) >= 4
        counts = plane.dataplane.counters()
    silent.release()
    assert took < 50 * 0.1
    assert counts["in_flight"] == 0


def test_copies_past_their_bytes_are_not_sent(main: ScriptedServer, shadow: ScriptedServer) -> None:
    main.reset(scores(0.9))
    shadow.reset(scores(0.9))
    with running(policy(main, shadow, mirror=mirror(max_bytes=10))) as (plane, channel):
        infer(channel)
        assert plane.counted("dropped.mirror.bytes") == 1
    assert shadow.calls() == []


def test_a_rejected_call_is_not_mirrored(main: ScriptedServer, shadow: ScriptedServer) -> None:
    main.reset(fail(grpc.StatusCode.INVALID_ARGUMENT))
    shadow.reset(scores(0.9))
    with running(policy(main, shadow, mirror=mirror())) as (plane, channel):
        with pytest.raises(grpc.RpcError):
            infer(channel)
        plane.records(1)
        main.reset(scores(0.9))
        infer(channel)
        mirrored(plane, 1)
    assert len(shadow.calls()) == 1


def large(megabytes: int) -> pb.ModelInferRequest:
    return request("spam", rows(1, (megabytes << 20) // 4))


def test_a_large_request_is_streamed_and_still_reaches_the_shadow_whole(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9))
    shadow.reset(scores(0.9))
    with running(policy(main, shadow, mirror=mirror())) as (plane, channel):
        infer(channel, large(1))
        mirrored(plane, 1)
    assert shadow.calls()[0].request.inputs == main.calls()[0].request.inputs
    assert shadow.calls()[0].request.model_name == "next"


def test_a_request_longer_than_what_is_kept_goes_without_shadow_and_fallback(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9))
    shadow.reset(scores(0.95))
    made = policy(main, shadow, mirror=mirror(max_bytes=64 << 20))
    made["routes"][0]["chain"] = ["main", "shadow", "ham"]
    with running(made) as (plane, channel):
        infer(channel, large(16))
        assert plane.counted("dropped.mirror.replay") == 1
        main.reset(scores(0.6))
        answer = infer(channel, large(16))
        assert plane.counted("dropped.fallback.replay") == 1
    assert answer.parameters["gateway_attempts"].string_param == "main:low_confidence,shadow:overload,ham:ok"
    assert shadow.calls() == []


def test_a_large_request_falls_back_as_long_as_it_is_kept(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.6))
    shadow.reset(scores(0.95))
    made = policy(main, shadow)
    made["routes"][0]["chain"] = ["main", "shadow"]
    with running(made) as (_, channel):
        answer = infer(channel, large(3))
    assert answer.parameters["gateway_attempts"].string_param == "main:low_confidence,shadow:ok"
    assert shadow.calls()[0].request.inputs == main.calls()[0].request.inputs


def test_what_is_sampled_is_captured_without_what_is_redacted(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9))
    message = request("spam", rows(2))
    message.inputs.add(name="email", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        [b"a@b", b"c@d"]
    )
    with running(policy(main, shadow, review=REVIEW | {"redact": ["inputs.email"]})) as (plane, channel):
        infer(channel, message)
        drained = plane.until(lambda drained: bool(drained.captures))
        records = plane.records(2)
    [capture] = drained.captures
    kept = pb.ModelInferRequest.FromString(capture["request"])
    assert [tensor.name for tensor in kept.inputs] == ["features"]
    assert b"a@b" not in capture["request"]
    assert pb.ModelInferResponse.FromString(capture["answer"]).outputs[0].name == "probabilities"
    assert (capture["rows"], capture["route"], capture["queue"], capture["policy"]) == (
        [0, 1],
        "spam",
        "moderation",
        7,
    )
    assert int.from_bytes(capture["id"], "big") == (records[0]["id_hi"] << 64) | records[0]["id_lo"]
    assert [record["sampled"] for record in records] == [1, 1]
    assert [record["review_pi"] for record in records] == [1.0, 1.0]
    assert [record["stratum"] for record in records] == [1, 1]


def test_captures_that_find_no_room_are_counted(main: ScriptedServer, shadow: ScriptedServer) -> None:
    main.reset(scores(0.9))
    with running(policy(main, shadow, review=REVIEW), capture_bytes=10) as (plane, channel):
        infer(channel)
        assert plane.counted("dropped.capture.full") == 1
        plane.records(1)
    assert plane.drained.captures == []


def test_records_that_find_no_room_are_counted_and_the_call_goes_on(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    main.reset(scores(0.9))
    with running(policy(main, shadow), ring_rows=2) as (plane, channel):
        for _ in range(3):
            infer(channel)
        assert plane.dataplane.counters()["dropped.records.full"] == 1
        assert len(plane.records(2)) == 2


def test_a_compressed_request_is_decided_and_renamed(main: ScriptedServer, shadow: ScriptedServer) -> None:
    """What is appended cannot stand behind compressed bytes, so the renamed request goes out inflated."""
    shadow.reset(scores(0.9))
    made = policy(main, shadow)
    made["routes"][0]["chain"] = ["shadow"]
    ask_by = grpc.Compression.Gzip
    with running(made) as (_, channel):
        ask = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        answer = ask(request("spam", np.zeros((1, 5000), np.float32)), timeout=10, compression=ask_by)
    assert answer.model_name == "spam"
    assert shadow.calls()[0].request.model_name == "next"


def test_a_quiet_plane_drains_nothing_and_says_so_in_time(
    main: ScriptedServer, shadow: ScriptedServer
) -> None:
    with running(policy(main, shadow)) as (plane, _):
        began = time.monotonic()
        assert plane.dataplane.drain(100) is None
        assert time.monotonic() - began >= 0.1
