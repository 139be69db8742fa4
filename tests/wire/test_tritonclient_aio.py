"""tritonclient's asyncio client and grpc.aio against the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows, said, triton_input
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, Silent, scores

pytestmark = pytest.mark.usefixtures("spare")


@pytest_asyncio.fixture
async def aio_client(client_gateway: GatewayProcess) -> AsyncIterator[triton_aio.InferenceServerClient]:
    client = triton_aio.InferenceServerClient(client_gateway.address)
    yield client
    await client.close()


def tensor(count: int) -> Any:
    return triton_input(rows(count), triton_aio.InferInput)


async def test_ready_and_metadata(aio_client: triton_aio.InferenceServerClient, main: ScriptedServer) -> None:
    """The asyncio client takes the route for a model."""
    assert await aio_client.is_server_live()
    assert await aio_client.is_model_ready("spam")
    assert (await aio_client.get_model_metadata("spam")).name == "spam"


async def test_many_calls_at_once_keep_their_answers(
    aio_client: triton_aio.InferenceServerClient, main: ScriptedServer
) -> None:
    """Two hundred streams of one connection: every caller gets its own answer, by its id."""
    main.reset(lambda message, context: scores(0.8 + int(message.id) / 1000)(message, context))

    async def one(number: int) -> None:
        result = await aio_client.infer("spam", [tensor(1)], request_id=str(number))
        assert result.get_response().id == str(number)
        assert result.as_numpy("probabilities")[0, 1] == pytest.approx(0.8 + number / 1000)

    await asyncio.gather(*(one(number) for number in range(200)))
    assert len(main.calls()) == 200


async def test_stream(aio_client: triton_aio.InferenceServerClient, main: ScriptedServer) -> None:
    """tritonclient's stream takes and gives iterators."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            yield {"model_name": "spam", "inputs": [tensor(1)], "request_id": str(number)}

    ids = []
    async for result, error in aio_client.stream_infer(requests()):
        assert error is None
        ids.append(result.get_response().id)
    assert ids == ["0", "1", "2"]


async def test_cancelled_call_is_cancelled_at_the_backend(
    client_gateway: GatewayProcess, main: ScriptedServer
) -> None:
    """A caller that goes away takes its call with it, so the model stops working for nobody."""
    gone: list[bool] = []
    silent = Silent()

    def watched(message: pb.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        context.add_callback(lambda: gone.append(True))
        return silent(message, context)

    main.reset(watched)
    async with grpc.aio.insecure_channel(client_gateway.address) as channel:
        infer = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        call = infer(request("spam", rows(1)))
        task = asyncio.ensure_future(call)
        await asyncio.to_thread(silent.wait_for, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(until, lambda: gone or None, "the backend's call ends")
    silent.release()


async def test_trailers_of_grpc_aio(client_gateway: GatewayProcess, main: ScriptedServer) -> None:
    """Plain grpc.aio sees the trailers."""
    async with grpc.aio.insecure_channel(client_gateway.address) as channel:
        infer = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        call = infer(request("spam", rows(1)), metadata=(("x-user-id", "u1"),))
        answer = await call
        told = said(list(await call.trailing_metadata()))
    assert (told["outcome"], told["reason"], told["backend"]) == ("model", "ok", "main")
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx([0.03, 0.97])
