"""The sidecar's process: a data plane that runs the policies of a control, and brings it the records.

It starts by the last policy that it kept, whether or not control is there; without one it waits for the first. What it
needs of the settings comes with the policy, so that nothing here reads, checks or stores settings: a test looks at what
is imported, as this stands beside every model server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from gateway.cli.lifecycle import give_back_memory, listen_to_signals
from gateway.cli.sidecar_admin import SmallAdmin
from gateway.errors import GatewayError
from gateway.fleet import Controls, KeptPolicy, Limits, Outbox, Proxy, Spool, Trust, Uplink, digest, encode
from gateway.fleet.encoding import MOST_BATCH_BYTES
from gateway.runtime import Batch, Plane, PlaneOptions
from gateway.services.health import Health
from gateway.telemetry import Point, Source, Telemetry, TelemetryOptions, certificate_source, plane_source
from gateway.v1 import fleet_pb2

__all__ = ["SidecarOptions", "SidecarProcess"]

log = logging.getLogger(__name__)

DRAIN_S: Final = 5.0
"""Grace for calls under way when the process is told to stop."""

LAST_S: Final = 3.0
"""How long the last records may take to get to control before they are left in the spool."""

RING_ROWS: Final = 16_384
"""Records that wait to be drained: more than a second at 10,000 calls/s, in 2 MB."""

CAPTURE_BYTES: Final = 8 * 1024 * 1024
"""Payloads that wait to be drained; a batch of them fits into one message."""

COMPANY_S: Final = 0.25
"""How long records wait for company. A batch of a single record costs control milliseconds, a further record in it
nothing: at 40 calls/s, each a batch, three sidecars were more than a busy control took, and fell behind for good."""

CERTIFICATES_S: Final = 30.0
"""How often the files of certificates are looked at; Kubernetes takes a minute to bring new ones."""


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """What the command line says; None where the settings' word counts."""

    controls: tuple[str, ...]
    state_dir: Path
    name: str
    inference: str | None = None
    admin: str | None = None
    workers: int | None = None
    token: str | None = None
    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    spool_bytes: int = 256 * 1024 * 1024


class SidecarProcess:
    """One sidecar, from its first policy to its last record."""

    def __init__(self, options: SidecarOptions) -> None:
        self._options = options
        self._stop = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._kept = KeptPolicy(options.state_dir / "policy")
        self._policy = fleet_pb2.FleetPolicy()
        self._first = asyncio.Event()
        self._plane: Plane | None = None
        self._run = os.urandom(16)
        self._sequence = 0

    async def run(self) -> None:
        """Serve until told to stop.

        Raises: GatewayError or OSError, when it cannot begin.
        """
        listen_to_signals(self._stop.set, lambda _: None)
        options = self._options
        limits = Limits(spool_bytes=options.spool_bytes)
        self._outbox = Outbox(
            Spool(options.state_dir / "spool", limits.spool_bytes), limits, lambda: self._uplink.wake()
        )
        self._controls = Controls(
            options.controls, Trust(options.ca, options.cert, options.key, options.token)
        )
        self._uplink = Uplink(
            self._controls,
            self._outbox,
            sidecar=options.name,
            take=self._take,
            running=lambda: (self._policy.version, self._policy.hash),
        )
        talking = [asyncio.create_task(one) for one in (self._uplink.push(), self._uplink.watch())]
        self._tasks = [*talking, asyncio.create_task(self._uplink.settle())]
        try:
            if await self._begin():
                with tempfile.TemporaryDirectory(prefix="gateway-") as sockets:
                    await self._serve(Path(sockets))
        finally:
            await self._let_go()
            log.info("stopped", extra=self._outbox.counters())

    async def _begin(self) -> bool:
        """Have a policy; False where the process is told to stop before there is one."""
        kept = self._kept.read()
        if kept is not None:
            self._policy = kept
            return True
        log.info("waiting for the first policy", extra={"control": ",".join(self._options.controls)})
        waits = [asyncio.create_task(self._first.wait()), asyncio.create_task(self._stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self._first.is_set()

    async def _serve(self, sockets: Path) -> None:
        serving: Mapping[str, Any] = json.loads(self._policy.serving)
        options = self._options
        control_socket = str(sockets / "control")
        self._plane = plane = Plane(
            PlaneOptions(
                inference=options.inference or serving["inference"],
                control_socket=control_socket,
                workers=options.workers or _workers(serving["workers"]),
                ring_rows=RING_ROWS,
                capture_bytes=CAPTURE_BYTES,
                tls=serving["tls"],
                listening=serving["listening"],
                company_s=COMPANY_S,
            ),
            json.loads(self._policy.document),
        )
        telemetry = Telemetry(
            TelemetryOptions(otlp=serving["otlp"], queue_spans=2048),
            sources=[
                plane_source(plane.counters, lambda: self._policy.version),
                certificate_source(plane.certificates),
                outbox_source(self._outbox),
            ],
        )
        health = Health((), plane.health)
        server = grpc.aio.server(handlers=[Proxy(lambda: self._controls)])
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        server.add_insecure_port(f"unix:{control_socket}")
        plane.subscribe(self._put)
        plane.subscribe(telemetry.consume)
        await server.start()
        os.chmod(control_socket, 0o600)
        telemetry.start()
        admin = None
        try:
            bound = plane.start()
            address = options.admin or serving["admin"]
            if address is not None and address != "none":
                admin = SmallAdmin(
                    address,
                    not_ready=lambda: "draining" if self._draining else None,
                    metrics=telemetry.prometheus,
                )
                bound["admin"] = admin.start()
            self._tasks.append(asyncio.create_task(self._look_at_certificates(plane)))
            plane.set_serving(True)
            health.set_serving(True)
            give_back_memory()
            log.info("serving", extra={**bound, "policy": self._policy.version, "sidecar": options.name})
            await self._stop.wait()
        finally:
            self._draining = True
            plane.set_serving(False)
            health.set_serving(False)
            log.info("draining", extra={"grace_s": DRAIN_S})
            await asyncio.to_thread(plane.shutdown, int(DRAIN_S * 1000))
            await server.stop(1.0)
            await asyncio.to_thread(telemetry.stop, 2.0)
            if admin is not None:
                await asyncio.to_thread(admin.stop)

    async def _let_go(self) -> None:
        """Bring the last records, or leave them for the next process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                while (await asyncio.to_thread(self._outbox.counters))["waiting.batches"]:
                    await asyncio.sleep(0.05)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._outbox.settle, everything=True)
        await self._controls.close()

    def _put(self, batch: Batch) -> None:
        """A batch of the data plane, on the thread that drains."""
        self._sequence += 1
        name = {"run": self._run, "sequence": self._sequence, "sidecar": self._options.name}
        data = encode(batch, **name)  # type: ignore[arg-type]
        if len(data) > MOST_BATCH_BYTES:
            self._outbox.drop(0, "captures_too_large", f"{len(batch.captures)} captures in {len(data)} bytes")
            data = encode(_without_captures(batch), **name)  # type: ignore[arg-type]
        self._outbox.put(self._run, self._sequence, len(batch), data)

    async def _take(self, policy: fleet_pb2.FleetPolicy) -> None:
        if policy.hash != digest(policy.document, policy.serving):
            raise GatewayError("its sum is not that of its text")
        before = self._policy
        if self._plane is None:
            self._policy = policy
        else:
            await asyncio.to_thread(self._plane.publish, json.loads(policy.document))
            self._policy = policy
            log.info("policy taken", extra={"policy": policy.version, "before": before.version})
            if policy.serving != before.serving:
                log.warning("listen, workers or telemetry changed: they count from the next start")
        try:
            await asyncio.to_thread(self._kept.write, policy)
        except OSError as error:
            log.error("the policy could not be kept, a restart without control would not have it: %s", error)
        self._first.set()

    async def _look_at_certificates(self, plane: Plane) -> None:
        while True:
            await asyncio.sleep(CERTIFICATES_S)
            found = await asyncio.to_thread(plane.reload_certificates)
            for place in found["taken"]:
                log.info("certificates taken", extra={"setting": ".".join(place)})
            for fault in found["faults"]:
                log.warning("certificates not taken: %s %s", fault["file"], fault["found"])


def outbox_source(outbox: Outbox) -> Source:
    """What waits for control, and what never got there."""

    def points() -> Iterable[Point]:
        for name, value in outbox.counters().items():
            if name == "waiting.records":
                yield Point("gateway.fleet.waiting", value)
            elif name.startswith("dropped.records."):
                reason = f"fleet_{name.removeprefix('dropped.records.')}"
                yield Point("gateway.dropped", value, {"what": "records", "reason": reason})

    return points


def _without_captures(batch: Batch) -> Batch:
    return Batch(
        batch.records, batch.attempts, batch.mirrors, batch.strings, [], batch.names, raises=batch.raises
    )


def _workers(said: int | str) -> int:
    return said if isinstance(said, int) else len(os.sched_getaffinity(0))
