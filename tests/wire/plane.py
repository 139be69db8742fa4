"""A data plane alone, run from a policy document, before servers that the test scripts: no settings, no process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from gateway._dataplane import Dataplane, Policy
from gateway.types import Outcome, Reason

__all__ = ["UNLIMITED", "Drained", "RunningPlane", "document", "model", "route", "running", "static"]

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""The gateway has no 4 MiB limit, so the clients here have none."""

WAIT_S = 10.0
TABLES = ("records", "attempts", "mirrors", "raises")

LIMITS = {
    "buffer_bytes": 65536,
    "replay_bytes": 4 << 20,
    "answer_bytes": 16 << 20,
    "request_head_bytes": 65536,
    "max_rows": 65536,
}


def model(name: str, address: str | Sequence[str], **changes: Any) -> dict[str, Any]:
    """A backend on model servers, asked by the caller's own model name unless `model` is given."""
    endpoints = [address] if isinstance(address, str) else list(address)
    backend = {
        "name": name,
        "kind": "grpc",
        "endpoints": endpoints,
        "model": None,
        "version": None,
        "timeout_ms": None,
        "max_in_flight": 256,
        "connect_timeout_ms": 300,
    }
    return backend | changes


def static(name: str = "ham") -> dict[str, Any]:
    return {"name": name, "kind": "static", "label": "ham", "score": 0.0, "scores": None, "value": None}


def route(chain: Sequence[str], **changes: Any) -> dict[str, Any]:
    """Route `spam`: two classes, floor 0.8."""
    made = {
        "name": "spam",
        "match": {"model": "spam", "method": None, "metadata": {}},
        "chain": list(chain),
        "deadline_ms": None,
        "prediction": {
            "scores": "probabilities",
            "label": None,
            "confidence": None,
            "value": None,
            "classes": ["ham", "spam"],
            "positive": "spam",
            "threshold": 0.5,
            "datatype": "FP32",
        },
        "check": {"range": [0, 1], "sum": 1.0, "sum_tolerance": 0.001, "labels": None},
        "confidence": {"measure": "max_probability", "floor": 0.8, "per_label": {}, "per_segment": {}},
        "rules": [],
        "holdout": None,
        "mirror": [],
        "review": None,
        "kill_switch": False,
    }
    return made | changes


def document(
    backends: Iterable[Mapping[str, Any]], routes: Iterable[Mapping[str, Any]] = (), **changes: Any
) -> dict[str, Any]:
    made = {
        "version": 7,
        "salt": "00" * 32,
        "receipt_keys": ["11" * 32],
        "default_backend": None,
        "identity": {"unit": None, "segments": []},
        "lists": {},
        "limits": LIMITS,
        "trace_share": 0.0,
        "backends": list(backends),
        "routes": list(routes),
    }
    return made | changes


class Drained:
    """Everything drained so far, as if it had been one batch."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, list[Any]]] = {table: {} for table in TABLES}
        self.captures: list[Mapping[str, Any]] = []

    def add(self, batch: Mapping[str, Any]) -> None:
        first = self.rows("records")
        for table in TABLES:
            for name, column in batch[table].items():
                assert isinstance(column, np.ndarray)
                values = column.tolist()
                if name in ("label", "segment", "method"):
                    values = [batch["strings"][at] if at < len(batch["strings"]) else None for at in values]
                if (table, name) == ("attempts", "record"):
                    values = [first + at for at in values]
                self._columns[table].setdefault(name, []).extend(values)
        self.captures.extend(batch["captures"])

    def rows(self, table: str) -> int:
        columns = self._columns[table]
        lengths = {len(column) for column in columns.values()}
        assert len(lengths) <= 1, f"columns of {table} differ in length"
        return lengths.pop() if lengths else 0

    def each(self, table: str) -> list[dict[str, Any]]:
        """The table's rows, with words for outcomes and reasons."""
        columns = self._columns[table]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for row in rows:
            if "outcome" in row:
                row["outcome"] = Outcome(row["outcome"]).text
            if "reason" in row:
                row["reason"] = Reason(row["reason"]).text
        return rows


class RunningPlane:
    """A started data plane."""

    def __init__(self, policy: Mapping[str, Any], **options: Any) -> None:
        settings = {
            "inference": "127.0.0.1:0",
            "workers": 1,
            "control_socket": None,
            "ring_rows": 65536,
            "capture_bytes": 1 << 20,
        }
        self.dataplane = Dataplane(json.dumps(settings | options), Policy(json.dumps(policy)))
        self.address = self.dataplane.start()["inference"]
        self.drained = Drained()

    def publish(self, policy: Mapping[str, Any]) -> None:
        self.dataplane.publish(Policy(json.dumps(policy)))

    def until(self, enough: Callable[[Drained], bool]) -> Drained:
        """Drain until there is enough; fails after some seconds."""
        until = time.monotonic() + WAIT_S
        while not enough(self.drained):
            assert time.monotonic() < until, f"not enough came out: {self.drained.each('records')}"
            batch = self.dataplane.drain(200)
            if batch is not None:
                self.drained.add(batch)
        return self.drained

    def records(self, count: int) -> list[dict[str, Any]]:
        """The first `count` record rows."""
        return self.until(lambda drained: drained.rows("records") >= count).each("records")

    def counted(self, name: str, at_least: int = 1) -> int:
        """Wait until a counter has come so far."""
        until = time.monotonic() + WAIT_S
        while (count := self.dataplane.counters()[name]) < at_least:
            assert time.monotonic() < until, f"{name} stands at {count}, wanted {at_least}"
            self.dataplane.drain(20)
        return count

    def quiet(self) -> None:
        """Wait until no call is under way."""
        until = time.monotonic() + WAIT_S
        while self.dataplane.counters()["in_flight"]:
            assert time.monotonic() < until, "calls are still under way"
            time.sleep(0.005)


@contextmanager
def running(policy: Mapping[str, Any], **settings: Any) -> Iterator[tuple[RunningPlane, grpc.Channel]]:
    """A data plane and a channel to it."""
    plane = RunningPlane(policy, **settings)
    try:
        # grpcio makes a unix socket's path the authority, which is none by RFC 3986.
        options = [*UNLIMITED, ("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(plane.address, options=options) as channel:
            yield plane, channel
    finally:
        plane.dataplane.shutdown(2000)
