"""Which policy the serving process runs: the newest version in its ledger, whoever made it.

The settings file, review budgets, gates and people all change the policy by one way: a version is kept, then it is
published to the data plane. One change at a time; a version that the data plane will not take is followed at once by
the one before it, as a new version, so that what the ledger calls newest is always what runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.autopilot import ReviewBudget
from gateway.cli.budgets import kept_starts, make_budget
from gateway.config import Settings
from gateway.config.changes import changes
from gateway.config.listening import is_loopback
from gateway.config.load import file_text
from gateway.errors import GatewayError, SettingsError
from gateway.ledger import Ledger, rules_of
from gateway.runtime import (
    RULE_ERRORS,
    CertificateWatch,
    Plane,
    RuleWorkers,
    Secrets,
    certificate_files,
    functions_of,
)
from gateway.runtime.check import check
from gateway.services import Messages, RouteClasses
from gateway.services.access import Access
from gateway.services.changes import Changes
from gateway.services.policies import BY_FILE, InForce, PolicyBook

__all__ = ["Ruling"]

log = logging.getLogger(__name__)


class Ruling:
    """What is in force, and all that follows from it. On the event loop, but for what says that it blocks.

    Args:
        file, overrides: the settings. settings: as they were read at the start.
    """

    def __init__(
        self, file: Path, overrides: Sequence[str], settings: Settings, ledger: Ledger, secrets: Secrets
    ) -> None:
        self._file, self._overrides = file, tuple(overrides)
        self.settings, self._ledger = settings, ledger
        self.budget: ReviewBudget = make_budget(settings, {})
        self.access = access_of(settings)
        self.versions: Changes[int] = Changes()
        self.in_force: InForce
        self.messages: Messages
        self._routes: dict[str, Any] = {}
        self._changing = asyncio.Lock()
        self.book = PolicyBook(
            ledger,
            secrets,
            folder=file.absolute().parent,
            name=str(file),
            overrides=self._overrides,
            own=self._own_text,
            budgets=lambda: self.budget.kept(),
        )

    @property
    def version(self) -> int:
        """Of the policy that runs."""
        return self.in_force.version

    def classes(self, route: str) -> RouteClasses | None:
        """What labels a route knows; None where there is no such route."""
        prediction = self._routes.get(route)
        if prediction is None:
            return None
        return RouteClasses(tuple(prediction.get("classes") or ()), prediction.get("positive"))

    def start(self) -> Mapping[str, Any]:
        """The first document; blocks. What was changed by hand since the file was last taken stays as it was changed.

        Raises: SettingsError, LedgerError, LedgerUnavailable.
        """
        text = self._text()
        self.budget = make_budget(self.settings, kept_starts(self._ledger.reader))
        new = self.book.file_is_new(text)
        if not new:
            try:
                self.book.renew(author=BY_FILE, reason="start")
            except SettingsError as error:
                for fault in error.faults:
                    log.error("the policy that was in force cannot be used any more: %s", fault)
                new = True
        if new:
            self.book.publish(text, author=BY_FILE, reason="start", file=True, shares=self.budget.shares)
        found = self.book.in_force()
        assert found is not None
        self._takes_over(found)
        return found.document

    def run_by(self, plane: Plane, certificates: CertificateWatch) -> RuleWorkers:
        """From now on the plane runs what is in force. Returns: the workers of rules in Python, to be closed last."""
        self._plane, self._certificates = plane, certificates
        self._loop = asyncio.get_running_loop()
        self.rules = self._make_rules(self.settings)
        self._plane.desk.answer("rule", self.rules)
        certificates.follow(certificate_files(self.settings))
        return self.rules

    async def reload(self, why: str) -> None:
        """Take the settings file; its faults are logged with their lines, and then nothing has changed."""
        async with self._changing:
            try:
                settings = await asyncio.to_thread(self.load, machine=False)
                await self._change(lambda: self._publish_file(settings, why), settings)
            except SettingsError as error:
                for fault in error.faults:
                    log.error("settings not taken: %s", fault)
            except GatewayError as error:
                log.error("settings not taken: %s", error)
            else:
                log.info("settings taken", extra={"policy": self.version, "why": why})

    def look(self) -> asyncio.Task[None]:
        """Somebody made a version: run it, soon."""
        return asyncio.create_task(self.take_newest())

    async def take_newest(self) -> None:
        """Run the newest version, if that is another one."""
        async with self._changing:
            try:
                await self._change(self._ledger.latest_policy)
            except GatewayError as error:
                log.error("the newest policy cannot be used: %s", error)

    async def change(self, make: Callable[[], int]) -> int:
        """Make a version by `make`, which blocks, and run it; the version that then is in force.

        Raises: whatever `make` does; GatewayError, when the data plane does not take it. Nothing has changed then.
        """
        async with self._changing:
            await self._change(make)
        return self.version

    def change_now(self, make: Callable[[], int]) -> int:
        """As `change`, from another thread, which it blocks."""
        return asyncio.run_coroutine_threadsafe(self.change(make), self._loop).result()

    async def revise_budget(self, wanted: bool) -> bool:
        """Move the review shares where traffic asks for it. Returns: whether it must be tried again."""
        if self.budget.revise() is None and not wanted:
            return False
        try:
            await self.change(
                lambda: self.book.share(
                    self.budget.shares, author="autopilot", reason="review budget", onto=self.version
                )
            )
        except GatewayError as error:
            log.error("review shares not taken: %s; tried again soon", error)
            return True
        log.info("review shares", extra={"policy": self.version, "routes": len(self.budget.shares)})
        return False

    def load(self, *, machine: bool) -> Settings:
        """The settings file; blocks. Raises: SettingsError, with every fault."""
        return load(self._file, self._overrides, machine=machine)

    async def _change(self, make: Callable[[], int], settings: Settings | None = None) -> None:
        before = self.in_force
        rules = None
        try:
            if settings is not None:
                # New processes even where no rule has changed: the code behind it may have. They come first, so that a
                # module that cannot be loaded makes no version.
                rules = await asyncio.to_thread(self._make_rules, settings)
            version = await asyncio.to_thread(make)
            if version == before.version and settings is None:
                return
            found = await asyncio.to_thread(self.book.in_force)
            assert found is not None
            try:
                if rules is None and found.text != before.text:
                    rules = await asyncio.to_thread(self._make_rules, found.settings)
                if rules is not None:
                    self._plane.desk.answer("rule", rules)  # before the calls of the new policy ask them
                if found.version != before.version:
                    await asyncio.to_thread(self._plane.publish, dict(found.document))
            except GatewayError:
                self._plane.desk.answer("rule", self.rules)
                await asyncio.to_thread(self._back_to, before, found)
                raise
        except BaseException:
            if rules is not None:
                rules.close()
            raise
        if rules is not None:
            self.rules.close()
            self.rules = rules
        for change in changes(self.settings, found.settings):
            log.log(logging.WARNING if change.restart else logging.INFO, "%s", change)
        if found.text != before.text or settings is not None:
            self.budget = make_budget(found.settings, self.budget.starts())
        self._takes_over(found)
        self._certificates.follow(certificate_files(found.settings))
        if found.version != before.version:
            log.info("policy in force", extra={"policy": found.version, "before": before.version})

    def _back_to(self, before: InForce, failed: InForce) -> None:
        why = f"policy {failed.version} cannot be run"
        version = self.book.roll_back(before.version, author=BY_FILE, reason=why)
        document = {**before.document, "version": version}
        self._plane.publish(document)
        self._takes_over(replace(before, version=version, document=document))

    def _publish_file(self, settings: Settings, why: str) -> int:
        text = self._text()
        if self.book.file_is_new(text):
            shares = make_budget(settings, self.budget.starts()).shares
            return self.book.publish(text, author=BY_FILE, reason=why, file=True, shares=shares)
        return self.book.renew(author=BY_FILE, reason=why)

    def _takes_over(self, found: InForce) -> None:
        """From now on this is the policy that is told of."""
        self.in_force, self.settings = found, found.settings
        self.messages = Messages(found.document)
        self._routes = {route["name"]: route["prediction"] or {} for route in found.document["routes"]}
        self.access = access_of(found.settings)
        self._ledger.set_review_rules(rules_of(found.settings))
        self.versions.set(found.version)

    def _make_rules(self, settings: Settings) -> RuleWorkers:
        """Raises: GatewayError, when what was good a moment ago cannot be loaded."""
        folder = self._file.absolute().parent
        workers = settings.limits.python_workers
        try:
            return RuleWorkers(folder, functions_of(settings), workers, self._plane.desk.reply)
        except RULE_ERRORS as error:
            raise GatewayError(f"rules in Python cannot be loaded: {type(error).__name__} {error}") from error

    def _text(self) -> str:
        """Raises: SettingsError, when the file cannot be read."""
        text = file_text(self._file)
        if not isinstance(text, str):
            raise SettingsError([text])
        return text

    def _own_text(self) -> str:
        text = file_text(self._file)
        return text if isinstance(text, str) else ""


def access_of(settings: Settings) -> Access:
    """Who may review; what comes through a port that others reach does not count as from this machine."""
    return Access(settings.access, near=is_loopback(settings.listen.inference))


def load(file: Path, overrides: Sequence[str], *, machine: bool) -> Settings:
    """Raises: SettingsError, with every fault; warnings are logged."""
    loaded = check(file, overrides, machine=machine, files=True)
    if loaded.settings is None:
        raise SettingsError(list(loaded.faults))
    for warning in loaded.warnings:
        log.warning("%s", warning)
    return loaded.settings
