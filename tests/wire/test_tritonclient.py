"""tritonclient as it comes from PyPI takes the gateway for a model server."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.wire.clients import rows, triton_input
from tests.wire.servers import ScriptedServer, fail, scores

pytestmark = pytest.mark.usefixtures("spare")


def parameters(result: Any) -> dict[str, str]:
    return {name: value.string_param for name, value in result.get_response().parameters.items()}


def test_server_and_model_are_live_and_ready(
    client: triton.InferenceServerClient, main: ScriptedServer
) -> None:
    """Health checks of a client follow the model behind the route."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("spam")
    asked = [call.request for call in main.calls("ModelReady")]
    assert [message.name for message in asked] == ["spam_v3"]


def test_model_that_is_not_ready_is_shown_as_such(
    client: triton.InferenceServerClient, main: ScriptedServer
) -> None:
    """The gateway does not make a model ready that is not."""
    main.ready = False
    assert not client.is_model_ready("spam")


def test_metadata_is_that_of_the_model_under_the_routes_name(
    client: triton.InferenceServerClient, main: ScriptedServer
) -> None:
    """The route looks like a model: inputs and outputs of the backend, the name that was asked for."""
    metadata = client.get_model_metadata("spam")
    assert metadata.name == "spam"
    assert [tensor.name for tensor in metadata.inputs] == ["features"]
    assert [tensor.name for tensor in metadata.outputs] == ["probabilities"]


def test_infer_reaches_the_backends_model_and_comes_back_as_the_route(
    client: triton.InferenceServerClient, main: ScriptedServer
) -> None:
    """The backend is asked for its own model's name; the caller's tensors arrive as sent; the id is kept."""
    sent = rows(1)
    result = client.infer("spam", [triton_input(sent)], request_id="call-7", headers={"x-user-id": "u1"})
    assert result.as_numpy("probabilities").tolist() == [[pytest.approx(0.03), pytest.approx(0.97)]]
    assert result.as_numpy("label").tolist() == [b"spam"]
    response = result.get_response()
    assert (response.model_name, response.id) == ("spam", "call-7")
    (call,) = main.calls()
    assert call.request.model_name == "spam_v3"
    assert call.request.raw_input_contents[0] == sent.tobytes()
    assert call.metadata["x-user-id"] == "u1"
    assert not [name for name in call.metadata if name.startswith("gateway-unit")]


def test_batch_keeps_its_rows(client: triton.InferenceServerClient, main: ScriptedServer) -> None:
    """One call, three decisions."""
    main.reset(scores(0.9, 0.1, 0.95))
    result = client.infer("spam", [triton_input(rows(3))])
    assert result.as_numpy("probabilities")[:, 1].tolist() == pytest.approx([0.9, 0.1, 0.95])
    assert parameters(result)["gateway_outcome"] == "model,model,model"


def test_fallback_looks_like_the_model(
    client: triton.InferenceServerClient, main: ScriptedServer, spare: ScriptedServer
) -> None:
    """A dead model is not the caller's failure."""
    main.reset(fail(grpc.StatusCode.UNAVAILABLE))
    result = client.infer("spam", [triton_input(rows(2))])
    assert result.as_numpy("probabilities")[:, 1].tolist() == pytest.approx([0.03, 0.03])
    assert result.get_response().model_name == "spam"
    assert spare.calls()[0].request.model_name == "spam_lite"
    assert parameters(result)["gateway_backend"] == "spare"


def test_static_answer_is_raw_where_the_request_was(
    client: triton.InferenceServerClient, main: ScriptedServer, spare: ScriptedServer
) -> None:
    """tritonclient sends raw contents and reads them; the static answer is laid out so, shaped by the rows."""
    main.reset(scores(0.6))
    spare.reset(scores(0.6))
    result = client.infer("spam", [triton_input(rows(2))])
    assert result.as_numpy("probabilities").tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert parameters(result)["gateway_outcome"] == "static,static"


def test_async_infer_calls_back(client: triton.InferenceServerClient, main: ScriptedServer) -> None:
    """tritonclient's callback interface."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer("spam", [triton_input(rows(1))], lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=10)
    assert error is None
    assert result.as_numpy("probabilities").shape == (1, 2)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_call_is_decided_like_any_other(
    client: triton.InferenceServerClient, main: ScriptedServer, algorithm: str
) -> None:
    """The route reads a compressed message, and the backend gets it as it can read it."""
    result = client.infer("spam", [triton_input(rows(64))], compression_algorithm=algorithm)
    assert result.as_numpy("probabilities").shape == (64, 2)
    assert main.calls()[0].request.raw_input_contents[0] == rows(64).tobytes()


def test_large_tensor_passes(client: triton.InferenceServerClient, main: ScriptedServer) -> None:
    """16 MB in one call: four times what gRPC's libraries take by default, and no limit of the gateway's own."""
    values = np.zeros((1, 4_000_000), np.float32)
    result = client.infer("spam", [triton_input(values)])
    assert result.as_numpy("probabilities").shape == (1, 2)
    assert len(main.calls()[0].request.raw_input_contents[0]) == 16_000_000


def test_stream_passes_through(client: triton.InferenceServerClient, main: ScriptedServer) -> None:
    """A bidirectional stream: each answer before the next request, and then a clean end."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(3):
        client.async_stream_infer("spam", [triton_input(rows(1))], request_id=str(number))
        result, error = answers.get(timeout=10)
        assert error is None
        assert result.get_response().id == str(number)
    client.stop_stream()
    assert [call.request.model_name for call in main.calls("ModelStreamInfer")] == ["spam_v3"] * 3


def test_unknown_model_is_not_found(client: triton.InferenceServerClient, main: ScriptedServer) -> None:
    """The status says so, and the connection lives on."""
    with pytest.raises(InferenceServerException) as refused:
        client.infer("nobody", [triton_input(rows(1))])
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    assert "nobody" in refused.value.message()
    assert main.calls() == []
    assert client.infer("spam", [triton_input(rows(1))]) is not None


def test_client_timeout_is_the_callers_deadline(
    client: triton.InferenceServerClient, main: ScriptedServer
) -> None:
    """The backend learns how much time is left, less than the caller gave."""
    client.infer("spam", [triton_input(rows(1))], client_timeout=5.0)
    left = main.calls()[0].time_left_s
    assert left is not None
    assert 0 < left <= 5.0
