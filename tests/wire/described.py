"""Servers and callers of services that no generated code exists for: their messages are made of the descriptors."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection

from gateway.config import read_text
from gateway.runtime.document import document

__all__ = ["FOLDER", "SET", "DescribedServer", "ask", "message", "policy", "tensor"]

FOLDER = Path(__file__).parents[2] / "examples" / "any_service"
SET = (FOLDER / "services.binpb").read_bytes()

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(SET).file:
    POOL.Add(_file)

SCORE = "/scoring.Scorer/Score"
PREDICT = "/tensorflow.serving.PredictionService/Predict"

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


def message(name: str, **fields: Any) -> Any:
    """A message by its full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))(**fields)


def tensor(rows: list[list[float]], *, content: bool = False) -> Any:
    """A TensorProto of floats."""
    import numpy as np

    values = np.asarray(rows, dtype="<f4")
    made = message("tensorflow.TensorProto", dtype=1)
    for size in values.shape:
        made.tensor_shape.dim.add(size=size)
    if content:
        made.tensor_content = values.tobytes()
    else:
        made.float_val.extend(values.ravel().tolist())
    return made


class DescribedServer:
    """A server of every method in the descriptors; `behaviour` answers them all, `seen` has what came."""

    def __init__(
        self, behaviour: Behaviour, *, compression: grpc.Compression | None = None, reflected: bool = False
    ) -> None:
        self.behaviour = behaviour
        self.seen: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            compression=compression,
            options=[("grpc.max_receive_message_length", -1)],
        )
        names = ["scoring.Scorer", "tensorflow.serving.PredictionService"]
        for name in names:
            service = POOL.FindServiceByName(name)
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        if reflected:
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server, pool=POOL)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"

    def _handler(self, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        request = message_factory.GetMessageClass(method.input_type)

        def unary(asked: Any, context: grpc.ServicerContext) -> Any:
            with self._lock:
                self.seen.append(asked)
                self.metadata.append(dict(context.invocation_metadata()))
            return self.behaviour(asked, context)

        def stream(asked: Any, context: grpc.ServicerContext) -> Any:
            for one in asked:
                yield self.behaviour(one, context)

        made = (
            grpc.stream_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return made(
            stream if method.server_streaming else unary,
            request_deserializer=request.FromString,
            response_serializer=lambda answer: (
                answer if isinstance(answer, bytes) else answer.SerializeToString()
            ),
        )

    def __enter__(self) -> DescribedServer:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()


def policy(text: str, **values: str) -> Mapping[str, Any]:
    """The policy document of settings, as `gateway serve` makes it; `$NAME` in the text is a value."""
    for name, value in values.items():
        text = text.replace(f"${name}", value)
    loaded = read_text(text, folder=FOLDER, env={})
    assert loaded.settings is not None, [str(fault) for fault in loaded.faults]
    assert loaded.settings.descriptors == (base64.b64encode(SET).decode(),)
    return document(loaded.settings, version=7, salt_hex="00" * 32, receipt_keys=[b"\x11" * 32])


def ask(
    channel: grpc.Channel,
    method: str,
    request: Any,
    *,
    metadata: tuple[tuple[str, str], ...] = (),
    compression: grpc.Compression | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The answer with its trailers."""
    service, _, name = method[1:].partition("/")
    output = POOL.FindServiceByName(service).methods_by_name[name].output_type
    call = channel.unary_unary(
        method,
        request_serializer=lambda asked: asked if isinstance(asked, bytes) else asked.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(output).FromString,
    )
    answer, done = call.with_call(request, timeout=10, metadata=metadata, compression=compression)
    return answer, dict(done.trailing_metadata())
