"""What once broke the data plane, a test each."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter

import h2.config
import h2.connection
import h2.settings

from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import until
from tests.wire.http2 import Http2Caller, Http2Server, answer_fully
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, answer, pb, scores

BODY = request("spam", rows()).SerializeToString()
SURE = [(0.03, 0.97)]


def framed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def test_compression_flag_without_an_encoding_is_a_miss() -> None:
    """Nobody could read such an answer: the next of the chain is asked."""

    def lies(stream) -> None:  # type: ignore[no-untyped-def]
        message = framed(answer(pb.ModelInferRequest.FromString(stream.body[5:]), SURE))
        answer_fully(stream, b"\1" + message[1:])

    with Http2Server(lies) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (_, channel):
            _, call = channel.unary_unary(INFER).with_call(BODY, timeout=3)
            said = dict(call.trailing_metadata())
    assert said["gateway-attempts"] == "a:invalid_output,ham:ok"


def test_an_endpoint_that_closes_what_it_accepts_takes_no_calls_from_a_good_one() -> None:
    """It always has the fewest calls under way; 139 of 200 went to it, each over a new connection."""
    accepted = []

    def close_all(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(1)
                connection.close()

    with ScriptedServer(scores(0.97)) as good, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=close_all, args=(listener,), daemon=True).start()
        both = [f"127.0.0.1:{listener.getsockname()[1]}", good.address]
        told: Counter[str] = Counter()
        with running(document([model("a", both), static()], [route(["a", "ham"])])) as (_, channel):
            for _ in range(20):
                calls = [channel.unary_unary(INFER).future(BODY, timeout=5) for _ in range(10)]
                for call in calls:
                    call.result()
                    told[dict(call.trailing_metadata())["gateway-outcome"]] += 1
        listener.shutdown(socket.SHUT_RDWR)
    assert told["model"] > 180, told
    assert len(accepted) < 20


def test_an_answer_nobody_reads_is_let_go_at_the_callers_deadline() -> None:
    """200 such answers held 420 MB until their connection closed."""

    def long_answer(asked: pb.ModelInferRequest, _: object) -> bytes:
        message = pb.ModelInferResponse.FromString(answer(asked, SURE))
        extra = message.outputs.add(name="embedding", datatype="BYTES", shape=[1])
        extra.contents.bytes_contents.append(b"x" * (1 << 20))
        return message.SerializeToString()

    with ScriptedServer(long_answer) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (plane, _):
            host, port = plane.address.rsplit(":", 1)
            caller = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            caller.initiate_connection()
            caller.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
            head = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": INFER}
            head |= {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "1S"}
            for _ in range(3):
                stream = caller.get_next_available_stream_id()
                caller.send_headers(stream, list(head.items()))
                caller.send_data(stream, framed(BODY), end_stream=True)
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(caller.data_to_send())
                under_way = lambda: plane.dataplane.counters()["in_flight"]  # noqa: E731
                until(lambda: under_way() == 3, "the calls under way")
                until(lambda: len(server.calls()) == 3, "their answers")
                until(lambda: under_way() == 0, "their end at the deadline")


def test_a_unit_of_any_bytes_is_sticky() -> None:
    """gRPC wants ASCII there, but who sends something else must not meet the model every other time."""
    identity = {"unit": {"metadata": "x-user-id"}, "segments": []}
    held_out = route(["a", "ham"], holdout={"share": 0.5, "answer": "ham"})
    policy = document([model("a", "127.0.0.1:1"), static()], [held_out], identity=identity)
    with running(policy) as (plane, _):
        caller = Http2Caller(plane.address)
        answers = [caller.call(INFER, framed(BODY), {"x-user-id": "café"}) for _ in range(20)]
        caller.close()
    assert len({one.trailers["gateway-outcome"] for one in answers}) == 1


def test_calls_that_share_a_hanging_backend_all_get_the_static_answer() -> None:
    """The route's time is up for all in one instant while their callers still wait; some got DEADLINE_EXCEEDED."""
    with Http2Server(lambda stream: None) as server:
        began = time.monotonic()
        policy = document([model("a", server.address), static()], [route(["a", "ham"], deadline_ms=300)])
        batch = request("spam", rows(10_000)).SerializeToString()
        with running(policy) as (_, channel):
            calls = [channel.unary_unary(INFER).future(batch, timeout=20) for _ in range(6)]
            told = Counter("static" if call.exception() is None else call.code().name for call in calls)
        assert time.monotonic() - began < 20
    assert told == {"static": 6}
