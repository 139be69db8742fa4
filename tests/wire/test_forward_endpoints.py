"""Several endpoints of one backend: the load goes where it is served best, and nowhere that it is not."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.wire.clients import infer_by_grpcio
from tests.wire.gateway_process import free_ports, until
from tests.wire.http2 import GRPC, Http2Server, Stream, answer_fully
from tests.wire.plane import document, model, route, running
from tests.wire.servers import ScriptedServer, fail, scores

RETRY = {"attempts": 2, "methods": [], "budget_share": 0.2, "budget_per_s": 10.0, "jitter": 0.2}


def delayed(seconds: float) -> Any:
    def behave(message: Any, context: Any) -> bytes:
        time.sleep(seconds)
        return scores(0.9)(message, context)

    return behave


def statuses(channel: grpc.Channel, calls: int, threads: int = 8) -> list[str]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: infer_by_grpcio(channel, "spam").status, range(calls)))


def test_a_dead_endpoint_among_three_costs_no_call() -> None:
    """Nobody listens there: the other two share its load."""
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    with ScriptedServer() as one, ScriptedServer() as two:
        backends = [model("m", [one.address, dead, two.address])]
        with running(document(backends, [route(["m"])])) as (_, channel):
            assert set(statuses(channel, 300)) == {"OK"}
        assert min(len(one.calls()), len(two.calls())) > 75


def test_an_endpoint_that_dies_under_load_costs_no_call() -> None:
    """A call that it had begun is repeated elsewhere."""
    dying: list[Http2Server] = []

    def behave(stream: Stream) -> None:
        if stream.number > 20:
            dying[0].close()
            raise ConnectionResetError
        answer_fully(stream)

    echo = [Http2Server(behave), Http2Server(answer_fully), Http2Server(answer_fully)]
    dying.append(echo[0])
    with echo[0], echo[1], echo[2]:
        retry = RETRY | {"methods": ["/test.Echo/*"], "budget_per_s": 100}
        backends = [model("m", [server.address for server in echo], retry=retry)]
        with running(document(backends, default_backend="m")) as (_, channel), ThreadPoolExecutor(4) as pool:
            call = channel.unary_unary("/test.Echo/Unary")
            assert set(pool.map(lambda _: call(b"x", timeout=5), range(300))) == {b"x"}
    assert echo[0].streams < 40


def test_a_black_hole_costs_no_more_than_one_connect_timeout() -> None:
    """Whoever meets it goes to a connection that stands; only the first call of all has to wait."""
    with socket.socket() as hole, ScriptedServer() as good:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        address = f"127.0.0.1:{hole.getsockname()[1]}"
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", hole.getsockname()[1]))
        backends = [model("m", [address, good.address], warm=1)]
        with running(document(backends, [route(["m"])])) as (_, channel):
            infer_by_grpcio(channel, "spam")
            began = time.monotonic()
            assert set(statuses(channel, 100)) == {"OK"}
            assert time.monotonic() - began < 3.0
        for filler in fillers:
            filler.close()


def test_a_slow_endpoint_gets_less() -> None:
    with ScriptedServer(delayed(0.1)) as slow, ScriptedServer(delayed(0.002)) as fast:
        backends = [model("m", [slow.address, fast.address])]
        with running(document(backends, [route(["m"])])) as (_, channel):
            assert set(statuses(channel, 300)) == {"OK"}
        assert len(slow.calls()) < 45, f"{len(slow.calls())} of 300 went to the slow one"


def test_an_endpoint_that_fails_fast_does_not_draw_the_load() -> None:
    """It would be the fastest of all."""
    with ScriptedServer(fail(grpc.StatusCode.UNAVAILABLE)) as bad, ScriptedServer(delayed(0.01)) as good:
        backends = [model("m", [bad.address, good.address], retry=RETRY)]
        with running(document(backends, [route(["m"])])) as (_, channel):
            assert set(statuses(channel, 200)) == {"OK"}
        assert len(bad.calls()) < 30, f"{len(bad.calls())} of 200 went to the one that fails"


def test_a_new_endpoint_does_not_get_everything() -> None:
    """Until it has answered once it gets one call at a time, though nothing speaks against it yet."""
    held = threading.Event()

    def behave(message: Any, context: Any) -> bytes:
        held.wait(10)
        return scores(0.9)(message, context)

    with ScriptedServer(delayed(0.005)) as known, ScriptedServer(behave) as new:
        backends = [model("m", known.address)]
        made = document(backends, [route(["m"])])
        with running(made) as (plane, channel), ThreadPoolExecutor(9) as pool:
            assert set(statuses(channel, 20)) == {"OK"}
            both = document([model("m", [known.address, new.address])], [route(["m"])], version=8)
            plane.publish(both)
            calls = [pool.submit(infer_by_grpcio, channel, "spam") for _ in range(100)]
            until(lambda: sum(call.done() for call in calls) >= 98, "all but a few are done")
            assert len(new.calls()) <= 2
            held.set()
            assert {call.result().status for call in calls} == {"OK"}


def test_warm_connections_stand_before_the_first_call() -> None:
    with Http2Server(answer_fully) as server:
        made = document([model("m", server.address, warm=2)], default_backend="m")
        with running(made) as (plane, channel):
            until(lambda: server.connections == 2, "two connections")
            channel.unary_unary("/test.Echo/Unary")(b"x", timeout=5)
            assert server.connections == 2
            server.drop()
            until(lambda: server.connections == 4, "they are opened again without any call")
            plane.publish(document([model("m", "127.0.0.1:1")], default_backend="m", version=8))
            until(lambda: server.closed == server.connections, "they are closed without any call")


def test_connections_of_endpoints_that_stay_are_kept_when_others_change() -> None:
    """A reload moves nothing that it does not have to."""
    with Http2Server(answer_fully) as one, Http2Server(answer_fully) as two:
        with running(document([model("m", one.address, warm=1)], default_backend="m")) as (plane, channel):
            call = channel.unary_unary("/test.Echo/Unary")
            assert call(b"x", timeout=5) == b"x"
            both = model("m", [one.address, two.address], warm=1)
            plane.publish(document([both], default_backend="m", version=8))
            until(lambda: call(b"x", timeout=5) == b"x" and two.streams > 0, "the new one gets its share")
            plane.publish(document([model("m", two.address, warm=1)], default_backend="m", version=9))
            until(lambda: one.closed == one.connections, "what is gone is closed")
            assert call(b"x", timeout=5) == b"x"
        assert (one.connections, two.connections) == (1, 1)


def test_a_peer_that_stops_answering_is_left_after_one_call() -> None:
    """A ping follows the first call that ran out of time; the next ones go on a new connection."""
    stopped = threading.Event()

    def behave(stream: Stream) -> None:
        if stopped.is_set() and stream.on == 1:
            threading.Event().wait(20)
        answer_fully(stream)

    with (
        Http2Server(behave) as server,
        running(document([model("m", server.address)], default_backend="m")) as (_, channel),
    ):
        call = channel.unary_unary("/test.Echo/Unary")
        assert call(b"x", timeout=5) == b"x"
        stopped.set()

        def answered() -> bool:
            try:
                return bool(call(b"x", timeout=1.0) == b"x")
            except grpc.RpcError:
                return False

        began = time.monotonic()
        assert not answered()
        until(answered, "another connection")
        assert time.monotonic() - began < 6.0, "eight calls had to fail first"
        assert server.connections == 2


def test_a_slow_peer_that_answers_pings_keeps_its_connection() -> None:
    def behave(stream: Stream) -> None:
        stream.connection.send_headers(stream.id, GRPC)

    with (
        Http2Server(behave) as server,
        running(document([model("m", server.address)], default_backend="m")) as (_, channel),
    ):
        call = channel.unary_unary("/test.Echo/Unary")
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                call(b"x", timeout=1.0)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.connections == 1
        assert server.pings <= 1
