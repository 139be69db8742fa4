"""The RPCs. A prediction runs on the event loop: it takes well under a millisecond, a thread would cost as much."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import grpc
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from .faults import SET_METHOD, Faults
from .models import ServedModel
from .tensors import TensorError, add_bytes, add_floats, read_floats

__all__ = ["RefusedError", "Service", "run"]

SERVICE = "inference.GRPCInferenceService"
OUTPUTS = ("probabilities", "label")
GARBAGE = b"\xff\xff\xff\xff this is no protobuf message"

Context = grpc.aio.ServicerContext[Any, Any]


class RefusedError(Exception):
    """A call that the server answers with a status."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """The models, by name, behind the protocol's own methods."""

    def __init__(self, models: Mapping[str, ServedModel], *, faulty: bool = False) -> None:
        self._models = models
        self._faulty = faulty
        self.faults = Faults()

    # --- the protocol -------------------------------------------------------------------------------------------

    async def server_live(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=request.name in self._models)

    async def server_metadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="examples.oip_server", version="1", extensions=[])

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        try:
            model = self._model(request.name, request.version)
        except RefusedError as refused:
            await context.abort(refused.status, str(refused))
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[model.version],
            platform="scikit-learn",
            inputs=[{"name": model.input_name, "datatype": "FP32", "shape": [-1, model.features]}],
            outputs=[
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.classes)]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
            ],
        )

    async def model_infer(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        faults = self.faults.for_call(request) if self._faulty else self.faults
        try:
            await self._misbehave(faults)
            if faults.kind == "garbage":
                return GARBAGE
            return cast(bytes, self._infer(request, faults).SerializeToString())
        except RefusedError as refused:
            await context.abort(refused.status, str(refused))

    async def model_stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async for request in requests:
            faults = self.faults.for_call(request) if self._faulty else self.faults
            try:
                await self._misbehave(faults)
                yield pb.ModelStreamInferResponse(infer_response=self._infer(request, faults))
            except RefusedError as refused:  # one bad request does not end the stream
                yield pb.ModelStreamInferResponse(error_message=str(refused))

    # --- behind it ----------------------------------------------------------------------------------------------

    def _model(self, name: str, version: str) -> ServedModel:
        model = self._models.get(name)
        if model is None:
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND, f"no model {name!r}; here are: {', '.join(self._models)}"
            )
        if version not in ("", model.version):
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND, f"model {name!r} has version {model.version}, not {version!r}"
            )
        return model

    def _infer(self, request: pb.ModelInferRequest, faults: Faults) -> pb.ModelInferResponse:
        model = self._model(request.model_name, request.model_version)
        wanted = [output.name for output in request.outputs] or OUTPUTS
        if unknown := set(wanted) - set(OUTPUTS):
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"no output {', '.join(sorted(unknown))}; here are: {', '.join(OUTPUTS)}",
            )
        try:
            rows = read_floats(request, model.input_name, model.features)
        except TensorError as bad:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(bad)) from bad

        probabilities = model.probabilities(rows)
        labels = model.labels(probabilities)
        if faults.kind == "nan":
            probabilities = np.full_like(probabilities, np.nan)
        raw = len(request.raw_input_contents) > 0
        answer = pb.ModelInferResponse(
            model_name=request.model_name, model_version=model.version, id=request.id
        )
        for name in wanted:
            if name == "label":
                add_bytes(answer, name, labels, raw=raw)
            else:
                add_floats(answer, name, probabilities, raw=raw)
        return answer

    async def _misbehave(self, faults: Faults) -> None:
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if faults.kind == "silent":
            await asyncio.Event().wait()  # until the caller's deadline or cancellation ends this call
        if faults.kind == "fail":
            raise RefusedError(grpc.StatusCode.INTERNAL, "told to fail")
        if faults.kind == "die":
            os._exit(9)

    async def set_faults(self, request: bytes, context: Context) -> bytes:
        try:
            self.faults = Faults.from_json(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return b"{}"

    def handlers(self) -> list[grpc.GenericRpcHandler[Any, Any]]:
        """Every RPC; what is not served answers UNIMPLEMENTED by itself."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        served: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ServerLive": unary(self.server_live, pb.ServerLiveRequest.FromString, _encode),
            "ServerReady": unary(self.server_ready, pb.ServerReadyRequest.FromString, _encode),
            "ServerMetadata": unary(self.server_metadata, pb.ServerMetadataRequest.FromString, _encode),
            "ModelReady": unary(self.model_ready, pb.ModelReadyRequest.FromString, _encode),
            "ModelMetadata": unary(self.model_metadata, pb.ModelMetadataRequest.FromString, _encode),
            # Answers with bytes, so that garbage can be sent like any other answer.
            "ModelInfer": unary(self.model_infer, pb.ModelInferRequest.FromString),
            "ModelStreamInfer": stream(self.model_stream_infer, pb.ModelInferRequest.FromString, _encode),
        }
        handlers = [grpc.method_handlers_generic_handler(SERVICE, served)]
        if self._faulty:
            control, _, verb = SET_METHOD.removeprefix("/").partition("/")
            handlers.append(grpc.method_handlers_generic_handler(control, {verb: unary(self.set_faults)}))
        return handlers


def _encode(message: Message) -> bytes:
    return message.SerializeToString()


async def run(service: Service, address: str, listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one. `listening` is told the address.

    Raises: RuntimeError, if the address cannot be bound.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(tuple(service.handlers()))
    port = server.add_insecure_port(address)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    listening(f"{address.rpartition(':')[0]}:{port}")
    await stop.wait()
    await server.stop(grace=1.0)
