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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.autopilot import ReviewBudget
from gateway.cli.budgets import BudgetWatch, kept_starts, make_budget
from gateway.cli.feedback import feedback_rate, feedback_rules, feedback_source
from gateway.cli.label_tool import label_tool_of, label_tool_source
from gateway.cli.lifecycle import give_back_memory, listen_to_signals, watch_file
from gateway.cli.sources import LedgerSource, event_options, people_source
from gateway.cli.upkeep import Upkeep
from gateway.config import Settings
from gateway.config.changes import changes
from gateway.config.listening import is_loopback
from gateway.errors import GatewayError, SettingsError
from gateway.ledger import Ledger, rules_of
from gateway.ledger.review_budget import BUDGET_KEY
from gateway.runtime import (
    RULE_ERRORS,
    CertificateWatch,
    Plane,
    PlaneOptions,
    RuleWorkers,
    certificate_files,
    functions_of,
    kept_secrets,
    listen_tls,
    verify_receipt,
)
from gateway.runtime.check import check
from gateway.runtime.document import document
from gateway.services import Control, Messages, People, RouteClasses
from gateway.services.access import Access
from gateway.services.admin import AdminServer, Post
from gateway.services.policies import SECRET_FIELDS
from gateway.services.port import Port
from gateway.telemetry import Telemetry, TelemetryOptions, certificate_source, plane_source

__all__ = ["Process"]

log = logging.getLogger(__name__)

BUDGET_PERIOD_S: Final = 10.0
"""How often the review shares are looked at again."""


def access_of(settings: Settings) -> Access:
    """Who may review; what comes through a port that others reach does not count as from this machine."""
    return Access(settings.access, near=is_loopback(settings.listen.inference))


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
        self._version = 0
        self._reload_why: str | None = None
        self._reload_wanted = asyncio.Event()
        self._changing = asyncio.Lock()

    async def run(self) -> None:
        """Serves until told to stop.

        Raises: SettingsError, before anything listens; LedgerError, when the ledger cannot be used.
        """
        # first: until then SIGHUP would end the process
        listen_to_signals(self._stop.set, self._want_reload)
        self._settings = settings = await asyncio.to_thread(self._load, machine=True)
        self._secrets, self._access = kept_secrets(settings), access_of(settings)
        self._ledger = Ledger(settings.ledger_url)
        self._ledger.set_review_rules(rules_of(settings))
        self._ledger.open()
        try:
            with tempfile.TemporaryDirectory(prefix="gateway-") as sockets:
                await self._serve(Path(sockets))
        finally:
            self._ledger.close()
            log.info("stopped")

    async def _serve(self, sockets: Path) -> None:
        settings = self._settings
        control_socket, open_socket = str(sockets / "control"), str(sockets / "open")
        self._budget = make_budget(settings, kept_starts(self._ledger.reader))
        policy = self._compile(settings, self._budget, author="serve", reason="start")
        self._takes_over(policy)
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
        self._rules = self._make_rules(settings)
        self._plane.desk.answer("people", people)
        self._plane.desk.answer("rule", self._rules)
        ledger_source = LedgerSource(self._ledger)
        budget_watch = BudgetWatch(self._ledger.reader, lambda: self._budget)
        self._label_studio = label_tool_of(
            lambda: self._settings, self._ledger, self._classes, lambda: self._messages
        )
        control = Control(
            control_socket,
            ledger=self._ledger,
            verify=lambda receipt: verify_receipt(receipt, self._secrets.receipt_keys),
            classes=self._classes,
            messages=lambda: self._messages,
            access=lambda: self._access,
            rules=lambda: feedback_rules(self._settings),
            rate=lambda: feedback_rate(self._settings),
            models=self._plane.health,
            people=people,
            task_key=hashlib.sha256(b"review tasks " + bytes.fromhex(self._secrets.salt_hex)).digest(),
            port=port_of(settings),
            open_socket=open_socket,
        )
        telemetry = Telemetry(
            TelemetryOptions(otlp=settings.telemetry.otlp, events=event_options(settings)),
            sources=[
                plane_source(self._plane.counters, lambda: self._version),
                certificate_source(self._plane.certificates),
                people_source(people),
                feedback_source(control),
                *([label_tool_source(self._label_studio)] if self._label_studio else []),
                ledger_source.points,
                budget_watch.points,
            ],
        )
        self._plane.subscribe(self._ledger.write_batch)
        self._plane.subscribe(telemetry.consume)
        self._plane.subscribe(lambda batch: self._budget.consume(batch))
        self._certificates = CertificateWatch(self._plane)
        self._certificates.follow(certificate_files(settings))
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
                asyncio.create_task(self._certificates.run()),
                asyncio.create_task(self._reload_when_wanted()),
                asyncio.create_task(self._revise_budget()),
                asyncio.create_task(ledger_source.refresh_forever()),
                asyncio.create_task(Upkeep(self._ledger, lambda: self._settings).run()),
                asyncio.create_task(budget_watch.run()),
            ]
            if self._label_studio is not None:
                self._label_studio.start()
            self._ready(control, serving=True)
            give_back_memory()
            log.info("serving", extra={**bound, "policy": self._version, "routes": len(settings.routes)})
            await self._stop.wait()
        finally:
            await self._take_down(control, telemetry, admin)

    async def _take_down(self, control: Control, telemetry: Telemetry, admin: AdminServer | None) -> None:
        grace_s = self._settings.listen.drain_s
        self._ready(control, serving=False)
        log.info("draining", extra={"grace_s": grace_s})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._label_studio is not None:
            await asyncio.to_thread(self._label_studio.stop, 2.0)
        await asyncio.to_thread(self._plane.shutdown, int(grace_s * 1000))
        self._rules.close()
        await asyncio.to_thread(self._rules.join, 2.0)
        await control.stop(grace_s=1.0)
        await asyncio.to_thread(telemetry.stop, 2.0)
        if admin is not None:
            await admin.stop()

    def _ready(self, control: Control, *, serving: bool) -> None:
        self._draining = not serving
        self._plane.set_serving(serving)
        control.set_serving(serving)

    def _load(self, *, machine: bool) -> Settings:
        loaded = check(self._file, self._overrides, machine=machine, files=True)
        if loaded.settings is None:
            raise SettingsError(list(loaded.faults))
        for warning in loaded.warnings:
            log.warning("%s", warning)
        return loaded.settings

    def _make_rules(self, settings: Settings) -> RuleWorkers:
        """Raises: GatewayError, when what was good a moment ago cannot be loaded."""
        folder = self._file.absolute().parent
        workers = settings.limits.python_workers
        try:
            return RuleWorkers(folder, functions_of(settings), workers, self._plane.desk.reply)
        except RULE_ERRORS as error:
            raise GatewayError(f"rules in Python cannot be loaded: {type(error).__name__} {error}") from error

    def _compile(
        self, settings: Settings, budget: ReviewBudget, *, author: str, reason: str
    ) -> dict[str, Any]:
        """The document of the settings and what was learnt, kept in the ledger under a version.

        Waits for the ledger's disk: once the gateway serves, never on the loop that feedback and health wait for.
        """
        made = document(
            settings,
            version=1,
            salt_hex=self._secrets.salt_hex,
            receipt_keys=self._secrets.receipt_keys,
            review_shares=budget.shares,
        )
        kept = {key: value for key, value in made.items() if key not in SECRET_FIELDS}
        kept[BUDGET_KEY] = budget.kept()
        made["version"] = self._ledger.keep_policy(kept, author=author, reason=reason)
        return made

    def _takes_over(self, made: Mapping[str, Any]) -> None:
        """From now on this is the policy that is told of."""
        self._version = made["version"]
        self._messages = Messages(made)
        self._routes = {route["name"]: route["prediction"] or {} for route in made["routes"]}

    async def _publish(self, settings: Settings, budget: ReviewBudget, *, author: str, reason: str) -> None:
        """Raises: GatewayError; then the old policy stays."""
        made = await asyncio.to_thread(self._compile, settings, budget, author=author, reason=reason)
        await asyncio.to_thread(self._plane.publish, made)
        self._takes_over(made)

    def _classes(self, route: str) -> RouteClasses | None:
        """What labels a route knows; None where there is no such route."""
        prediction = self._routes.get(route)
        if prediction is None:
            return None
        return RouteClasses(tuple(prediction.get("classes") or ()), prediction.get("positive"))

    async def _reload_when_wanted(self) -> None:
        """One reload at a time; those wanted meanwhile are one more."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            try:
                async with self._changing:
                    await self._reload(self._reload_why or "")
            except Exception:
                # The next change of the file must be taken all the same.
                log.exception("settings not taken")

    async def _reload(self, reason: str) -> None:
        try:
            settings = await asyncio.to_thread(self._load, machine=False)
        except SettingsError as error:
            for fault in error.faults:
                log.error("settings not taken: %s", fault)
            return
        for change in changes(self._settings, settings):
            log.log(logging.WARNING if change.restart else logging.INFO, "%s", change)
        budget, before = make_budget(settings, self._budget.starts()), self._version
        rules = None
        try:
            # New processes even where no rule has changed: the code behind it may have.
            rules = await asyncio.to_thread(self._make_rules, settings)
            self._plane.desk.answer("rule", rules)  # before the calls of the new policy ask them
            await self._publish(settings, budget, author="serve", reason=reason)
        except GatewayError as error:
            log.error("settings not taken: %s", error)
            self._plane.desk.answer("rule", self._rules)
            if rules is not None:
                rules.close()
            return
        self._rules.close()
        self._rules = rules
        self._settings, self._budget, self._access = settings, budget, access_of(settings)
        self._ledger.set_review_rules(rules_of(settings))
        self._certificates.follow(certificate_files(settings))
        log.info("settings taken", extra={"policy": self._version, "before": before, "why": reason})

    def _want_reload(self, why: str) -> None:
        self._reload_why = why
        self._reload_wanted.set()

    async def _revise_budget(self) -> None:
        wanted = False
        while True:
            await asyncio.sleep(BUDGET_PERIOD_S)
            wanted |= self._budget.revise() is not None
            if not wanted:
                continue
            try:
                async with self._changing:
                    await self._publish(
                        self._settings, self._budget, author="autopilot", reason="review budget"
                    )
            except GatewayError as error:
                log.error("review shares not taken: %s; tried again in %g s", error, BUDGET_PERIOD_S)
                continue
            wanted = False
            log.info("review shares", extra={"policy": self._version, "routes": len(self._budget.shares)})
