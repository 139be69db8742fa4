"""How the server may misbehave, and how it is told to.

For all calls: JSON to `/examples.Faults/Set` (a generic RPC, so that no proto is needed). For one call: the request
parameters `fault` (`nan`, `garbage`, `silent`, `fail`, `die`) and `latency_ms`. Only with `--faults`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal, cast, get_args

import grpc
from tritonclient.grpc import service_pb2 as pb

__all__ = ["SET_METHOD", "Faults", "Kind", "set_faults"]

SET_METHOD = "/examples.Faults/Set"

Kind = Literal["none", "nan", "garbage", "silent", "fail", "die"]


@dataclass(frozen=True)
class Faults:
    """What goes wrong with an answer.

    nan: probabilities are NaN. garbage: bytes that are no ModelInferResponse. silent: no answer until the caller gives
    up. fail: status INTERNAL. die: the process ends at once, as by kill -9.
    """

    kind: Kind = "none"
    latency_ms: float = 0.0

    @classmethod
    def from_json(cls, text: bytes) -> Faults:
        """Raises: ValueError, for what is no fault."""
        fields = json.loads(text)
        faults = cls(kind=fields.get("kind", "none"), latency_ms=float(fields.get("latency_ms", 0.0)))
        if faults.kind not in get_args(Kind):
            raise ValueError(f"fault {faults.kind!r}, wanted one of {', '.join(get_args(Kind))}")
        return faults

    def for_call(self, request: pb.ModelInferRequest) -> Faults:
        """These, unless the call asks for others."""
        kind = request.parameters["fault"].string_param if "fault" in request.parameters else ""
        faults = replace(self, kind=cast(Kind, kind)) if kind in get_args(Kind) else self
        if "latency_ms" in request.parameters:
            faults = replace(faults, latency_ms=float(request.parameters["latency_ms"].int64_param))
        return faults


def set_faults(channel: grpc.Channel, faults: Faults, timeout_s: float = 5.0) -> None:
    """Tell the server at the other end of `channel` how to misbehave from now on."""
    call = channel.unary_unary(SET_METHOD, request_serializer=None, response_deserializer=None)
    call(json.dumps(asdict(faults)).encode(), timeout=timeout_s)
