"""Traced calls: picked out of a batch as columns, held in a bounded queue, made into spans where they are
exported.

The SDK's tracer would want to be there when the call runs. The data plane already made the ids and took the
times, so `ReadableSpan` objects are built straight from the columns, by the exporter's thread; picking them
out of a batch is a few numpy selections, which is all that the thread that drains the data plane pays.
Imports the SDK: import it lazily.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.telemetry.aggregate import SERVER_FAULTS, method_name
from gateway.telemetry.instruments import (
    ERROR_TYPE,
    RPC_METHOD,
    RPC_STATUS_CODE,
    RPC_SYSTEM_NAME,
    status_name,
)
from gateway.types import NO_STRING, Outcome, reason_text

if TYPE_CHECKING:
    from gateway.runtime.batch import Batch, PolicyNames

__all__ = ["SpanQueue", "TracedCalls", "build_spans", "pick_traced"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_CALL_COLUMNS = (
    *(
        "id_hi",
        "id_lo",
        "rows",
        "time_us",
        "duration_us",
        "policy",
        "route",
        "backend",
        "outcome",
        "reason",
        "rule",
    ),
    *("label", "score", "status", "trace_hi", "trace_lo", "span", "parent", "method"),
)
_ATTEMPT_COLUMNS = ("backend", "reason", "start_us", "duration_us", "status", "span")


@dataclass(frozen=True, slots=True)
class TracedCalls:
    """Copies of what spans need, so that a waiting call does not hold its whole batch in memory.

    `attempts` are sorted by call; `first` has one more element than there are calls: call i's attempts are
    `first[i]:first[i + 1]`.
    """

    calls: Mapping[str, NDArray[Any]]
    attempts: Mapping[str, NDArray[Any]]
    first: NDArray[np.int64]
    strings: Mapping[int, str]
    names: Mapping[int, PolicyNames]

    def __len__(self) -> int:
        return len(self.calls["span"])

    @property
    def spans(self) -> int:
        return len(self) + int(self.first[-1] - self.first[0])


def pick_traced(batch: Batch, room: int) -> tuple[TracedCalls | None, int]:
    """The traced calls of a batch, whole ones only, up to `room` spans; and how many spans did not fit."""
    rows = np.flatnonzero(batch.calls & (batch.records["traced"] == 1))
    if not len(rows):
        return None, 0
    position = np.full(len(batch), -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    call = position[batch.attempts["record"]]
    mine = np.flatnonzero(call >= 0)
    mine = mine[np.argsort(call[mine], kind="stable")]
    first = np.concatenate(([0], np.cumsum(np.bincount(call[mine], minlength=len(rows)))))
    # Spans of calls 0..i together: one each for the call itself, and its attempts.
    until = np.arange(1, len(rows) + 1) + first[1:]
    fit = int(np.searchsorted(until, room, side="right"))
    left_out = int(until[-1]) - (int(until[fit - 1]) if fit else 0)
    if not fit:
        return None, left_out
    rows, first, mine = rows[:fit], first[: fit + 1], mine[: first[fit]]
    calls = {name: batch.records[name][rows] for name in _CALL_COLUMNS}
    used = np.unique(np.concatenate((calls["method"], calls["label"])))
    return (
        TracedCalls(
            calls,
            {name: batch.attempts[name][mine] for name in _ATTEMPT_COLUMNS},
            first,
            {index: batch.strings[index] for index in used.tolist() if index != NO_STRING},
            batch.names,
        ),
        left_out,
    )


MOST_PIECES = 512
"""Pieces of batches that may wait, besides the limit in spans: the heads of its arrays weigh even for one call."""


class SpanQueue:
    """Traced calls that wait for the exporter; bounded in spans and in pieces, never blocks whoever puts."""

    def __init__(self, limit_spans: int) -> None:
        self._limit = limit_spans
        self._waiting: deque[TracedCalls] = deque()
        self._spans = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, batch: Batch) -> int:
        """Take in a batch's traced calls; returns how many spans found no room."""
        with self._changed:
            full = self._closed or len(self._waiting) >= MOST_PIECES
            room = 0 if full else self._limit - self._spans
        # One thread puts, so that the room can only have grown since.
        traced, left_out = pick_traced(batch, room)
        if traced is not None:
            with self._changed:
                self._waiting.append(traced)
                self._spans += traced.spans
                self._changed.notify()
        return left_out

    def take(self, at_least: int) -> list[TracedCalls]:
        """Wait for calls, then take what waits until `at_least` spans are in hand; empty once closed and
        drained.
        """
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            taken: list[TracedCalls] = []
            spans = 0
            while self._waiting and spans < at_least:
                taken.append(self._waiting.popleft())
                spans += taken[-1].spans
            self._spans -= spans
            return taken

    def close(self) -> None:
        """No more is taken in; what waits may still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def build_spans(
    traced: TracedCalls, resource: Resource, scope: InstrumentationScope
) -> Iterator[ReadableSpan]:
    """A server span per call, then a client span for each of its attempts."""
    calls = {name: column.tolist() for name, column in traced.calls.items()}
    attempts = {name: column.tolist() for name, column in traced.attempts.items()}
    first = traced.first.tolist()
    for at in range(len(traced)):
        call = {name: column[at] for name, column in calls.items()}
        names = traced.names.get(call["policy"])
        trace_id = call["trace_hi"] << 64 | call["trace_lo"]
        method = method_name(traced.strings.get(call["method"]), unrecognised=False)
        context = SpanContext(trace_id, call["span"], is_remote=False, trace_flags=_SAMPLED)
        parent = SpanContext(trace_id, call["parent"], is_remote=True, trace_flags=_SAMPLED)
        yield ReadableSpan(
            name=method,
            context=context,
            parent=parent if call["parent"] else None,
            resource=resource,
            instrumentation_scope=scope,
            kind=SpanKind.SERVER,
            attributes=_call_attributes(call, method, names, traced.strings),
            status=_status(call["status"], failed=call["status"] in SERVER_FAULTS),
            start_time=call["time_us"] * 1000,
            end_time=(call["time_us"] + call["duration_us"]) * 1000,
        )
        for index in range(first[at], first[at + 1]):
            attempt = {name: column[index] for name, column in attempts.items()}
            code = attempt["status"]
            yield ReadableSpan(
                name=method,
                context=SpanContext(trace_id, attempt["span"], is_remote=False, trace_flags=_SAMPLED),
                parent=context,
                resource=resource,
                instrumentation_scope=scope,
                kind=SpanKind.CLIENT,
                attributes={
                    **_rpc_attributes(method, code, failed=code != 0),
                    "gateway.backend": "" if names is None else names.backend(attempt["backend"]),
                    "gateway.reason": reason_text(attempt["reason"]),
                },
                status=_status(code, failed=code != 0),
                start_time=attempt["start_us"] * 1000,
                end_time=(attempt["start_us"] + attempt["duration_us"]) * 1000,
            )


def _rpc_attributes(method: str, code: int, *, failed: bool) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        RPC_SYSTEM_NAME: "grpc",
        RPC_METHOD: method,
        RPC_STATUS_CODE: status_name(code),
    }
    if failed:
        attributes[ERROR_TYPE] = status_name(code)
    return attributes


def _call_attributes(
    call: Mapping[str, Any], method: str, names: PolicyNames | None, strings: Mapping[int, str]
) -> dict[str, str | int | float]:
    """The decision. Of a batch of rows the first row's outcome and reason; predictions only where there is
    one row.
    """
    attributes = _rpc_attributes(method, call["status"], failed=call["status"] in SERVER_FAULTS)
    rule = None if names is None else names.rule(call["route"], call["rule"])
    attributes |= {
        "gateway.decision.id": str(uuid.UUID(int=call["id_hi"] << 64 | call["id_lo"])),
        "gateway.policy.version": call["policy"],
        "gateway.route": "" if names is None else names.route(call["route"]),
        "gateway.outcome": Outcome(call["outcome"]).text,
        "gateway.reason": reason_text(call["reason"], rule),
        "gateway.backend": "" if names is None else names.backend(call["backend"]),
        "gateway.rows": call["rows"],
    }
    if call["rows"] == 1:
        if call["score"] == call["score"]:  # NaN: the route has no score
            attributes["gateway.prediction.score"] = call["score"]
        if call["label"] != NO_STRING:
            attributes["gateway.prediction.label"] = strings[call["label"]]
    return attributes


def _status(code: int, *, failed: bool) -> Status:
    return Status(StatusCode.ERROR, status_name(code)) if failed else Status(StatusCode.UNSET)
