"""Captured messages of described services, for people: by the name of their message, and as JSON."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["MOST_JSON_BYTES", "Messages", "Readable"]

MOST_JSON_BYTES: Final = 1024 * 1024
"""A longer text is for no reviewer, and gRPC's clients take no message of more than 4 MiB."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A message's full name, and its fields as JSON; empty where there is no name for it, or no such message in it."""

    type: str = ""
    json: str = ""


class Messages:
    """The messages of a policy's described routes.

    Args:
        policy: the document. What its descriptors do not hold, or what protobuf's own reader refuses, is not shown.
    """

    def __init__(self, policy: Mapping[str, Any]) -> None:
        self._methods: dict[str, Any] = {}
        routes = {
            route["name"]: route["match"]["method"]
            for route in policy["routes"]
            if route.get("prediction") is not None and route["match"]["method"] is not None
        }
        if not policy.get("descriptors") or not routes:
            return
        pool = descriptor_pool.DescriptorPool()
        for held in policy["descriptors"]:
            for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(held)).file:
                # the same file of two sets is added once; of two that differ the data plane has said so
                with contextlib.suppress(TypeError):
                    pool.Add(file)
        for route, method in routes.items():
            service, _, name = method[1:].partition("/")
            try:
                found = pool.FindServiceByName(service).methods_by_name.get(name)
            except (KeyError, TypeError):
                continue
            if found is not None:
                self._methods[route] = found

    def request(self, route: str, message: bytes) -> Readable:
        """A request of the route."""
        method = self._methods.get(route)
        return Readable() if method is None else _shown(method.input_type, message)

    def answer(self, route: str, message: bytes) -> Readable:
        """An answer of the route."""
        method = self._methods.get(route)
        return Readable() if method is None else _shown(method.output_type, message)


def _shown(kind: Any, message: bytes) -> Readable:
    made: Message = message_factory.GetMessageClass(kind)()
    try:
        made.ParseFromString(message)
        text = json_format.MessageToJson(made, preserving_proto_field_name=True)
    except (DecodeError, json_format.SerializeToJsonError, TypeError, ValueError):
        return Readable(kind.full_name)
    return Readable(kind.full_name, text if len(text) <= MOST_JSON_BYTES else "")
