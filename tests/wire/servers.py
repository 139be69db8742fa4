"""Model servers that answer as a test wants: scores, a status, NaN, garbage, or nothing until they may.

In the test's own process, so that a test sees what arrived and holds an answer back without any sleep.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

__all__ = ["Behaviour", "ScriptedServer", "Seen", "Silent", "fail", "garbage", "nan", "scores"]

SERVICE = "inference.GRPCInferenceService"

Context = grpc.ServicerContext
Behaviour = Callable[[pb.ModelInferRequest, Context], bytes]
"""What a server does with one call; returns the bytes of its answer, or ends the call."""


@dataclass(frozen=True)
class Seen:
    """One call as the server saw it."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]
    time_left_s: float | None


def rows_of(request: pb.ModelInferRequest) -> int:
    return int(request.inputs[0].shape[0]) if request.inputs else 1


def answer(request: pb.ModelInferRequest, probabilities: Sequence[Sequence[float]]) -> bytes:
    """`probabilities` [rows, classes] and the `label` index, raw where the request is raw."""
    values = np.asarray(probabilities, dtype="<f4")
    message = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    tensor = message.outputs.add(name="probabilities", datatype="FP32", shape=values.shape)
    labels = message.outputs.add(name="label", datatype="BYTES", shape=values.shape[:1])
    words = [b"spam" if row[1] >= 0.5 else b"ham" for row in values]
    if request.raw_input_contents:
        message.raw_output_contents.append(values.tobytes())
        message.raw_output_contents.append(b"".join(struct.pack("<I", len(w)) + w for w in words))
    else:
        tensor.contents.fp32_contents.extend(values.ravel().tolist())
        labels.contents.bytes_contents.extend(words)
    encoded: bytes = message.SerializeToString()
    return encoded


def scores(*positive: float) -> Behaviour:
    """Answers with these scores of the second class, one per row; a single one stands for every row."""

    def behave(request: pb.ModelInferRequest, context: Context) -> bytes:
        rows = rows_of(request)
        wanted = positive * rows if len(positive) == 1 else positive
        return answer(request, [(1.0 - score, score) for score in wanted[:rows]])

    return behave


def nan() -> Behaviour:
    return scores(float("nan"))


def garbage(body: bytes = b"\xff\xff\xff\xff no message") -> Behaviour:
    return lambda request, context: body


def fail(status: grpc.StatusCode, message: str = "told to fail") -> Behaviour:
    def behave(request: pb.ModelInferRequest, context: Context) -> bytes:
        context.abort(status, message)
        raise AssertionError("abort raises")

    return behave


class Silent:
    """Holds every call until `release`; the call may be given up by its caller long before."""

    def __init__(self, then: Behaviour | None = None) -> None:
        self._then = then or scores(0.9)
        self._released = threading.Event()
        self._lock = threading.Condition()
        self.held = 0

    def __call__(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        with self._lock:
            self.held += 1
            self._lock.notify_all()
        self._released.wait(30)
        return self._then(request, context)

    def wait_for(self, calls: int, timeout_s: float = 10.0) -> None:
        """Return when that many calls have come in."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.held >= calls, timeout_s), (
                f"{self.held} calls came in within {timeout_s:g} s, wanted {calls}"
            )

    def release(self) -> None:
        self._released.set()


@dataclass
class ScriptedServer:
    """One model server. `behaviour` may be changed at any time; `seen` grows with each call."""

    behaviour: Behaviour = field(default_factory=lambda: scores(0.9))
    threads: int = 16
    ready: bool = True
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(self.threads),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
        )
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ServerLive": unary(self._live, pb.ServerLiveRequest.FromString, _encode),
            "ServerReady": unary(self._server_ready, pb.ServerReadyRequest.FromString, _encode),
            "ServerMetadata": unary(self._server_metadata, pb.ServerMetadataRequest.FromString, _encode),
            "ModelReady": unary(self._model_ready, pb.ModelReadyRequest.FromString, _encode),
            "ModelMetadata": unary(self._model_metadata, pb.ModelMetadataRequest.FromString, _encode),
            "ModelInfer": unary(self._infer, pb.ModelInferRequest.FromString),
            "ModelStreamInfer": stream(self._stream, pb.ModelInferRequest.FromString, _encode),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def reset(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.seen.clear()

    def calls(self, method: str = "ModelInfer") -> list[Seen]:
        return [call for call in self.seen if call.method == method]

    def stop(self) -> None:
        self._server.stop(0).wait(5)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _see(self, method: str, request: Message, context: Context) -> None:
        left = context.time_remaining()
        metadata = {str(key): value for key, value in context.invocation_metadata()}
        # Without a deadline grpcio names a time of years.
        self.seen.append(Seen(method, request, metadata, left if left is not None and left < 1e6 else None))

    def _live(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        self._see("ServerLive", request, context)
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        self._see("ServerReady", request, context)
        return pb.ServerReadyResponse(ready=self.ready)

    def _server_metadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        self._see("ServerMetadata", request, context)
        return pb.ServerMetadataResponse(name="scripted", version="1")

    def _model_ready(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        self._see("ModelReady", request, context)
        return pb.ModelReadyResponse(ready=self.ready)

    def _model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        self._see("ModelMetadata", request, context)
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=["1"],
            platform="scripted",
            inputs=[{"name": "features", "datatype": "FP32", "shape": [-1, 4]}],
            outputs=[{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        )

    def _infer(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        self._see("ModelInfer", request, context)
        return self.behaviour(request, context)

    def _stream(
        self, requests: Iterator[pb.ModelInferRequest], context: Context
    ) -> Iterator[pb.ModelStreamInferResponse]:
        for request in requests:
            self._see("ModelStreamInfer", request, context)
            response = pb.ModelInferResponse.FromString(self.behaviour(request, context))
            yield pb.ModelStreamInferResponse(infer_response=response)


def _encode(message: Message) -> bytes:
    return message.SerializeToString()
