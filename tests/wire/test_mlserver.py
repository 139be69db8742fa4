"""MLServer from PyPI behind the gateway, with a scikit-learn model, called by unmodified clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb

from tests.wire.clients import INFER, request, rows, said, triton_input
from tests.wire.gateway_process import GatewayProcess
from tests.wire.mlserver import FEATURES, MODEL, MLServerProcess

# Its environment may have to be made first, and MLServer takes its time to start.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OUTPUT = "predict_proba"


@pytest.fixture(scope="module")
def gateway(mlserver: MLServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Route `tumour` over MLServer's model `cancer`: FP64 scores, no floor."""
    settings = {
        "backends": {
            "real": {"grpc": mlserver.address, "model": MODEL},
            "unknown": {"answer": {"label": "malignant", "score": 0.0}},
        },
        "routes": {
            "tumour": {
                "chain": ["real", "unknown"],
                "prediction": {
                    "scores": OUTPUT,
                    "classes": ["malignant", "benign"],
                    "positive": "benign",
                    "datatype": "FP64",
                },
                "check": {"range": [0, 1], "sum": 1.0},
            }
        },
    }
    with GatewayProcess(tmp_path_factory.mktemp("mlserver-gateway"), settings) as process:
        yield process


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(gateway.address)
    yield client
    client.close()


def test_ready(client: triton.InferenceServerClient) -> None:
    """Server and model, by the route's name."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tumour")


def test_metadata(client: triton.InferenceServerClient) -> None:
    """MLServer's own description of the model, under the route's name."""
    metadata = client.get_model_metadata("tumour")
    assert metadata.name == "tumour"
    assert [(tensor.name, list(tensor.shape)) for tensor in metadata.inputs] == [("features", [-1, FEATURES])]
    assert client.get_server_metadata().name == "mlserver"


@pytest.mark.parametrize("count", [1, 5])
def test_infer_gives_what_mlserver_gives(
    client: triton.InferenceServerClient, mlserver: MLServerProcess, count: int
) -> None:
    """One row and a batch: the numbers are the model's, to the last bit; each row has its decision."""
    values = rows(count, FEATURES)
    direct = triton.InferenceServerClient(mlserver.address)
    expected = direct.infer(MODEL, [triton_input(values)]).as_numpy(OUTPUT)
    direct.close()
    result = client.infer("tumour", [triton_input(values)], request_id="r1")
    assert np.array_equal(result.as_numpy(OUTPUT), expected)
    assert result.get_response().model_name == "tumour"
    told = {name: value.string_param for name, value in result.get_response().parameters.items()}
    assert told["gateway_outcome"] == ",".join(["model"] * count)
    assert told["gateway_backend"] == "real"


def test_typed_contents_of_grpcio(gateway: GatewayProcess) -> None:
    """Plain grpcio with typed contents gets typed FP64 scores, which the route reads as well."""
    with grpc.insecure_channel(gateway.address) as channel:
        infer = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        answer, rpc = infer.with_call(request("tumour", rows(2, FEATURES)), timeout=10)
    assert len(answer.outputs[0].contents.fp64_contents) == 4
    told = said(rpc.trailing_metadata())
    assert (told["outcome"], told["reason"]) == ("model,model", "ok,ok")


async def test_tritonclient_aio(gateway: GatewayProcess) -> None:
    """The asyncio client, same answers."""
    client = triton_aio.InferenceServerClient(gateway.address)
    assert await client.is_model_ready("tumour")
    tensor = triton_input(rows(3, FEATURES), triton_aio.InferInput)
    result = await client.infer("tumour", [tensor])
    await client.close()
    assert result.as_numpy(OUTPUT).shape == (3, 2)


async def test_stream(gateway: GatewayProcess) -> None:
    """MLServer's stream answers with plain `ModelInferResponse`s, not with Triton's wrapper: it passes as it is."""

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        yield request("tumour", rows(1, FEATURES))

    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        answers = [answer async for answer in stream(requests(), timeout=10)]
    assert [answer.outputs[0].name for answer in answers] == [OUTPUT]


def test_bad_shape_is_the_callers_own_error(client: triton.InferenceServerClient) -> None:
    """MLServer fails with INTERNAL on a wrong width, which is a miss: the static answer stands in, and says why."""
    result = client.infer("tumour", [triton_input(rows(1, 3))])
    told = {name: value.string_param for name, value in result.get_response().parameters.items()}
    assert (told["gateway_outcome"], told["gateway_reason"]) == ("static", "backend_error")
    assert result.as_numpy(OUTPUT).dtype == np.float64
