"""The example server speaks the Open Inference Protocol as clients expect it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from examples.oip_server import Faults, ServedModel, ServerProcess

ROOT = Path(__file__).parents[2]
ROWS, KINDS = load_iris(return_X_y=True)
CLASSES = ("setosa", "versicolor", "virginica")


@pytest.fixture(scope="module")
def model() -> ServedModel:
    with threadpool_limits(1):
        fitted = LogisticRegression(max_iter=500).fit(ROWS, KINDS)
    return ServedModel(fitted, CLASSES, features=4, version="3")


@pytest.fixture(scope="module")
def server(model: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("oip")
    with ServerProcess({"iris": model.save(folder / "iris.joblib")}, folder / "server.log") as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(server.address)
    yield client
    client.close()


def tensor(values: Any, datatype: str = "FP32") -> Any:
    values = np.asarray(values, {"FP32": np.float32, "FP64": np.float64, "INT32": np.int32}[datatype])
    made = triton.InferInput("features", list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    """A client finds out what there is and what it takes."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert not client.is_model_ready("rose")
    metadata = client.get_model_metadata("iris")
    assert list(metadata.versions) == ["3"]
    assert [(output.name, output.datatype) for output in metadata.outputs] == [
        ("probabilities", "FP32"),
        ("label", "BYTES"),
    ]
    assert client.get_server_metadata().name == "examples.oip_server"


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_batch_gets_the_estimators_own_numbers(
    client: triton.InferenceServerClient, model: ServedModel, datatype: str
) -> None:
    """Served probabilities are `predict_proba`'s, in order, with the likeliest class as label."""
    result = client.infer("iris", [tensor(ROWS[::10], datatype)])
    expected = model.probabilities(ROWS[::10].astype(np.float32))
    assert result.as_numpy("probabilities") == pytest.approx(expected, abs=1e-5)
    assert [label.decode() for label in result.as_numpy("label")] == model.labels(expected)


def test_typed_request_gets_a_typed_answer(server: ServerProcess, model: ServedModel) -> None:
    """Plain grpcio without raw contents; same numbers."""
    request = pb.ModelInferRequest(model_name="iris", id="7")
    values = request.inputs.add(name="features", datatype="FP32", shape=[2, 4])
    values.contents.fp32_contents.extend(ROWS[:2].ravel().tolist())
    with grpc.insecure_channel(server.address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=10)
    assert answer.id == "7"
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx(
        model.probabilities(ROWS[:2].astype(np.float32)).ravel().tolist(), abs=1e-5
    )
    assert list(answer.outputs[1].contents.bytes_contents) == [b"setosa", b"setosa"]


def test_only_requested_outputs_are_answered(client: triton.InferenceServerClient) -> None:
    """As Triton does it."""
    wanted = [triton.InferRequestedOutput("label")]
    result = client.infer("iris", [tensor(ROWS[:1])], outputs=wanted)
    assert [output.name for output in result.get_response().outputs] == ["label"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ({"model_name": "rose", "inputs": [tensor(ROWS[:1])]}, "NOT_FOUND", "iris"),
        (
            {"model_name": "iris", "model_version": "9", "inputs": [tensor(ROWS[:1])]},
            "NOT_FOUND",
            "version 3",
        ),
        ({"model_name": "iris", "inputs": [tensor(ROWS[:1, :3])]}, "INVALID_ARGUMENT", "[rows, 4]"),
        ({"model_name": "iris", "inputs": [tensor(ROWS[:1], "INT32")]}, "INVALID_ARGUMENT", "FP32 or FP64"),
        (
            {
                "model_name": "iris",
                "inputs": [tensor(ROWS[:1])],
                "outputs": [triton.InferRequestedOutput("logits")],
            },
            "INVALID_ARGUMENT",
            "probabilities, label",
        ),
    ],
)
def test_bad_request_is_refused_with_what_was_wanted(
    client: triton.InferenceServerClient, arguments: dict[str, Any], status: str, says: str
) -> None:
    """The right status, and a text that mends it."""
    with pytest.raises(InferenceServerException) as refused:
        client.infer(**arguments)
    assert refused.value.status() == f"StatusCode.{status}"
    assert says in refused.value.message()


def test_stream_goes_on_after_a_bad_request(client: triton.InferenceServerClient) -> None:
    """An error is one answer of the stream, not its end."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for name in ("iris", "rose", "iris"):
        client.async_stream_infer(name, [tensor(ROWS[:1])])
    good, bad, good_again = (answers.get(timeout=10) for _ in range(3))
    client.stop_stream()
    assert good[1] is None
    assert "rose" in bad[1].message()
    assert good_again[0].as_numpy("label").tolist() == [b"setosa"]


def test_told_faults_hold_until_taken_back(
    server: ServerProcess, client: triton.InferenceServerClient
) -> None:
    """For all calls by the control method, for one call by a parameter."""
    server.set_faults(Faults("nan"))
    assert np.isnan(client.infer("iris", [tensor(ROWS[:1])]).as_numpy("probabilities")).all()
    server.set_faults(Faults())
    assert np.isfinite(client.infer("iris", [tensor(ROWS[:1])]).as_numpy("probabilities")).all()
    with pytest.raises(InferenceServerException) as failed:
        client.infer("iris", [tensor(ROWS[:1])], parameters={"fault": "fail"})
    assert failed.value.status() == "StatusCode.INTERNAL"
    with pytest.raises(InferenceServerException) as late:
        client.infer("iris", [tensor(ROWS[:1])], parameters={"fault": "silent"}, client_timeout=0.2)
    assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_unknown_fault_is_refused(server: ServerProcess) -> None:
    """A misspelt fault must not look like a healthy server."""
    with pytest.raises(grpc.RpcError) as refused:
        server.set_faults(Faults("nann"))  # type: ignore[arg-type]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_killed_server_comes_back_on_its_port(model: ServedModel, tmp_path: Path) -> None:
    """What points at it finds it again."""
    process = ServerProcess({"iris": model.save(tmp_path / "iris.joblib")}, tmp_path / "server.log")
    with process:
        address, first = process.address, process.pid
        process.kill()
        process.start()
        assert process.address == address
        assert process.pid != first
        client = triton.InferenceServerClient(address)
        assert client.is_model_ready("iris")
        client.close()


def test_command_says_where_it_listens_and_ends_on_sigterm(model: ServedModel, tmp_path: Path) -> None:
    """As a reader of the README would start it; without `--faults` it never misbehaves."""
    file = model.save(tmp_path / "iris.joblib")
    command = [sys.executable, "-m", "examples.oip_server", f"iris={file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["listening"]
        client = triton.InferenceServerClient(address)
        result = client.infer("iris", [tensor(ROWS[:1])], parameters={"fault": "nan"})
        assert np.isfinite(result.as_numpy("probabilities")).all()
        client.close()
        process.terminate()
        assert process.wait(10) == 0


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The log of the process is in the error."""
    process = ServerProcess({"iris": tmp_path / "absent.joblib"}, tmp_path / "server.log")
    with pytest.raises(RuntimeError, match=r"absent\.joblib"):
        process.start()
