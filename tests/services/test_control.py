"""The control socket as a whole: who may connect, what it offers, how it starts and stops."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.errors import LedgerError
from gateway.services import Control
from gateway.services.access import Access
from gateway.services.batches import Batches
from gateway.services.changes import Changes
from gateway.services.fleet import FleetService
from gateway.services.sizes import MOST_REQUEST_BYTES
from gateway.v1 import feedback_pb2 as pb
from gateway.v1 import feedback_pb2_grpc, fleet_pb2
from tests.services.control_plane import Plane, receipt, running, verify

SERVICES = ["", "gateway.v1.FeedbackService", "gateway.v1.ReviewService"]


@pytest.mark.parametrize("service", SERVICES)
async def test_health_follows_whether_the_gateway_serves(plane: Plane, service: str) -> None:
    """Probes see NOT_SERVING while it drains."""
    stub = health_pb2_grpc.HealthStub(plane.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    plane.control.set_serving(False)
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_lists_the_services(plane: Plane) -> None:
    """grpcurl works without protos."""
    stub = reflection_pb2_grpc.ServerReflectionStub(plane.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {*SERVICES[1:], "grpc.health.v1.Health"} <= listed


async def test_only_this_user_may_connect(plane: Plane, tmp_path: Path) -> None:
    """Roles of callers are the data plane's to check; nobody goes round it."""
    assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600


async def test_it_can_be_started_again_where_it_was(tmp_path: Path) -> None:
    """A socket that was left over does not stop the next start."""
    for number in range(2):
        async with running(tmp_path) as plane:
            item = pb.FeedbackItem(receipt=receipt(number), positive=True)
            await plane.feedback.Submit(pb.SubmitFeedbackRequest(items=[item]))
        assert not (tmp_path / "control").exists()
        (tmp_path / "control").touch()
        (tmp_path / "control").unlink()


async def test_where_sidecars_push_large_batches_feedback_is_no_larger_than_elsewhere(tmp_path: Path) -> None:
    """Anybody may send it, and millions of empty items would be parsed before they are counted."""
    access = Access({})
    policies: Changes[fleet_pb2.FleetPolicy] = Changes()
    async with running(tmp_path) as plane:
        intake = Batches(plane.ledger)
        socket = str(tmp_path / "fleet")
        control = Control(
            socket,
            ledger=plane.ledger,
            verify=verify,
            classes=lambda _route: None,
            fleet=FleetService(intake, policies, lambda: access),
        )
        await control.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
                for size, code in (
                    (MOST_REQUEST_BYTES + 1_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
                    (MOST_REQUEST_BYTES - 1_000, grpc.StatusCode.INVALID_ARGUMENT),
                ):
                    item = pb.FeedbackItem(receipt="x" * size, positive=True)
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.Submit(pb.SubmitFeedbackRequest(items=[item]), timeout=20)
                    assert caught.value.code() == code
        finally:
            await control.stop(grace_s=0.5)


async def test_a_socket_that_cannot_be_made_is_said_at_start(plane: Plane, tmp_path: Path) -> None:
    """With the path in the words."""
    path = str(tmp_path / "none" / "control")
    control = Control(path, ledger=plane.ledger, verify=verify, classes=lambda _route: None)
    with pytest.raises(LedgerError, match="none/control"):
        await control.start()
    await control.stop(0)


async def test_an_unknown_method_is_unimplemented(plane: Plane) -> None:
    """The interceptor leaves alone what it does not know."""
    call = plane.channel.unary_unary("/gateway.v1.FeedbackService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(b"")
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
