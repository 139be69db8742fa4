"""The sidecar's process: a data plane that runs the policies of a control, and brings it the records.

It starts by the last policy that it kept, whether or not control is there; without one that can be used it waits for
another. What it needs of the settings comes with the policy, so that nothing here reads, checks or stores settings: a
test looks at what is imported, as this stands beside every model server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from gateway.cli.lifecycle import give_back_memory, listen_to_signals
from gateway.cli.sidecar_admin import SmallAdmin
from gateway.cli.sidecar_memory import let_go_of_libraries
from gateway.cli.sidecar_rules import SidecarRules
from gateway.errors import GatewayError
from gateway.fleet import (
    Controls,
    KeptPolicy,
    Limits,
    Outbox,
    PeopleLine,
    Proxy,
    Spool,
    Trust,
    Uplink,
    digest,
)
from gateway.fleet.encoding import messages
from gateway.runtime import Batch, Plane, PlaneOptions, PolicyError
from gateway.services.health import Health
from gateway.telemetry import Point, Source, Telemetry, TelemetryOptions, certificate_source, plane_source
from gateway.v1 import fleet_pb2

__all__ = ["SidecarOptions", "SidecarProcess"]

log = logging.getLogger(__name__)

_UNUSABLE: Final = (GatewayError, PolicyError, KeyError, TypeError, ValueError)
"""What the making of a plane raises where a policy is at fault, or a file that it names."""

DRAIN_S: Final = 5.0
"""Grace for calls under way when the process is told to stop."""

LAST_S: Final = 3.0
"""How long the last records may take to get to control before they are left in the spool."""

RING_ROWS: Final = 16_384
"""Records that wait to be drained: more than a second at 10,000 calls/s, in 2 MB."""

CAPTURE_BYTES: Final = 8 * 1024 * 1024
"""Payloads that wait to be drained."""

AGAIN_S: Final = 30.0
"""How soon a policy that could not be used at the start is tried again: a file that it names may be there by then."""

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
    rules: Path | None = None


class SidecarProcess:
    """One sidecar, from its first policy to its last record."""

    def __init__(self, options: SidecarOptions) -> None:
        self._options = options
        self._stop = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._kept = KeptPolicy(options.state_dir / "policy")
        self._policy = fleet_pb2.FleetPolicy()
        self._another = asyncio.Event()
        self._plane: Plane | None = None
        self._rules: SidecarRules | None = None
        self._publishing = threading.Lock()
        self._reloading: asyncio.Task[None] | None = None
        self._run = os.urandom(16)
        self._sequence = 0

    async def run(self) -> None:
        """Serve until told to stop.

        Raises: GatewayError or OSError, when it cannot begin.
        """
        listen_to_signals(self._stop.set, self._reload_rules)
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
            with tempfile.TemporaryDirectory(prefix="gateway-") as sockets:
                control_socket = f"{sockets}/control"
                if await self._begin(control_socket):
                    await self._serve(control_socket)
        finally:
            await self._let_go()
            log.info("stopped", extra=self._outbox.counters())

    async def _begin(self, control_socket: str) -> bool:
        """Have a plane that runs a policy; False where the process is told to stop before there is one."""
        self._policy = self._kept.read() or self._policy
        told = b""
        while not self._stop.is_set():
            policy = self._policy
            self._another.clear()
            if not policy.version:
                log.info("waiting for the first policy", extra={"control": ",".join(self._options.controls)})
            else:
                try:
                    await self._make(policy, control_socket)
                except _UNUSABLE as error:
                    if told != policy.hash:
                        log.error(
                            "policy %d cannot be used: %s; waiting for another one", policy.version, error
                        )
                    told = policy.hash
                else:
                    await self._catch_up(policy)
                    return True
            await self._wait(AGAIN_S if policy.version else None)
        return False

    async def _make(self, policy: fleet_pb2.FleetPolicy, control_socket: str) -> None:
        serving: Mapping[str, Any] = json.loads(policy.serving)
        document: Mapping[str, Any] = json.loads(policy.document)
        options = self._options
        made = PlaneOptions(
            inference=options.inference or serving["inference"],
            control_socket=control_socket,
            workers=options.workers or _workers(serving["workers"]),
            ring_rows=RING_ROWS,
            capture_bytes=CAPTURE_BYTES,
            tls=serving["tls"],
            listening=serving["listening"],
            company_s=COMPANY_S,
        )
        plane = await asyncio.to_thread(Plane, made, document)
        rules = SidecarRules(options.rules, plane.desk.answer, plane.desk.reply)
        (await asyncio.to_thread(rules.prepare, document, serving))(True)
        await self._keep(policy)  # first: until there is a plane, what comes meanwhile is kept by nobody else
        self._plane, self._rules = plane, rules

    async def _catch_up(self, made_of: fleet_pb2.FleetPolicy) -> None:
        """Take what came while the plane was made."""
        newer = self._policy
        if newer is not made_of:
            self._policy = made_of
            try:
                await self._take(newer)
            except Exception as error:
                log.error("policy %d not taken, the old one stays: %s", newer.version, error)

    async def _wait(self, most_s: float | None) -> None:
        """Until there is another policy, or the process is told to stop."""
        waits = [asyncio.create_task(self._another.wait()), asyncio.create_task(self._stop.wait())]
        await asyncio.wait(waits, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _serve(self, control_socket: str) -> None:
        plane, rules, options = self._plane, self._rules, self._options
        assert plane is not None
        assert rules is not None, "made by `_begin`"
        serving: Mapping[str, Any] = json.loads(self._policy.serving)
        people = PeopleLine(self._controls, plane.desk.reply)
        plane.desk.answer("people", people)
        self._tasks.append(asyncio.create_task(people.run()))
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
            await asyncio.to_thread(let_go_of_libraries)
            log.info("serving", extra={**bound, "policy": self._policy.version, "sidecar": options.name})
            await self._stop.wait()
        finally:
            self._draining = True
            plane.set_serving(False)
            health.set_serving(False)
            log.info("draining", extra={"grace_s": DRAIN_S})
            await asyncio.to_thread(plane.shutdown, int(DRAIN_S * 1000))
            await asyncio.to_thread(rules.close)
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
        name = {"run": self._run, "sequence": self._sequence + 1, "sidecar": self._options.name}
        for sequence, records, data in messages(batch, **name):  # type: ignore[arg-type]
            if not data:
                self._outbox.drop(records, "too_large", "a captured call does not fit into a message")
                continue
            self._outbox.put(self._run, sequence, records, data)
            self._sequence = sequence

    async def _take(self, policy: fleet_pb2.FleetPolicy) -> None:
        if policy.hash != digest(policy.document, policy.serving):
            raise GatewayError("its sum is not that of its text")
        before = self._policy
        if self._plane is None:
            self._policy = policy
            self._another.set()
            return
        await asyncio.to_thread(self._publish, policy)
        self._policy = policy
        log.info("policy taken", extra={"policy": policy.version, "before": before.version})
        if _listening(policy) != _listening(before):
            log.warning("listen, workers or telemetry changed: they count from the next start")
        await self._keep(policy)

    def _publish(self, policy: fleet_pb2.FleetPolicy, *, anew: bool = False) -> None:
        """On a thread: rules come first, so that no call of the policy asks for functions that are not there."""
        assert self._plane is not None
        assert self._rules is not None
        document = json.loads(policy.document)
        with self._publishing:
            settle = self._rules.prepare(document, json.loads(policy.serving), anew=anew)
            try:
                self._plane.publish(document)
            except BaseException:
                settle(False)
                raise
            settle(True)

    async def _keep(self, policy: fleet_pb2.FleetPolicy) -> None:
        try:
            await asyncio.to_thread(self._kept.write, policy)
        except OSError as error:
            log.error("the policy could not be kept, a restart without control would not have it: %s", error)

    def _reload_rules(self, why: str) -> None:
        """The code behind rules may have changed: the policy in force is published once more, with new processes."""
        if self._plane is not None and self._options.rules is not None:
            self._reloading = asyncio.create_task(self._publish_again(why))

    async def _publish_again(self, why: str) -> None:
        try:
            await asyncio.to_thread(self._publish, self._policy, anew=True)
        except Exception as error:
            log.error("rules not loaded again, those that were stay: %s", error)
        else:
            log.info("rules loaded again", extra={"why": why})

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


def _listening(policy: fleet_pb2.FleetPolicy) -> dict[str, Any]:
    """What of it counts at the start only."""
    return {name: value for name, value in json.loads(policy.serving).items() if name != "python_workers"}


def _workers(said: int | str) -> int:
    return said if isinstance(said, int) else len(os.sched_getaffinity(0))
