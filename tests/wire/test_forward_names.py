"""Backends that are known by a name: every address is an endpoint, and changes come without a call's noticing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.wire.http2 import Http2Server, answer_fully
from tests.wire.names import NXDOMAIN, NameServer
from tests.wire.plane import document, model, running

UNARY = "/test.Echo/Unary"
QUICK = {"min_ttl_s": 0.05, "max_ttl_s": 0.2}


def policy(names: NameServer, port: int, **changes: Any) -> dict[str, Any]:
    backends = [model("m", f"dns:models.test.:{port}", **changes)]
    return document(backends, default_backend="m", dns={"servers": [names.address], **QUICK})


def ask(channel: grpc.Channel) -> bytes:
    answer: bytes = channel.unary_unary(UNARY)(b"x", timeout=5)
    return answer


def until(good: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + 10
    while not good():
        assert time.monotonic() < deadline, words
        time.sleep(0.01)


def servers(*hosts: str) -> list[Http2Server]:
    """One on each loopback address, all on one port."""
    first = Http2Server(answer_fully, host=hosts[0])
    return [first, *(Http2Server(answer_fully, host=host, port=first.port) for host in hosts[1:])]


def test_every_address_of_a_name_is_an_endpoint() -> None:
    one, two = servers("127.0.0.1", "127.0.0.2")
    with (
        one,
        two,
        NameServer("127.0.0.1", "127.0.0.2") as names,
        running(policy(names, one.port)) as (_, channel),
    ):
        until(lambda: bool(ask(channel)) and min(one.streams, two.streams) > 0, "one address gets nothing")


def test_addresses_of_both_families_are_taken() -> None:
    four = Http2Server(answer_fully)
    with (
        four,
        NameServer("127.0.0.1", "::1") as names,
        Http2Server(answer_fully, host="::1", port=four.port) as six,
        running(policy(names, four.port)) as (_, channel),
    ):
        until(lambda: bool(ask(channel)) and min(four.streams, six.streams) > 0, "one family gets nothing")
        assert min(names.asked.values()) > 0


def test_addresses_come_and_go_under_load_and_no_call_fails() -> None:
    """What is gone ends with its last call, what is new is connected to first."""
    one, two, three = servers("127.0.0.1", "127.0.0.2", "127.0.0.3")
    stop, seen = threading.Event(), Counter[str]()
    with (
        one,
        two,
        three,
        NameServer("127.0.0.1", "127.0.0.2") as names,
        running(policy(names, one.port, warm=1)) as (_, channel),
    ):

        def load() -> None:
            while not stop.is_set():
                try:
                    seen[ask(channel).decode()] += 1
                except grpc.RpcError as error:
                    seen[f"{error.code().name} {error.details()}"] += 1

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: min(one.streams, two.streams) > 0, "not both answer")
        names.addresses = ["127.0.0.2", "127.0.0.3"]
        until(lambda: three.streams > 0, "the new one gets nothing")
        until(lambda: one.closed == one.connections, "the old one keeps its connections")
        before = one.streams
        names.addresses = ["127.0.0.1", "127.0.0.3"]
        until(lambda: one.streams > before and two.closed == two.connections, "it does not come back")
        stop.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {"x"}, seen


def test_a_name_that_cannot_be_resolved_keeps_what_it_stood_for() -> None:
    with (
        Http2Server(answer_fully) as server,
        NameServer("127.0.0.1") as names,
        running(policy(names, server.port)) as (_, channel),
    ):
        assert ask(channel) == b"x"
        for code, addresses in [(NXDOMAIN, ["127.0.0.1"]), (0, [])]:
            names.code, names.addresses = code, addresses
            asked = names.asked[1]
            until(lambda asked=asked: names.asked[1] > asked + 2, "it is not asked for again")
            assert ask(channel) == b"x"
        assert server.connections == 1


def test_a_name_that_comes_late_is_waited_for_within_the_deadline_and_told_of() -> None:
    with Http2Server(answer_fully) as server, NameServer() as names:
        names.code = NXDOMAIN
        with running(policy(names, server.port)) as (_, channel):
            with pytest.raises(grpc.RpcError) as caught:
                ask(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "models.test. cannot be resolved" in (caught.value.details() or "")
            names.code, names.addresses = 0, ["127.0.0.1"]

            def answered() -> bool:
                try:
                    return ask(channel) == b"x"
                except grpc.RpcError:
                    return False

            until(answered, "the name is there, and nobody asks for it")


def test_a_backend_that_nobody_uses_any_more_is_not_asked_for() -> None:
    with Http2Server(answer_fully) as server, NameServer("127.0.0.1") as names:
        made = policy(names, server.port, warm=1)
        with running(made) as (plane, channel):
            assert ask(channel) == b"x"
            plane.publish(document([model("m", server.address)], default_backend="m", version=8))
            until(lambda: server.closed == server.connections, "its connections stay open")
            asked = dict(names.asked)
            time.sleep(0.5)
            assert names.asked == asked


def test_localhost_needs_no_name_server() -> None:
    """The system's own configuration, hosts file included."""
    with Http2Server(answer_fully) as server:
        backends = [model("m", f"dns:localhost:{server.port}")]
        with running(document(backends, default_backend="m")) as (_, channel):
            assert ask(channel) == b"x"
