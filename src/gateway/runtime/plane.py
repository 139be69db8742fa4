"""Runs the data plane: starts it, hands it policies, and brings its records to those who asked for them.

The data plane owns its threads; this side has one thread that pulls batches (the wait happens without the interpreter
lock) and gives each to the subscribers in turn. A subscriber that raises is logged and counted and loses that batch; it
never stops the others, let alone a call.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway._dataplane import Dataplane, Policy, PolicyError
from gateway.runtime.batch import Batch, PolicyNames, names
from gateway.runtime.desk import Desk

__all__ = ["Plane", "PlaneOptions", "PolicyError", "Subscriber"]

log = logging.getLogger(__name__)

Subscriber = Callable[[Batch], None]

KEPT_POLICIES: Final = 256
"""Policy versions whose names are remembered; a call that outlives so many reloads is recorded without names."""

DRAIN_WAIT_MS: Final = 250
"""How long one pull waits for records; also how stale metrics may be on a quiet gateway."""

MAX_PAUSE_S: Final = 5.0
"""How long stopping waits for the draining thread."""


@dataclass(frozen=True, slots=True)
class PlaneOptions:
    """What the data plane is started with; all of it is fixed until the process ends."""

    inference: str
    control_socket: str | None
    workers: int = 1
    ring_rows: int = 65_536
    capture_bytes: int = 64 * 1024 * 1024
    tls: Mapping[str, str | None] | None = None
    """Paths cert, key and client_ca of the inference port; None for plain text."""
    listening: Mapping[str, int] = field(default_factory=dict)
    """Limits of the inference port; those absent are as by default."""
    company_s: float = 0.0
    """How long records wait for others after a batch; where each batch costs more than its records do."""


class Plane:
    """One data plane and its batches."""

    def __init__(self, options: PlaneOptions, document: Mapping[str, Any]) -> None:
        self._company_s = options.company_s
        self._names: dict[int, PolicyNames] = {}
        self._subscribers: list[Subscriber] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._subscriber_faults = 0
        self._dataplane = Dataplane(
            json.dumps(
                {
                    "inference": options.inference,
                    "workers": options.workers,
                    "control_socket": options.control_socket,
                    "ring_rows": options.ring_rows,
                    "capture_bytes": options.capture_bytes,
                    "tls": None if options.tls is None else dict(options.tls),
                    "listening": dict(options.listening),
                }
            ),
            self._compile(document),
        )
        self._desk = Desk(self._dataplane)

    @property
    def desk(self) -> Desk:
        """Where calls ask for people and rules in Python."""
        return self._desk

    def subscribe(self, subscriber: Subscriber) -> None:
        """Adds a receiver of batches; call before `start`."""
        self._subscribers.append(subscriber)

    def start(self) -> dict[str, str]:
        """Listens and begins to drain.

        Returns: the addresses really bound, by name of the listener.
        Raises: OSError, with the address, when it cannot be bound.
        """
        bound = self._dataplane.start()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self._thread.start()
        self._desk.start()
        return bound

    def publish(self, document: Mapping[str, Any]) -> None:
        """Makes the document the policy of every call that begins from now on; calls under way keep theirs.

        Raises: PolicyError, if it does not compile or a backend's certificates are faulty; the old policy then stays.
        """
        self._dataplane.publish(self._compile(document))

    def reload_certificates(self) -> Mapping[str, list[Any]]:
        """Reads the files of certificates again. Returns: `taken` (places) and `faults`; there the old stays in use."""
        return self._dataplane.reload_certificates()

    def certificates(self) -> Sequence[Mapping[str, Any]]:
        """The certificates in use: place, setting, file, not_before, not_after (unix seconds), names."""
        return self._dataplane.certificates()

    def counters(self) -> dict[str, int]:
        """Counters and gauges of the data plane, and faults of subscribers."""
        counters = dict(self._dataplane.counters())
        counters["dropped.batch.subscriber"] = self._subscriber_faults
        return counters

    def health(self) -> dict[str, bool]:
        """By the names of routes and of the models they match: whether a call could be answered now."""
        return self._dataplane.health()

    def set_serving(self, serving: bool) -> None:
        """Tells peers that ask for readiness; calls are accepted all the same."""
        self._dataplane.set_serving(serving)

    def shutdown(self, grace_ms: int) -> None:
        """Lets calls under way finish within the grace, stops, and delivers the last records. Idempotent."""
        self._dataplane.shutdown(grace_ms)
        self._desk.stop(MAX_PAUSE_S)
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(MAX_PAUSE_S)
            self._thread = None
            self._deliver_rest()

    def _compile(self, document: Mapping[str, Any]) -> Policy:
        policy = Policy(json.dumps(document))
        self._names[policy.version] = names(document)
        while len(self._names) > KEPT_POLICIES:
            self._names.pop(next(iter(self._names)))
        return policy

    def _run(self) -> None:
        while not self._stopping.is_set():
            raw = self._dataplane.drain(DRAIN_WAIT_MS)
            if raw is not None:
                self._deliver(raw)
                if self._company_s:
                    self._stopping.wait(self._company_s)

    def _deliver_rest(self) -> None:
        while (raw := self._dataplane.drain(0)) is not None:
            self._deliver(raw)

    def _deliver(self, raw: Mapping[str, Any]) -> None:
        batch = Batch(
            records=raw["records"],
            attempts=raw["attempts"],
            mirrors=raw["mirrors"],
            strings=raw["strings"],
            captures=raw["captures"],
            names=dict(self._names),
            raises=raw["raises"],
        )
        for subscriber in self._subscribers:
            try:
                subscriber(batch)
            except Exception:
                self._subscriber_faults += 1
                log.exception("a receiver of records failed; it lost one batch of %d rows", len(batch))
