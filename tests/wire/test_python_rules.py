"""Rules in Python in a serving gateway: whatever a function does, other routes' calls do not notice."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, scores

MODULE = """\
import time

def good(request, segment):
    return request["rows"] > 2

def sleeps(request, segment):
    time.sleep(30)

def raises(request, segment):
    raise ValueError(request["metadata"]["x-secret"])

def spins(request, segment):
    while True:
        pass

def odd(request, segment, predictions):
    return [one["label"] == "spam" for one in predictions]
"""


def rule(name: str, otherwise: Any = False, on: str = "request", timeout_ms: int = 2000) -> dict[str, Any]:
    then = "next" if on == "prediction" else {"answer": "ham"}
    return {
        "name": name,
        "on": on,
        "python": f"mail_rules:{name}",
        "timeout_ms": timeout_ms,
        "otherwise": otherwise,
        "then": then,
    }


def settings(server: ScriptedServer) -> dict[str, Any]:
    def route(*rules: dict[str, Any]) -> dict[str, Any]:
        prediction = {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"}
        return {"chain": ["model", "ham"], "prediction": prediction, "rules": list(rules)}

    return {
        "backends": {"model": {"grpc": server.address}, "ham": {"answer": {"label": "ham", "score": 0.0}}},
        "routes": {
            "plain": route(),
            "good": route(rule("good")),
            "odd": route(rule("odd", on="prediction")),
            "sleeps": route(rule("sleeps", otherwise=True, timeout_ms=30)),
            "raises": route(rule("raises", otherwise=False)),
            "spins": route(
                rule("spins", otherwise={"reject": "UNAVAILABLE", "message": "later"}, timeout_ms=30)
            ),
        },
        "limits": {"python_waiting": 4},
    }


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(scores(0.9)) as started:
        yield started


@pytest.fixture(scope="module")
def process(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "mail_rules.py").write_text(MODULE)
    with GatewayProcess(folder, settings(server)) as started:
        yield started


@pytest.fixture
def channel(process: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(process.address, [("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


def start(channel: grpc.Channel, name: str, count: int = 1) -> Any:
    ask = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    return ask.future(request(name, rows(count)), timeout=20, metadata=[("x-secret", "hunter2")])


def said(call: Any) -> tuple[str, str]:
    trailers = dict(call.trailing_metadata())
    return trailers["gateway-outcome"], trailers["gateway-reason"]


def test_functions_judge_requests_and_predictions(channel: grpc.Channel) -> None:
    """The reason names the rule, as it does for one in CEL."""
    assert said(start(channel, "good")) == ("model", "ok")
    assert said(start(channel, "good", 3)) == (",".join(["static"] * 3), ",".join(["rule:good"] * 3))
    assert said(start(channel, "odd")) == ("static", "rule:odd")


def test_the_stated_answer_counts_where_a_function_has_none(
    process: GatewayProcess, channel: grpc.Channel
) -> None:
    """Late, raised, spinning: each counted, each in the log, and nothing of the call there."""
    assert said(start(channel, "sleeps")) == ("static", "rule:sleeps")
    assert said(start(channel, "raises")) == ("model", "ok")
    spun = start(channel, "spins")
    assert (spun.code(), spun.details()) == (grpc.StatusCode.UNAVAILABLE, "later")
    calls = [start(channel, "sleeps") for _ in range(50)]
    assert {said(call) for call in calls} == {("static", "rule:sleeps")}
    text = process.get("/metrics")[1]
    for reason in ("late", "failed", "full"):
        assert f'gateway_dropped_total{{reason="{reason}",what="python_rule"}}' in text
    until(
        lambda: "mail_rules:raises ValueError at mail_rules.py:10" in process.logged(),
        "a line for what was raised",
    )
    until(lambda: "mail_rules:sleeps did not answer in time" in process.logged(), "a line for what was late")
    assert "hunter2" not in process.logged()
    assert process.logged().count("mail_rules:sleeps") < 5


@pytest.mark.parametrize("name", ["sleeps", "raises", "spins"])
def test_other_routes_calls_are_as_quick_beside_a_function_that_misbehaves(
    channel: grpc.Channel, name: str
) -> None:
    """A function has no thread, no lock and no interpreter in common with them."""
    before = p99(channel)
    stop = threading.Event()
    asked = 0

    def misuse() -> None:
        nonlocal asked
        while not stop.is_set():
            start(channel, name).code()
            asked += 1

    threads = [threading.Thread(target=misuse) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        during = p99(channel)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert asked > 4
    print(f"{name}: p99 {before * 1e3:.1f} ms, beside it {during * 1e3:.1f} ms")
    assert during < max(5 * before, 0.15)


def p99(channel: grpc.Channel, calls: int = 300) -> float:
    took = []
    for _ in range(calls):
        begun = time.perf_counter()
        assert start(channel, "plain").code() == grpc.StatusCode.OK
        took.append(time.perf_counter() - begun)
    return sorted(took)[int(0.99 * calls)]


def test_a_reload_takes_new_code_and_keeps_the_old_when_it_is_faulty(
    server: ScriptedServer, process: GatewayProcess, channel: grpc.Channel
) -> None:
    """A slip in a module must not take the gateway's rules away."""
    module = process.file.parent / "mail_rules.py"
    module.write_text(MODULE.replace('request["rows"] > 2', 'request["rows"] > 0'))
    process.signal(signal.SIGHUP)
    until(lambda: said(start(channel, "good")) == ("static", "rule:good") or None, "the new code")
    module.write_text("def (\n")
    process.signal(signal.SIGHUP)
    until(
        lambda: "mail_rules cannot be imported: SyntaxError" in process.logged() or None,
        "the fault in the log",
    )
    assert said(start(channel, "good")) == ("static", "rule:good")
    module.write_text(MODULE)
    process.signal(signal.SIGHUP)
    until(lambda: said(start(channel, "good")) == ("model", "ok") or None, "the good code again")
