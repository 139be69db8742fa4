"""gRPC health and reflection, where probes and grpcurl look for them: the inference port and the admin port."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.v1 import feedback_pb2, feedback_pb2_grpc, review_pb2, review_pb2_grpc
from tests.wire.gateway_process import GatewayProcess

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(params=["inference", "admin"])
def control(client_gateway: GatewayProcess, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    address = client_gateway.address if request.param == "inference" else client_gateway.admin
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.mark.parametrize("service", ["", "gateway.v1.FeedbackService", "gateway.v1.ReviewService"])
def test_health_says_serving(control: grpc.Channel, service: str) -> None:
    """A Kubernetes gRPC probe works against either port."""
    answer = health_pb2_grpc.HealthStub(control).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=5
    )
    assert answer.status == SERVING


def test_health_of_an_unknown_service_is_not_found(control: grpc.Channel) -> None:
    """A probe with a typing error fails loudly."""
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(control).Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_can_be_watched(control: grpc.Channel) -> None:
    """A stream that stays open, through the splice and through the data plane alike."""
    watch = health_pb2_grpc.HealthStub(control).Watch(health_pb2.HealthCheckRequest(), timeout=5)
    assert next(iter(watch)).status == SERVING
    watch.cancel()


def test_reflection_names_the_services(control: grpc.Channel) -> None:
    """grpcurl needs no proto files."""
    found = set(ProtoReflectionDescriptorDatabase(control).get_services())
    assert {"gateway.v1.FeedbackService", "gateway.v1.ReviewService", "grpc.health.v1.Health"} <= found


def test_the_admin_port_leads_to_nothing_that_wants_a_role(client_gateway: GatewayProcess) -> None:
    """It asks nobody who they are, and over its splice everybody would look as if he called from this machine."""
    request = review_pb2.StatsRequest()
    with grpc.insecure_channel(client_gateway.address) as channel:
        review_pb2_grpc.ReviewServiceStub(channel).Stats(request, timeout=5)
    with grpc.insecure_channel(client_gateway.admin) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            review_pb2_grpc.ReviewServiceStub(channel).Stats(request, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as refused:
            feedback_pb2_grpc.FeedbackServiceStub(channel).Submit(
                feedback_pb2.SubmitFeedbackRequest(), metadata=[("gateway-caller", "tls:anybody")], timeout=5
            )
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
