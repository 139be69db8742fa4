"""The control socket as a whole: who may connect, what it offers, how it starts and stops."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.cli.control_process import ControlProcess
from gateway.errors import LedgerError
from gateway.ledger import Kept, Ledger, Limits, PendingRow, RouteClasses, Truth
from gateway.services import Control
from gateway.services.access import Access
from gateway.services.asking import Asking
from gateway.services.batches import Batches
from gateway.services.changes import Changes
from gateway.services.fleet import FleetService
from gateway.v1 import feedback_pb2 as pb
from gateway.v1 import feedback_pb2_grpc, fleet_pb2
from tests.ledger.making import CLASSES, NOW_US, Clock, decision, sampled
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


MOST_BYTES = 4 * 1024 * 1024


async def test_where_sidecars_push_large_batches_feedback_is_no_larger_than_elsewhere(tmp_path: Path) -> None:
    """Anybody may send it, and a server has one bound for all of its services: that of a batch is no larger."""
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
            fleet=FleetService(intake, policies, lambda: access, Asking(plane.ledger)),
        )
        await control.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
                for size, code in (
                    (MOST_BYTES + 1_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
                    (MOST_BYTES - 1_000, grpc.StatusCode.INVALID_ARGUMENT),
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


async def test_what_waits_is_not_judged_before_a_policy_is_in_force(tmp_path: Path) -> None:
    """A control that was away for long comes back: until it knows its routes, it must give nothing up."""
    clock = Clock()
    known: dict[str, RouteClasses] = {}
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01), clock)
    ledger.open()
    control = Control(str(tmp_path / "control"), ledger=ledger, verify=verify, classes=known.get)
    try:
        waits = PendingRow(decision(1), 0, "crm", Truth(label="spam"), NOW_US, NOW_US + 1)
        assert ledger.submit_feedback([], [waits]).result() == ([], [Kept.PENDING])
        ledger.write_batch(sampled(1))
        assert ledger.flush()
        clock.pass_s(3600)
        await control.start()
        await asyncio.sleep(0.3)
        known["spam"] = CLASSES
        control.set_serving(True)
        async with asyncio.timeout(10):
            while not control.waiting.kept + control.waiting.dropped:
                await asyncio.sleep(0.01)
        assert (control.waiting.kept, +control.waiting.dropped) == ({"accepted": 1}, {})
    finally:
        await control.stop(grace_s=0.1)
        ledger.close()


async def test_feedback_that_comes_before_the_first_policy_may_be_sent_again(
    plane: Plane, tmp_path: Path
) -> None:
    """A route that is not known yet is no fault of the label: refused for good, the truth would be lost."""
    intake = plane.control.feedback._intake
    ready, intake.classes = intake.classes, ControlProcess(tmp_path / "settings.yaml", ())._classes
    items = [pb.FeedbackItem(receipt=receipt(number), label="spam") for number in (1, 2)]
    with pytest.raises(grpc.aio.AioRpcError, match="no policy is in force yet") as raised:
        await plane.feedback.Submit(pb.SubmitFeedbackRequest(items=items))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    intake.classes = ready
    answer = await plane.feedback.Submit(pb.SubmitFeedbackRequest(items=items))
    assert {result.status for result in answer.results} == {pb.FeedbackResult.ACCEPTED}
