"""What operators do while callers call: rollouts, reloads, and model servers that die. No caller hears of it.

Short in everyday's run; `make faults` runs them at length.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.backend import BackendProcess
from tests.faults.load import Load, scaled
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, scores

PREDICTION = {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"}

pytestmark = pytest.mark.timeout(900)


def settings(address: str, **route: Any) -> dict[str, Any]:
    backends: dict[str, Any] = {
        "main": {"grpc": address, "model": "main"},
        "ham": {"answer": {"label": "ham", "score": 0.0}},
    }
    return {"backends": backends, "routes": {"spam": {"chain": ["main"], "prediction": PREDICTION, **route}}}


def test_a_rollout_under_load_fails_no_call(tmp_path: Path) -> None:
    """Two gateways behind one name are stopped and started in turn, by SIGTERM, while a client goes on calling."""
    with ScriptedServer(scores(0.9), threads=32) as server:
        pods = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            pods.append(GatewayProcess(tmp_path / name, settings(server.address)))
        with pods[0], pods[1], Load("ipv4:" + ",".join(pod.address for pod in pods), 10**9) as load:
            rounds = 0
            calls = scaled(4_000, 100_000)
            while load.done < calls or rounds < 2:
                pod = pods[rounds % 2]
                load.further(500)
                pod.signal(signal.SIGTERM)
                assert pod.terminated() == 0
                pod.start()
                rounds += 1
            load.stop()
    assert load.failed == {}
    assert load.done >= calls
    assert {answer.attempts for answer in load.answers} == {"main:ok"}
    print(f"{load.done} calls, {rounds} times SIGTERM, none failed")


def test_reloads_under_load_fail_no_call_and_each_call_sees_one_policy(tmp_path: Path) -> None:
    """The static answer's score tells which file a call was decided by, the trailer which version it says."""
    made = settings("127.0.0.1:1", chain=["ham"])
    with GatewayProcess(tmp_path, made) as process, Load(process.address, 10**9) as load:
        for at in range(scaled(12, 100)):
            made["backends"]["ham"]["answer"]["score"] = at / 1000
            process.write(made)
            process.signal(signal.SIGHUP)
            load.until(
                lambda at=at: any(answer.score == round(at / 1000, 4) for answer in load.answers),
                f"answers by file {at}",
            )
        load.stop()
        assert process.running()
    assert load.failed == {}
    versions: dict[int, set[float]] = {}
    for answer in load.answers:
        assert answer.policy == answer.param_policy
        versions.setdefault(answer.policy, set()).add(answer.score)
    assert all(len(seen) == 1 for seen in versions.values()), versions
    assert len(versions) >= scaled(12, 100)
    print(f"{load.done} calls, {len(versions)} policies, none failed")


def test_records_and_trailers_agree_on_the_policy() -> None:
    """A hundred policies in a row: each record under the one whose answer its caller got."""

    def policy(version: int) -> dict[str, Any]:
        ham = static() | {"score": version / 1000}
        return document([ham], [route(["ham"], confidence=None)], version=version)

    with running(policy(1)) as (plane, _):
        with Load(plane.address, 10**9) as load:
            for version in range(2, 102):
                plane.publish(policy(version))
                load.further(5)
            load.stop()
        plane.quiet()
        records = plane.records(load.done)
    assert load.failed == {}
    assert {(record["policy"], round(record["score"], 4)) for record in records} == {
        (answer.policy, answer.score) for answer in load.answers
    }
    assert all(record["score"] == pytest.approx(record["policy"] / 1000) for record in records)


def test_a_model_server_killed_under_load_fails_no_call() -> None:
    """kill -9, with a fallback: whatever was under way goes on along the chain, and comes back when the server does."""
    with BackendProcess(0.9) as main, BackendProcess(0.1) as spare:
        backends = [model("main", main.address), model("spare", spare.address)]
        policy = document(backends, [route(["main", "spare"])])
        with running(policy) as (plane, _), Load(plane.address, 10**9) as load:
            for _ in range(scaled(2, 20)):
                load.further(300)
                main.kill()
                before = fallbacks(load)
                load.until(lambda before=before: fallbacks(load) > before + 200, "fallbacks")
                main.start()
                models = load.done - fallbacks(load)
                load.until(
                    lambda models=models: load.done - fallbacks(load) > models + 200, "the model again"
                )
            load.stop()
    assert load.failed == {}
    assert {answer.score for answer in load.answers} == {0.9, 0.1}
    print(f"{load.done} calls, {fallbacks(load)} of them fallbacks, none failed")


def fallbacks(load: Load) -> int:
    return sum(count for answer, count in list(load.answers.items()) if answer.score == 0.1)


def test_a_draining_gateway_says_not_ready_before_it_refuses(tmp_path: Path) -> None:
    """Endpoints are told first: new calls on old connections and new connections are served for a while."""
    with (
        ScriptedServer(scores(0.9)) as server,
        GatewayProcess(tmp_path, settings(server.address)) as process,
        Load(process.address, 10**9) as load,
    ):
        load.further(50)
        process.signal(signal.SIGTERM)
        until(lambda: process.get("/readyz")[0] == 503, "not ready")
        before = load.done
        with Load(process.address, 20) as late:
            pass
        load.further(50)
        load.stop()
        assert load.done >= before + 50
    assert load.failed == {}
    assert late.failed == {}
