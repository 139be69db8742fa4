"""Whether a model could answer: by its endpoints, its circuit, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.wire.clients import INFER, infer_by_grpcio, request, rows
from tests.wire.gateway_process import GatewayProcess, free_ports, until
from tests.wire.plane import RunningPlane, document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, fail

CIRCUIT = {"failures": 7, "success_rate": 0.5, "min_calls": 100, "probe_first_s": 0.5, "probe_last_s": 60}
ANSWER = health_pb2.HealthCheckResponse


@contextmanager
def plane(*backends: dict[str, Any], chain: list[str], **changes: Any) -> Iterator[tuple[RunningPlane, Any]]:
    made = route(chain, name="mail", match={"model": "spam", "method": None, "metadata": {}}, **changes)
    with running(document([*backends, static()], [made])) as (running_plane, channel):
        yield running_plane, channel


def dead() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_route_and_its_model_are_known_by_name() -> None:
    """A backend that nobody has tried counts as reachable."""
    with plane(model("m", dead()), chain=["m"]) as (running_plane, _):
        assert running_plane.dataplane.health() == {"mail": True, "spam": True}


def test_a_route_whose_only_model_cannot_be_reached_is_not_well_until_it_can() -> None:
    """Found out without any call, as nobody calls what is not well."""
    port = free_ports(1)[0]
    with plane(model("m", f"127.0.0.1:{port}", warm=1), chain=["m"]) as (running_plane, _):
        until(lambda: not running_plane.dataplane.health()["spam"], "it cannot be reached")
        with ScriptedServer(port=port):
            until(lambda: running_plane.dataplane.health()["spam"], "it can be reached")


def test_a_static_answer_or_another_model_makes_it_well() -> None:
    with ScriptedServer() as server:
        broken, good = model("m", dead(), warm=1), model("n", server.address, warm=1)
        for chain in (["m", "ham"], ["m", "n"]):
            with plane(broken, good, chain=chain) as (running_plane, channel):
                infer_by_grpcio(channel, "spam")
                assert running_plane.dataplane.health()["spam"]


def test_the_kill_switch_leaves_the_static_answer_alone() -> None:
    with ScriptedServer() as server:
        for chain, well in ((["m", "ham"], True), (["m"], False)):
            with plane(model("m", server.address), chain=chain, kill_switch=True) as (running_plane, _):
                assert running_plane.dataplane.health()["spam"] is well


def test_an_open_circuit_is_not_well_until_a_probe_is_due() -> None:
    """Else who balances by health would never send the call that closes it."""
    with (
        ScriptedServer(fail(grpc.StatusCode.INTERNAL)) as server,
        plane(model("m", server.address, circuit=CIRCUIT), chain=["m"]) as (running_plane, channel),
    ):
        for _ in range(7):
            infer_by_grpcio(channel, "spam")
        assert not running_plane.dataplane.health()["spam"]
        until(lambda: running_plane.dataplane.health()["spam"], "a probe is due")


def test_readiness_of_the_model_and_the_server_follows() -> None:
    """tritonclient asks them; they go to the first model server, and where it cannot answer the gateway does."""
    with (
        ScriptedServer() as server,
        plane(model("m", server.address, warm=1), chain=["m", "ham"]) as (running_plane, _),
    ):
        client = triton.InferenceServerClient(running_plane.address)
        server.ready = False
        assert not client.is_model_ready("spam")
        assert not client.is_server_ready()
        server.stop()

        def ready() -> bool:
            try:
                return bool(client.is_model_ready("spam") and client.is_server_ready())
            except triton.InferenceServerException:
                return False

        until(ready, "the static answer makes it ready")
        client.close()


def test_limits_are_not_for_questions_about_health() -> None:
    """A full backend is no reason to be restarted."""
    silent, message = Silent(), request("spam", rows()).SerializeToString()
    with (
        ScriptedServer(silent) as server,
        plane(model("m", server.address, max_in_flight=1), chain=["m"]) as (running_plane, channel),
    ):
        held = channel.unary_unary(INFER).future(message, timeout=10)
        silent.wait_for(1)
        client = triton.InferenceServerClient(running_plane.address)
        assert infer_by_grpcio(channel, "spam").said["attempts"] == "m:overload"
        assert client.is_model_ready("spam")
        assert client.is_server_ready()
        client.close()
        silent.release()
        held.result()


def test_both_ports_answer_for_each_model(tmp_path: Path) -> None:
    """As Kubernetes and Envoy ask: Check and Watch by the name of the route or of the model."""
    port = free_ports(1)[0]
    settings = {
        "backends": {"m": {"grpc": f"127.0.0.1:{port}"}, "ham": {"answer": {"label": "ham"}}},
        "routes": {
            "mail": {"match": {"model": "spam"}, "chain": ["m"]},
            "safe": {
                "chain": ["m", "ham"],
                "prediction": {"label": "label", "classes": ["ham", "spam"], "positive": "spam"},
            },
        },
    }
    with GatewayProcess(tmp_path, settings) as gateway:
        for address in (gateway.address, gateway.admin):
            with grpc.insecure_channel(address) as channel:
                stub = health_pb2_grpc.HealthStub(channel)

                def status(name: str, stub: Any = stub) -> Any:
                    return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status

                until(lambda status=status: status("spam") == ANSWER.NOT_SERVING, "nobody listens there")
                assert (status("mail"), status("safe"), status("")) == (
                    ANSWER.NOT_SERVING,
                    ANSWER.SERVING,
                    ANSWER.SERVING,
                )
        with grpc.insecure_channel(gateway.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="mail"), timeout=30
            )
            assert next(watch).status == ANSWER.NOT_SERVING
            with ScriptedServer(port=port):
                assert next(watch).status == ANSWER.SERVING
            watch.cancel()
        assert 'gateway_circuit_state{backend="m",state="closed"} 1' in gateway.get("/metrics")[1]
