"""The serving process: puts the rooms together, keeps them in step, and takes them down in order.

Starting: settings, ledger, control services, data plane, admin port; the data plane is last to listen, so that no call
meets half a gateway. Stopping turns it around: readiness goes first, then calls under way finish, their records are
written, and only then does the ledger close.

Signals: SIGTERM and SIGINT drain, SIGHUP reads the settings again (as does a change of the file). A faulty file changes
nothing: its faults are logged with their lines, and the old policy stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.autopilot.acting import Acting
from gateway.cli.budgets import BudgetWatch
from gateway.cli.feedback import feedback_rate, feedback_rules, feedback_source
from gateway.cli.label_tool import label_tool_of, label_tool_source
from gateway.cli.lifecycle import give_back_memory, listen_to_signals, watch_file
from gateway.cli.pilot import Pilot
from gateway.cli.ruling import Ruling, load
from gateway.cli.sources import LedgerSource, event_options, people_source
from gateway.cli.upkeep import Upkeep
from gateway.config import Settings
from gateway.ledger import Ledger, rules_of
from gateway.runtime import (
    CertificateWatch,
    Plane,
    PlaneOptions,
    kept_secrets,
    listen_tls,
    verify_receipt,
)
from gateway.services import Control, People
from gateway.services.admin import AdminServer, Post
from gateway.services.policy import PolicyService
from gateway.services.port import Port
from gateway.services.quality import QualityService
from gateway.telemetry import Telemetry, TelemetryOptions, certificate_source, plane_source

__all__ = ["Process"]

log = logging.getLogger(__name__)

BUDGET_PERIOD_S: Final = 10.0
"""How often the review shares are looked at again."""


def port_of(settings: Settings) -> Port | None:
    """A port for the control services besides the inference port."""
    address = settings.listen.control
    return None if address is None else Port.of(address, settings.listen.control_tls)


class Process:
    """One gateway, from its settings file to its last record."""

    def __init__(self, file: Path, overrides: Sequence[str]) -> None:
        self._file = file
        self._overrides = tuple(overrides)
        self._stop = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._reload_why: str | None = None
        self._reload_wanted = asyncio.Event()

    async def run(self) -> None:
        """Serves until told to stop.

        Raises: SettingsError, before anything listens; LedgerError, when the ledger cannot be used.
        """
        # first: until then SIGHUP would end the process
        listen_to_signals(self._stop.set, self._want_reload)
        settings = await asyncio.to_thread(load, self._file, self._overrides, machine=True)
        self._secrets = kept_secrets(settings)
        self._ledger = Ledger(settings.ledger_url)
        self._ledger.set_review_rules(rules_of(settings))
        self._ledger.open()
        self._ruling = Ruling(self._file, self._overrides, settings, self._ledger, self._secrets)
        try:
            with tempfile.TemporaryDirectory(prefix="gateway-") as sockets:
                await self._serve(Path(sockets), settings)
        finally:
            self._ledger.close()
            log.info("stopped")

    async def _serve(self, sockets: Path, settings: Settings) -> None:
        control_socket, open_socket = str(sockets / "control"), str(sockets / "open")
        ruling = self._ruling
        policy = await asyncio.to_thread(ruling.start)
        self._plane = Plane(
            PlaneOptions(
                inference=settings.listen.inference,
                control_socket=control_socket,
                workers=settings.worker_count,
                tls=listen_tls(settings),
                listening=settings.listen.limits.document(),
            ),
            policy,
        )
        people = People(self._ledger, self._plane.desk.reply)
        people.start()
        self._plane.desk.answer("people", people)
        certificates = CertificateWatch(self._plane)
        ruling.run_by(self._plane, certificates)
        ledger_source = LedgerSource(self._ledger)
        budget_watch = BudgetWatch(self._ledger.reader, lambda: ruling.budget)
        self._label_studio = label_tool_of(
            lambda: ruling.settings, self._ledger, ruling.classes, lambda: ruling.messages
        )
        acting = Acting(self._ledger, ruling.book, ruling.change_now, lambda: ruling.in_force)
        self._pilot = pilot = Pilot(
            self._ledger,
            ruling.book,
            acting,
            ruling.change_now,
            lambda: ruling.in_force,
            lambda: ruling.settings,
        )
        control = Control(
            control_socket,
            ledger=self._ledger,
            verify=lambda receipt: verify_receipt(receipt, self._secrets.receipt_keys),
            classes=ruling.classes,
            messages=lambda: ruling.messages,
            access=lambda: ruling.access,
            rules=lambda: feedback_rules(ruling.settings),
            rate=lambda: feedback_rate(ruling.settings),
            models=self._plane.health,
            people=people,
            policies=PolicyService(
                self._ledger, ruling.book, lambda: ruling.access, ruling.change, ruling.versions, acting
            ),
            quality=QualityService(
                self._ledger.reader,
                lambda: ruling.access,
                pilot.verdicts,
                lambda: tuple(ruling.settings.routes),
                told=pilot.told,
            ),
            task_key=hashlib.sha256(b"review tasks " + bytes.fromhex(self._secrets.salt_hex)).digest(),
            port=port_of(settings),
            open_socket=open_socket,
        )
        telemetry = Telemetry(
            TelemetryOptions(otlp=settings.telemetry.otlp, events=event_options(settings)),
            sources=[
                plane_source(self._plane.counters, lambda: ruling.version),
                certificate_source(self._plane.certificates),
                people_source(people),
                feedback_source(control),
                *([label_tool_source(self._label_studio)] if self._label_studio else []),
                ledger_source.points,
                budget_watch.points,
                pilot.points,
            ],
        )
        self._plane.subscribe(self._ledger.write_batch)
        self._plane.subscribe(telemetry.consume)
        self._plane.subscribe(lambda batch: ruling.budget.consume(batch))
        admin = None
        control_address = await control.start()
        telemetry.start()
        try:
            bound = self._plane.start()
            if control_address is not None:
                bound["control"] = control_address
            if settings.listen.admin is not None:
                admin = AdminServer(
                    settings.listen.admin,
                    http_socket=str(sockets / "http"),
                    open_socket=open_socket,
                    not_ready=lambda: "draining" if self._draining else None,
                    metrics=telemetry.prometheus,
                    posts={"/label-studio": Post(tool.refusal, tool.webhook)}
                    if (tool := self._label_studio)
                    else None,
                )
                bound["admin"] = await admin.start()
            self._tasks = [
                asyncio.create_task(watch_file(self._file, self._want_reload, self._stop)),
                asyncio.create_task(certificates.run()),
                asyncio.create_task(self._reload_when_wanted()),
                asyncio.create_task(self._revise_budget()),
                asyncio.create_task(ledger_source.refresh_forever()),
                asyncio.create_task(Upkeep(self._ledger, lambda: ruling.settings).run()),
                asyncio.create_task(budget_watch.run()),
                asyncio.create_task(pilot.run()),
            ]
            if self._label_studio is not None:
                self._label_studio.start()
            self._ready(control, serving=True)
            give_back_memory()
            log.info("serving", extra={**bound, "policy": ruling.version, "routes": len(settings.routes)})
            await self._stop.wait()
        finally:
            await self._take_down(control, telemetry, admin)

    async def _take_down(self, control: Control, telemetry: Telemetry, admin: AdminServer | None) -> None:
        grace_s = self._ruling.settings.listen.drain_s
        self._ready(control, serving=False)
        log.info("draining", extra={"grace_s": grace_s})
        self._pilot.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._label_studio is not None:
            await asyncio.to_thread(self._label_studio.stop, 2.0)
        await asyncio.to_thread(self._plane.shutdown, int(grace_s * 1000))
        self._ruling.rules.close()
        await asyncio.to_thread(self._ruling.rules.join, 2.0)
        await control.stop(grace_s=1.0)
        await asyncio.to_thread(telemetry.stop, 2.0)
        if admin is not None:
            await admin.stop()

    def _ready(self, control: Control, *, serving: bool) -> None:
        self._draining = not serving
        self._plane.set_serving(serving)
        control.set_serving(serving)

    async def _reload_when_wanted(self) -> None:
        """One reload at a time; those wanted meanwhile are one more."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            try:
                await self._ruling.reload(self._reload_why or "")
            except Exception:
                # The next change of the file must be taken all the same.
                log.exception("settings not taken")

    def _want_reload(self, why: str) -> None:
        self._reload_why = why
        self._reload_wanted.set()

    async def _revise_budget(self) -> None:
        wanted = False
        while True:
            await asyncio.sleep(BUDGET_PERIOD_S)
            try:
                wanted = await self._ruling.revise_budget(wanted)
            except Exception:
                log.exception("review shares not taken")
                wanted = True
