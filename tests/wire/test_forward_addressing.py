"""Which model a backend is asked for is the policy's choice, whatever the caller's bytes say further on."""

from __future__ import annotations

import grpc
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, pb, scores

LONG = 200_000
"""Bytes of an input, so that the request is longer than what is held and searched."""


@pytest.mark.parametrize("hidden", [b"", pb.ModelInferRequest(model_name="secret").SerializeToString()])
def test_a_second_model_name_behind_a_long_tensor_reaches_nobody(hidden: bytes) -> None:
    """In protobuf the last value wins, and this one stands where the gateway no longer reads."""
    asked = request("spam", rows())
    padding = asked.inputs.add(name="padding", datatype="BYTES", shape=[1])
    padding.contents.bytes_contents.append(b"x" * LONG)
    with ScriptedServer() as server:
        server.reset(scores(0.9))
        policy = document([model("m", server.address), static()], [route(["m", "ham"])])
        with running(policy) as (_, channel):
            send = channel.unary_unary(INFER, None, pb.ModelInferResponse.FromString)
            answer = send(asked.SerializeToString() + hidden, timeout=10)
        [call] = server.calls()
    assert call.request.model_name == "spam"
    assert len(call.request.inputs[-1].contents.bytes_contents[0]) == LONG
    assert answer.model_name == "spam"


def test_a_name_hidden_in_a_short_request_is_the_one_that_is_routed() -> None:
    """A request that is read whole is routed by the name that its backend would see."""
    with ScriptedServer() as server:
        policy = document([model("m", server.address), static()], [route(["m", "ham"])])
        with running(policy) as (_, channel):
            send = channel.unary_unary(INFER, None, pb.ModelInferResponse.FromString)
            hidden = pb.ModelInferRequest(model_name="secret").SerializeToString()
            with pytest.raises(grpc.RpcError) as refused:
                send(request("spam", rows()).SerializeToString() + hidden, timeout=10)
        assert server.calls() == []
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "secret" in refused.value.details()
