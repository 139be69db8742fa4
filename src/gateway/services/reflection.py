"""Asks a server for its own descriptors, by gRPC's reflection: what routes read its messages by.

Asked once, by hand, before a gateway is started: what a route reads must not depend on which server happens to be up.
Source: grpc/reflection/v1/reflection.proto, and v1alpha for older servers, whose messages are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from gateway.errors import NotFound

__all__ = ["MOST_BYTES", "MOST_FILES", "ask_descriptors"]

MOST_FILES: Final = 4096
MOST_BYTES: Final = 16 * 1024 * 1024
"""A server that describes more than this describes nothing that somebody wrote."""

METHODS: Final = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)
OWN: Final = ("grpc.reflection.", "grpc.health.")
"""Services that every server has and no route reads."""

_Ask = Callable[[Any], Any]


def ask_descriptors(
    channel: grpc.Channel, services: Sequence[str] = (), timeout_s: float = 10.0
) -> tuple[bytes, list[str]]:
    """A server's `FileDescriptorSet` with all it imports, in the order of its imports, and the services in it.

    Args:
        services: full names; all of the server's if empty. timeout_s: for everything together.
    Raises: NotFound: no such service, no reflection, no answer.
    """
    from grpc_reflection.v1alpha import reflection_pb2 as pb

    said = "nothing"
    for method in METHODS:
        call = channel.stream_stream(
            method,
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        try:
            with _Conversation(call, timeout_s) as ask:
                return _gather(ask, pb.ServerReflectionRequest, services)
        except grpc.RpcError as error:
            # what is raised is also the call, which only its documentation says
            call_error: Any = error
            said = f"{call_error.code().name}: {call_error.details()}"
            if call_error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                break
    raise NotFound(f"the server does not describe itself by reflection ({said})")


class _Conversation:
    """One stream, on which each question waits for its answer."""

    def __init__(self, call: Any, timeout_s: float) -> None:
        import queue

        self._questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers = call(iter(self._questions.get, None), timeout=timeout_s)

    def __enter__(self) -> _Ask:
        return self._ask

    def __exit__(self, *_: object) -> None:
        self._questions.put(None)
        self._answers.cancel()

    def _ask(self, question: Any) -> Any:
        self._questions.put(question)
        try:
            return next(self._answers)
        except StopIteration:
            raise NotFound("the server ended its reflection in the middle") from None


def _gather(ask: _Ask, question: Callable[..., Any], wanted: Sequence[str]) -> tuple[bytes, list[str]]:
    listed = ask(question(list_services=""))
    known = sorted(service.name for service in listed.list_services_response.service)
    names = list(wanted) or [name for name in known if not name.startswith(OWN)]
    if not names:
        raise NotFound(f"the server lists no service but {', '.join(known) or 'none at all'}")
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in names:
        answer = ask(question(file_containing_symbol=name))
        if not _keep(answer, files):
            raise NotFound(f"the server has no service {name}; it has {', '.join(known) or 'none'}")
    while missing := _missing(files):
        for name in missing:
            if not _keep(ask(question(file_by_filename=name)), files) or name not in files:
                raise NotFound(f"the server does not give {name}, which its descriptors import")
    made = descriptor_pb2.FileDescriptorSet(file=_ordered(files))
    return made.SerializeToString(), names


def _keep(answer: Any, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> bool:
    """Keep the files of an answer; False if it has none."""
    held = answer.file_descriptor_response.file_descriptor_proto
    for data in held:
        try:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
        except DecodeError:
            raise NotFound("the server's descriptors cannot be read") from None
        files.setdefault(file.name, file)
    if len(files) > MOST_FILES or sum(file.ByteSize() for file in files.values()) > MOST_BYTES:
        raise NotFound(f"the server describes more than {MOST_FILES} files or {MOST_BYTES} bytes")
    return bool(held)


def _missing(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> list[str]:
    imported = {name for file in files.values() for name in file.dependency}
    return sorted(imported - files.keys())


def _ordered(
    files: dict[str, descriptor_pb2.FileDescriptorProto],
) -> Iterable[descriptor_pb2.FileDescriptorProto]:
    """What is imported stands before what imports it, however deep; without recursion, as peers may say anything."""
    done: set[str] = set()
    ordered: list[descriptor_pb2.FileDescriptorProto] = []
    for first in sorted(files):
        stack = [(first, False)]
        while stack:
            name, imports_done = stack.pop()
            if imports_done:
                ordered.append(files[name])
            elif name not in done:
                done.add(name)
                stack.append((name, True))
                stack.extend((imported, False) for imported in files[name].dependency)
    return ordered
