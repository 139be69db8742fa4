"""The book of policies: what may be published, what is, and what it is made of.

A policy is made of settings, of which routes were stopped besides them, of the review shares that were worked out from
traffic, and of what was learnt about its routes. All of it is kept with the version, so that whoever opens the ledger
next (another replica, or this one after kill -9) runs the same; secrets are not kept: each process adds its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config import Fault, Loaded, Settings
from gateway.config.foreign import foreign_faults
from gateway.config.hidden import hidden_secrets, hide_secrets
from gateway.config.load import MOST_BYTES
from gateway.errors import LedgerError, NotFound, PolicyConflict, SettingsError
from gateway.ledger import Ledger
from gateway.ledger.policies import Kept
from gateway.ledger.review_budget import BUDGET_KEY
from gateway.runtime import ReviewShares, Secrets
from gateway.runtime.check import check_text
from gateway.runtime.document import document
from gateway.runtime.learnt import Learnt

__all__ = ["BY_FILE", "SECRET_FIELDS", "InForce", "PolicyBook"]

BY_FILE: Final = "serve"
"""The author of what came from the settings file."""

SECRET_FIELDS: Final = ("salt", "receipt_keys", "version")
"""What a kept policy leaves out: the ledger may be read by people who must not forge receipts."""

TRIES: Final = 5
"""How often settings that were made for no version in particular are put on the newest one."""

Shares = Mapping[str, ReviewShares]


@dataclass(frozen=True, slots=True)
class InForce:
    """A version as a process runs it; `document` has the secrets."""

    version: int
    settings: Settings
    text: str
    stopped: frozenset[str]
    shares: Shares
    learnt: Mapping[str, Learnt]
    document: Mapping[str, Any]


class PolicyBook:
    """Thread-safe; every method waits for the ledger.

    Args:
        folder: where relative paths in settings start. name: what faults call the settings.
        more: faults of good settings that this process cannot take, besides those of `gateway check`.
        own: the text of this process's settings file: what others publish refers to this machine only as it does, and
            secrets that stand in it are put back into the settings of older versions, which are kept without.
        budgets: what review budgets were divided by, by route; kept with each version.
    """

    def __init__(
        self,
        ledger: Ledger,
        secrets: Secrets,
        *,
        folder: Path,
        name: str,
        overrides: Sequence[str] = (),
        more: Callable[[Loaded, str], list[Fault]] = lambda loaded, text: [],
        own: Callable[[], str] = lambda: "",
        budgets: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._own, self._budgets = own, budgets
        self._ledger, self._secrets = ledger, secrets
        self._folder, self._name, self._overrides, self._more = folder, name, tuple(overrides), more

    def read(self, text: str) -> Settings:
        """Raises: SettingsError, with every fault."""
        if len(text.encode()) > MOST_BYTES:
            raise SettingsError([Fault(self._name, None, None, (), f"longer than {MOST_BYTES} bytes")])
        hidden = hidden_secrets(self._own())
        environment = {**os.environ, **hidden} if hidden else None
        loaded = check_text(
            text, name=self._name, folder=self._folder, overrides=self._overrides, env=environment
        )
        faults = loaded.faults or self._more(loaded, text)
        if loaded.settings is None or faults:
            raise SettingsError(list(faults))
        return loaded.settings

    def publish(
        self,
        text: str,
        *,
        author: str,
        reason: str,
        onto: int | None = None,
        file: bool = False,
        shares: Shares | None = None,
    ) -> int:
        """New settings; routes that are stopped stay so. Returns the version.

        Args:
            onto: the version that they were made for; None: whichever is in force.
            file: they are those of the settings file, and the version tells so: see `file_is_new`.
            shares: review shares of it; those of the version before if None.
        Raises: SettingsError, PolicyConflict, LedgerUnavailable.
        """
        # The bound on the length goes before anything is parsed, and both before anything is looked up here.
        if not file and len(text.encode()) <= MOST_BYTES:
            foreign = foreign_faults(text, self._own(), self._name)
            if foreign:
                raise SettingsError(list(foreign))
        settings = self.read(text)
        for left in reversed(range(TRIES)):
            before = self._ledger.find_policy()
            source = {"settings": hide_secrets(text), **_besides(before)}
            source["learnt"] = self._learnt_still(before, settings)
            if shares is not None:
                source["shares"] = _plain(shares)
            if file:
                source["file"] = _sum(text)
            elif before is not None and before.source is not None:
                source["file"] = before.source.get("file")
            # What is stopped was read from this version: a kill that comes in between must not be undone.
            seen = onto if onto is not None else 0 if before is None else before.version
            try:
                return self._keep(settings, source, author, reason, seen)
            except PolicyConflict:
                if onto is not None or not left:
                    raise
        raise AssertionError("unreachable")

    def file_is_new(self, text: str) -> bool:
        """Whether the settings file says something else than when it was last published.

        If not, what came after it by hand (a roll-back, say) must not be undone by a restart.
        """
        latest = self._ledger.find_policy()
        return latest is None or (latest.source or {}).get("file") != _sum(text)

    def renew(self, *, author: str, reason: str) -> int:
        """What is in force once more, as files that its settings refer to may have changed; often the same version.

        Raises: SettingsError, NotFound, PolicyConflict, LedgerUnavailable.
        """
        latest = self._latest()
        source = self._of(latest)
        return self._keep(self.read(source["settings"]), source, author, reason, latest.version)

    def learn(
        self,
        route: str,
        changes: Mapping[str, Any],
        *,
        author: str,
        reason: str,
        onto: int | None = None,
    ) -> int:
        """Change what was learnt about a route: parts of `gateway.runtime.learnt.Learnt`; None takes one back.

        Args:
            onto: the version that it was found out under; None: whichever is in force.
        Raises: NotFound; QualityError, when the route cannot hold it; PolicyConflict, LedgerUnavailable.
        """
        for left in reversed(range(TRIES)):
            latest = self._latest()
            source = dict(self._of(latest))
            settings = self.read(source["settings"])
            if route not in settings.routes:
                known = ", ".join(settings.routes) or "none"
                raise NotFound(f"there is no route {route!r}; there are {known}")
            learnt = Learnt.of(source.get("learnt", {}).get(route, {})).changed(changes)
            learnt.check(settings.routes[route])
            others = {name: of for name, of in source.get("learnt", {}).items() if name != route}
            kept = learnt.kept()
            source["learnt"] = others | ({route: kept} if kept else {})
            seen = latest.version if onto is None else onto
            try:
                return self._keep(settings, source, author, reason, seen)
            except PolicyConflict:
                if onto is not None or not left:
                    raise
        raise AssertionError("unreachable")

    def share(self, shares: Shares, *, author: str, reason: str, onto: int) -> int:
        """New review shares of what is in force. Raises: PolicyConflict, LedgerUnavailable."""
        source = dict(self._source(onto))
        source["shares"] = _plain(shares)
        return self._keep(self.read(source["settings"]), source, author, reason, onto)

    def roll_back(self, version: int, *, author: str, reason: str) -> int:
        """An older version once more, as a new one; what is stopped stays so.

        Raises: NotFound; SettingsError, when its settings cannot be used any more; PolicyConflict, LedgerUnavailable.
        """
        latest = self._ledger.find_policy()
        source = dict(self._source(version))
        if latest is not None:
            source["stopped"] = _besides(latest)["stopped"]
            source["file"] = (latest.source or {}).get("file")
        why = f"back to {version}" + (f": {reason}" if reason else "")
        onto = None if latest is None else latest.version
        return self._keep(self.read(source["settings"]), source, author, why, onto)

    def kill(self, route: str, *, revive: bool, author: str, reason: str) -> int:
        """Stop a route's model, or let it go on. Raises: NotFound, PolicyConflict, LedgerUnavailable."""
        latest = self._latest()
        source = dict(self._of(latest))
        settings = self.read(source["settings"])
        if route not in settings.routes:
            raise NotFound(f"there is no route {route!r}; there are {', '.join(settings.routes) or 'none'}")
        if revive and settings.routes[route].kill_switch:
            raise LedgerError(f"routes.{route}.kill_switch is true in the settings: publish them without it")
        stopped = set(source.get("stopped", ()))
        source["stopped"] = sorted(stopped - {route} if revive else stopped | {route})
        why = f"{'revive' if revive else 'kill'} {route}" + (f": {reason}" if reason else "")
        return self._keep(settings, source, author, why, latest.version)

    def in_force(self) -> InForce | None:
        """The latest version; None where there is none. Raises: SettingsError, LedgerError, LedgerUnavailable."""
        latest = self._ledger.find_policy()
        if latest is None:
            return None
        source = self._of(latest)
        settings = self.read(source["settings"])
        made = {**self._made(settings, source), "version": latest.version}
        besides = _besides(latest)
        return InForce(
            latest.version,
            settings,
            source["settings"],
            frozenset(besides["stopped"]),
            {route: ReviewShares(**of) for route, of in besides["shares"].items()},
            {route: Learnt.of(of) for route, of in besides["learnt"].items()},
            made,
        )

    def _latest(self) -> Kept:
        latest = self._ledger.find_policy()
        if latest is None:
            raise NotFound("there is no policy yet")
        return latest

    def _learnt_still(self, before: Kept | None, settings: Settings) -> dict[str, Any]:
        """What was learnt, as far as the settings that it stands in for are still the same."""
        learnt = _besides(before)["learnt"]
        if before is None or not learnt:
            return {}
        try:
            old = self.read(self._of(before)["settings"]).routes
        except SettingsError:
            return {}  # nothing can be compared with: settings alone count
        still = {
            name: Learnt.of(of).kept_over(old[name], settings.routes[name]).kept()
            for name, of in learnt.items()
            if name in old and name in settings.routes
        }
        return {name: of for name, of in still.items() if of}

    def _source(self, version: int) -> Mapping[str, Any]:
        found = self._ledger.find_policy(version)
        if found is None:
            raise NotFound(f"there is no policy {version}; `gateway policy list` shows those there are")
        return self._of(found)

    def _of(self, kept: Kept) -> Mapping[str, Any]:
        if kept.source is None:
            raise LedgerError(
                f"policy {kept.version} was kept by an older gateway, without its settings: publish settings anew"
            )
        return kept.source

    def _keep(
        self, settings: Settings, source: Mapping[str, Any], author: str, reason: str, onto: int | None
    ) -> int:
        made = self._made(settings, source)
        kept = {key: value for key, value in made.items() if key not in SECRET_FIELDS}
        budgets = self._budgets()
        if budgets:
            kept[BUDGET_KEY] = budgets
        return self._ledger.keep_policy(kept, author=author, reason=reason, source=source, onto=onto)

    def _made(self, settings: Settings, source: Mapping[str, Any]) -> dict[str, Any]:
        made = document(
            settings,
            version=1,
            salt_hex=self._secrets.salt_hex,
            receipt_keys=self._secrets.receipt_keys,
            review_shares={route: ReviewShares(**of) for route, of in source["shares"].items()},
            learnt={route: Learnt.of(of) for route, of in source.get("learnt", {}).items()},
        )
        for route in made["routes"]:
            route["kill_switch"] |= route["name"] in source["stopped"]
        return made


def _besides(kept: Kept | None) -> dict[str, Any]:
    """What a version has besides its settings: routes that are stopped, review shares, what was learnt."""
    source = (kept.source if kept is not None else None) or {}
    return {
        "stopped": list(source.get("stopped", ())),
        "shares": dict(source.get("shares", {})),
        "learnt": dict(source.get("learnt", {})),
    }


def _plain(shares: Shares) -> dict[str, dict[str, float]]:
    return {route: of._asdict() for route, of in shares.items()}


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
