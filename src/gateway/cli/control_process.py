"""Control's process: the ledger, the services and the policies of a fleet, without a data plane of its own.

Any number of them run on one database, and each does everything but what one must do for all: the leader alone takes
the settings file's changes, moves the review shares and exchanges tasks with a label tool. What is in force is the
newest version in the ledger, whoever published it: each control looks for it once a second, and hands it to the
sidecars that watch there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.autopilot.acting import Acting
from gateway.cli.feedback import feedback_rate, feedback_rules, feedback_source
from gateway.cli.fleet_budget import FleetBudget
from gateway.cli.fleet_label_tool import LedLabelTool
from gateway.cli.label_tool import label_tool_of
from gateway.cli.lifecycle import give_back_memory, listen_to_signals, watch_file
from gateway.cli.pilot import Pilot
from gateway.cli.sources import LedgerSource, event_options, people_source
from gateway.cli.upkeep import Upkeep
from gateway.config import Settings
from gateway.config.changes import changes
from gateway.config.fleet import fleet_faults
from gateway.config.load import file_text
from gateway.errors import LedgerUnavailable, PolicyConflict, SettingsError
from gateway.fleet import digest
from gateway.ledger import Ledger, rules_of
from gateway.ledger.leadership import Leadership
from gateway.runtime import Batch, kept_secrets, listen_tls, verify_receipt
from gateway.runtime.check import check
from gateway.services import Control, Messages, RouteClasses
from gateway.services.access import Access
from gateway.services.admin import AdminServer, Post
from gateway.services.asking import Asking
from gateway.services.batches import Batches
from gateway.services.changes import Changes
from gateway.services.fleet import FleetService
from gateway.services.policies import BY_FILE, InForce, PolicyBook
from gateway.services.policy import PolicyService
from gateway.services.port import Port
from gateway.services.quality import QualityService
from gateway.telemetry import Point, Telemetry, TelemetryOptions
from gateway.v1 import fleet_pb2

__all__ = ["ControlProcess"]

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often it is looked for a newer policy, and for who leads."""


class ControlProcess:
    """One control, from its settings file to its last answer."""

    def __init__(self, file: Path, overrides: Sequence[str]) -> None:
        self._file = file
        self._overrides = tuple(overrides)
        self._stop = asyncio.Event()
        self._draining = False
        self._look = asyncio.Event()
        self._look.set()  # at once, the first time
        self._in_force: InForce | None = None
        self._messages: Messages | None = None
        self._routes: dict[str, Any] = {}
        self._leading = False
        self._file_reason = "start"
        self._file_taken: str | None = None

    async def run(self) -> None:
        """Serve until told to stop.

        Raises: SettingsError, before anything listens; LedgerError, when the ledger cannot be used.
        """
        listen_to_signals(self._stop.set, self._file_changed)
        self._loop = asyncio.get_running_loop()
        self._settings = settings = await asyncio.to_thread(self._load)
        secrets = kept_secrets(settings)
        self._secrets = secrets
        self._access = Access(settings.access)
        self._ledger = Ledger(settings.ledger_url)
        await asyncio.to_thread(self._ledger.open)
        self._leadership = Leadership(settings.ledger_url)
        self._budget = FleetBudget(self._ledger, lambda: self._book, self._look_now)
        self._book = PolicyBook(
            self._ledger,
            secrets,
            folder=self._file.absolute().parent,
            name=str(self._file),
            overrides=self._overrides,
            more=fleet_faults,
            own=self._own_text,
            budgets=self._budget.kept,
        )
        self._label_tool = LedLabelTool(
            lambda: label_tool_of(lambda: self._settings, self._ledger, self._classes, lambda: self._messages)
        )
        try:
            with tempfile.TemporaryDirectory(prefix="gateway-") as sockets:
                await self._serve(Path(sockets))
        finally:
            self._leadership.close()
            await asyncio.to_thread(self._ledger.close)
            log.info("stopped")

    async def _serve(self, sockets: Path) -> None:
        settings = self._settings
        control_socket, open_socket = str(sockets / "control"), str(sockets / "open")
        self._policies: Changes[fleet_pb2.FleetPolicy] = Changes()
        self._versions: Changes[int] = Changes()
        intake = Batches(self._ledger, self._seen)
        asking = Asking(self._ledger)
        fleet = FleetService(intake, self._policies, lambda: self._access, asking)
        ledger_source = LedgerSource(self._ledger)
        acting = Acting(self._ledger, self._book, self._change_now, self._standing)
        pilot = Pilot(
            self._ledger,
            self._book,
            acting,
            self._change_now,
            self._standing_if_any,
            lambda: self._settings,
            lambda: self._leading,
        )
        control = Control(
            control_socket,
            ledger=self._ledger,
            verify=lambda receipt: verify_receipt(receipt, self._secrets.receipt_keys),
            classes=self._classes,
            messages=lambda: self._messages,
            rules=lambda: feedback_rules(self._settings),
            rate=lambda: feedback_rate(self._settings),
            task_key=hashlib.sha256(b"review tasks " + bytes.fromhex(self._secrets.salt_hex)).digest(),
            access=lambda: self._access,
            policies=PolicyService(
                self._ledger, self._book, lambda: self._access, self._change, self._versions, acting
            ),
            quality=QualityService(
                self._ledger.reader,
                lambda: self._access,
                pilot.verdicts,
                lambda: tuple(self._settings.routes),
                told=pilot.told,
            ),
            fleet=fleet,
            people=asking.people,
            port=Port.of(str(settings.listen.control), settings.listen.control_tls),
            open_socket=open_socket,
        )
        self._telemetry = telemetry = Telemetry(
            TelemetryOptions(otlp=settings.telemetry.otlp, events=event_options(settings)),
            sources=[
                ledger_source.points,
                feedback_source(control),
                people_source(asking.people),
                self._budget.points,
                self._label_tool.points,
                pilot.points,
                lambda: self._points(intake, fleet),
            ],
        )
        admin = None
        tasks: list[asyncio.Task[None]] = []
        intake.start()
        asking.people.start()
        bound = {"control": await control.start()}
        telemetry.start()
        try:
            if settings.listen.admin is not None:
                admin = AdminServer(
                    settings.listen.admin,
                    http_socket=str(sockets / "http"),
                    open_socket=open_socket,
                    not_ready=self._not_ready,
                    metrics=telemetry.prometheus,
                    posts={"/label-studio": Post(self._label_tool.refusal, self._label_tool.webhook)}
                    if settings.label_studio
                    else None,
                )
                bound["admin"] = await admin.start()
            tasks = [
                asyncio.create_task(self._follow(control)),
                asyncio.create_task(watch_file(self._file, self._file_changed, self._stop)),
                asyncio.create_task(ledger_source.refresh_forever()),
                asyncio.create_task(Upkeep(self._ledger, lambda: self._settings).run()),
                asyncio.create_task(self._budget.run()),
                asyncio.create_task(asking.run()),
                asyncio.create_task(pilot.run()),
            ]
            give_back_memory()
            log.info("serving", extra=bound)
            await self._stop.wait()
        finally:
            self._draining = True
            control.set_serving(False)
            pilot.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._label_tool.follow, None)
            await control.stop(grace_s=1.0)
            await intake.stop()
            with contextlib.suppress(LedgerUnavailable):
                await asyncio.to_thread(self._budget.keep)
            await asyncio.to_thread(telemetry.stop, 2.0)
            if admin is not None:
                await admin.stop()

    def _look_now(self) -> None:
        """There is a newer policy; from any thread."""
        self._loop.call_soon_threadsafe(self._look.set)

    def _seen(self, batch: Batch) -> None:
        """Sidecars brought it, and it is stored."""
        self._budget.seen(batch)
        self._telemetry.send_captures(batch)

    def _own_text(self) -> str:
        text = file_text(self._file)
        return text if isinstance(text, str) else ""

    def _load(self) -> Settings:
        loaded = check(self._file, self._overrides, machine=True, files=False, code=False)
        text = file_text(self._file)
        faults = loaded.faults or fleet_faults(loaded, text if isinstance(text, str) else "")
        if loaded.settings is None or faults:
            raise SettingsError(list(faults))
        for warning in loaded.warnings:
            log.warning("%s", warning)
        return loaded.settings

    async def _follow(self, control: Control) -> None:
        """Run what is in force; where this is the leader, take the file's changes first."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await asyncio.to_thread(self._lead)
                found = await asyncio.to_thread(self._newer)
                if found is not None:
                    self._takes_over(found)
                    self._budget.takes_over(found)
                    control.set_serving(True)
                await asyncio.to_thread(self._lead_label_tool)
            except LedgerUnavailable as error:
                log.warning("the policy in force is not known: %s", error)
            except SettingsError as error:
                for fault in error.faults:
                    log.error("the policy in force cannot be used: %s", fault)
                await asyncio.sleep(LOOK_S)
            except Exception:
                log.exception("the policy in force cannot be used")
                await asyncio.sleep(LOOK_S)

    def _lead(self) -> None:
        """On a thread: look who leads, and act if it is this one."""
        leads = self._leadership.leads()
        if leads != self._leading:
            self._leading = leads
            log.info("leads" if leads else "leads no more")
            self._budget.leads(leads)
        if leads:
            self._take_file()

    def _lead_label_tool(self) -> None:
        """On a thread: the tool is at work where this control leads, by the settings in force."""
        known = self._leading and self._in_force is not None
        self._label_tool.follow(self._settings.label_studio if known else None)

    def _take_file(self) -> None:
        """Publish what the settings file says, where it says something new."""
        text = file_text(self._file)
        if not isinstance(text, str):
            log.error("settings not taken: %s", text)
            return
        if text == self._file_taken:
            return
        try:
            if self._book.file_is_new(text):
                latest = self._ledger.latest_policy()
                version = self._book.publish(
                    text, author=BY_FILE, reason=self._file_reason, onto=latest, file=True
                )
                log.info("settings taken", extra={"policy": version, "why": self._file_reason})
        except SettingsError as error:
            for fault in error.faults:
                log.error("settings not taken: %s", fault)
        except PolicyConflict as error:
            log.warning("settings not taken yet: %s", error)
            return
        self._file_taken = text

    def _file_changed(self, why: str) -> None:
        self._file_reason = why
        if why == "SIGHUP":
            self._file_taken = None
        self._look.set()

    def _newer(self) -> InForce | None:
        """The policy in force, unless it is the one that is served already."""
        version = self._ledger.latest_policy()
        if version == 0 or (self._in_force is not None and version == self._in_force.version):
            return None
        return self._book.in_force()

    def _takes_over(self, found: InForce) -> None:
        before = 0 if self._in_force is None else self._in_force.version
        for change in changes(self._settings, found.settings):
            log.log(logging.WARNING if change.restart else logging.INFO, "%s", change)
        self._in_force, settings = found, found.settings
        self._settings = settings
        self._ledger.set_review_rules(rules_of(settings))
        self._access = Access(settings.access)
        self._messages = Messages(found.document)
        self._routes = {route["name"]: route["prediction"] or {} for route in found.document["routes"]}
        document, serving = json.dumps(found.document), json.dumps(_serving(settings), sort_keys=True)
        self._policies.set(
            fleet_pb2.FleetPolicy(
                version=found.version, hash=digest(document, serving), document=document, serving=serving
            )
        )
        self._versions.set(found.version)
        log.info("policy in force", extra={"policy": found.version, "before": before})

    async def _change(self, make: Callable[[], int]) -> int:
        """Make a version by `make`, which blocks, and look for it at once."""
        version = await asyncio.to_thread(make)
        self._look.set()
        return version

    def _change_now(self, make: Callable[[], int]) -> int:
        """As `_change`, from another thread, which it blocks."""
        version = make()
        self._loop.call_soon_threadsafe(self._look.set)
        return version

    def _standing_if_any(self) -> InForce | None:
        """What is in force, read anew where this control does not run it yet; blocks."""
        known = self._in_force
        if known is None or self._ledger.latest_policy() != known.version:
            known = self._book.in_force()
        return known

    def _standing(self) -> InForce:
        """As `_standing_if_any`. Raises: LedgerUnavailable, while there is none."""
        known = self._standing_if_any()
        if known is None:
            raise LedgerUnavailable("no policy is in force yet; try again in a second")
        return known

    def _classes(self, route: str) -> RouteClasses | None:
        if self._in_force is None:
            raise LedgerUnavailable(
                "no policy is in force yet, so routes are not known; send it again in a second"
            )
        prediction = self._routes.get(route)
        if prediction is None:
            return None
        return RouteClasses(tuple(prediction.get("classes") or ()), prediction.get("positive"))

    def _not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        return "no policy yet" if self._in_force is None else None

    def _points(self, intake: Batches, fleet: FleetService) -> Iterable[Point]:
        if self._in_force is not None:
            yield Point("gateway.policy.version", self._in_force.version)
        yield Point("gateway.fleet.leader", int(self._leading))
        for name, value in intake.counters().items():
            if name.startswith("batches."):
                yield Point("gateway.fleet.batches", value, {"result": name.removeprefix("batches.")})
        for version, count in fleet.watching().items():
            yield Point("gateway.fleet.sidecars", count, {"version": version})


def _serving(settings: Settings) -> dict[str, Any]:
    """How a sidecar listens."""
    return {
        "inference": settings.listen.inference,
        "admin": settings.listen.admin,
        "workers": settings.workers,
        "tls": listen_tls(settings),
        "listening": settings.listen.limits.document(),
        "otlp": settings.telemetry.otlp,
        "python_workers": settings.limits.python_workers,
    }
