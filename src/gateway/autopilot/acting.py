"""What is done where a gate fails: said, rolled back, made more careful, stopped.

In: gates that fail, the policy in force, what was done before. Out: entries of `gateway.ledger.acts`, and policies. A
gate acts once on what it has seen: again only on predictions made since, after its cool-down, and no more than its
maximum a day. What wants approval is proposed and waits; whatever was done can be undone, by an entry of its own.

An entry is written before the change, with what undoing it needs, and one after it: a gateway that dies in between
finds an act that was begun, and brings it to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.errors import GatewayError, LedgerError, NotFound
from gateway.ledger import Ledger, acts
from gateway.ledger.acts import Act
from gateway.runtime.learnt import Learnt

if TYPE_CHECKING:
    from gateway.config import Route, Settings
    from gateway.config.gates import Gate

__all__ = ["AUTOPILOT", "Acting", "Book", "Failure", "Standing"]

log = logging.getLogger(__name__)

AUTOPILOT: Final = "autopilot"
"""Who does what nobody asked for by name."""

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US

CLOSER: Final = 0.5
"""Raising a floor halves the doubt that is let pass: .80 becomes .90, then .95. A floor that has been raised to
`HIGHEST` is raised no more."""

HIGHEST: Final = 0.99


class Standing(Protocol):
    """What is in force, as far as acts ask for it."""

    @property
    def version(self) -> int:
        """Of the policy."""

    @property
    def settings(self) -> Settings:
        """As they were published."""

    @property
    def stopped(self) -> frozenset[str]:
        """Routes that are stopped besides the settings."""

    @property
    def learnt(self) -> Mapping[str, Learnt]:
        """What was learnt, by route; nothing about those that are not in it."""


class Book(Protocol):
    """Makes policies; see `gateway.services.policies.PolicyBook`, which is one."""

    def learn(
        self, route: str, changes: dict[str, Any], *, author: str, reason: str, onto: int | None = None
    ) -> int:
        """Change what was learnt about a route."""

    def kill(self, route: str, *, revive: bool, author: str, reason: str) -> int:
        """Stop a route's model, or let it go on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A gate that fails, as often in a row as its settings ask for.

    `since_us`: when its first failure of this row was seen; `words`: the verdict's sentence.
    """

    route: str
    gate: Gate
    segment: str
    since_us: int
    words: str

    @property
    def cause(self) -> str:
        """The gate's name, with the segment where it has one."""
        return f"{self.gate.name}[{self.segment}]" if self.segment else self.gate.name


class Acting:
    """Args:
    change: makes a policy by a function that blocks and returns the version, and sees to it that it is run.
    standing: what is in force now; may block.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        change: Callable[[Callable[[], int]], int],
        standing: Callable[[], Standing],
    ) -> None:
        self._ledger, self._book, self._change = ledger, book, change
        self.standing = standing
        """What is in force now."""

    def consider(self, failures: Iterable[Failure], now_us: int) -> list[Act]:
        """Do what the gates ask for. Returns: what was done, proposed or tried. Blocks.

        Raises: LedgerUnavailable; what was not done then is done at the next look.
        """
        begun = self._ledger.reader.snapshot(partial(acts.waiting, state="begun"))
        done = [self._finish(act, now_us) for act in begun]
        for failure in failures:
            standing = self.standing()
            route = standing.settings.routes.get(failure.route)
            if route is None:
                continue
            before = self._ledger.reader.snapshot(
                partial(
                    acts.history, route=failure.route, cause=failure.cause, since_us=now_us - 366 * DAY_US
                )
            )
            refusal = _refusal(failure, before, now_us)
            if refusal is not None:
                log.debug("gate %s of %s fails, nothing is done: %s", failure.cause, failure.route, refusal)
                continue
            done.append(self._act(failure, route, standing, now_us))
        return done

    def approve(self, entry: int, *, actor: str, now_us: int) -> Act:
        """Do what was proposed. Raises: NotFound, LedgerError when it was answered before."""
        proposed = self._waiting(entry)
        return self._do(proposed, self.standing(), actor, now_us, of=entry)

    def refuse(self, entry: int, *, actor: str, reason: str, now_us: int) -> Act:
        """Leave it. Raises as `approve`."""
        proposed = self._waiting(entry)
        words = f"refused{f': {reason}' if reason else ''}"
        return self._note(
            replace(proposed, state="refused", of=entry, actor=actor, words=words, time_us=now_us)
        )

    def undo(self, entry: int, *, actor: str, reason: str, now_us: int) -> Act:
        """Take back what was done; what was learnt since of other parts of the route stays.

        Raises: NotFound; LedgerError, when there is nothing to be taken back, or it was taken back before.
        """
        found = self._ledger.reader.snapshot(partial(acts.find, entry=entry))
        if found is None:
            raise NotFound(f"there is no act {entry}; `gateway acts` shows those there are")
        later = self._ledger.reader.snapshot(partial(acts.history, route=found.route))
        if any(one.of == entry and one.state == "undone" for one in later):
            raise LedgerError(f"act {entry} was undone before")
        details = dict(found.details or {})
        changed = "learnt" in details or details.get(
            "killed"
        )  # a kill of what was stopped before changed nothing
        if found.state != "done" or not changed:
            raise LedgerError(f"act {entry} changed nothing that could be undone ({found.state} {found.act})")
        why = f"undo {found.act} of {found.cause}{f': {reason}' if reason else ''}"
        if details.get("killed"):
            make: Callable[[], int] = partial(
                self._book.kill, found.route, revive=True, author=actor, reason=why
            )
        else:
            make = partial(self._book.learn, found.route, details["learnt"], author=actor, reason=why)
        version = self._change(make)
        return self._note(
            replace(
                found,
                state="undone",
                of=entry,
                actor=actor,
                words=why,
                time_us=now_us,
                after=version,
                details={},
            )
        )

    def _act(self, failure: Failure, route: Route, standing: Standing, now_us: int) -> Act:
        changes, words = _plan(failure.gate, route, standing.learnt.get(failure.route, Learnt()))
        act = Act(
            time_us=now_us,
            route=failure.route,
            cause=failure.cause,
            act=failure.gate.then.name,
            state="proposed",
            words=f"{failure.words}; {words}",
            actor=AUTOPILOT,
            before=standing.version,
            details={"changes": changes, "what": words},
        )
        if failure.gate.dry_run:
            return self._note(replace(act, state="dry_run"))
        if failure.gate.approval and changes:
            return self._note(act)
        return self._do(act, standing, AUTOPILOT, now_us)

    def _do(self, act: Act, standing: Standing, actor: str, now_us: int, of: int | None = None) -> Act:
        details = dict(act.details or {})
        act = replace(act, actor=actor, of=of, time_us=now_us, before=standing.version, id=0)
        if act.act == "kill":
            details["killed"] = act.route not in standing.stopped
        elif details.get("changes"):
            known = standing.learnt.get(act.route, Learnt()).kept()
            details["learnt"] = {name: known.get(name) for name in details["changes"]}
        else:
            return self._note(replace(act, state="done", details={}))
        return self._finish(self._note(replace(act, state="begun", details=details)), now_us)

    def _finish(self, begun: Act, now_us: int) -> Act:
        details = dict(begun.details or {})
        reason = f"{begun.cause}: {details.get('what', begun.act)}"
        make: Callable[[], int]
        if begun.act == "kill":
            make = partial(self._book.kill, begun.route, revive=False, author=begun.actor, reason=reason)
        else:
            make = partial(
                self._book.learn, begun.route, details["changes"], author=begun.actor, reason=reason
            )
        ended = replace(begun, of=begun.id, time_us=now_us)
        try:
            version = self._change(make)
        except GatewayError as error:
            log.error("gate %s of %s: %s was not done: %s", begun.cause, begun.route, begun.act, error)
            return self._note(replace(ended, state="failed", words=f"{begun.words}; not done: {error}"))
        log.warning("gate %s of %s: %s", begun.cause, begun.route, begun.words, extra={"policy": version})
        return self._note(replace(ended, state="done", after=version))

    def _waiting(self, entry: int) -> Act:
        found = self._ledger.reader.snapshot(partial(acts.find, entry=entry))
        if found is None or found.state != "proposed":
            raise NotFound(f"there is no proposal {entry}; `gateway acts` shows those that wait")
        if entry not in {one.id for one in self._ledger.reader.snapshot(acts.waiting)}:
            raise LedgerError(f"the proposal {entry} was answered before")
        return found

    def _note(self, act: Act) -> Act:
        return replace(act, id=self._ledger.transact(partial(acts.note, act=act)).result())


def _refusal(failure: Failure, before: Sequence[Act], now_us: int) -> str | None:
    """Why nothing is done now; None where something is."""
    gate = failure.gate
    ours = [one for one in before if one.actor == AUTOPILOT or one.of is not None]
    tried = [one for one in ours if one.state in ("done", "dry_run", "proposed", "refused")]
    if tried and tried[-1].time_us >= failure.since_us:
        return f"{tried[-1].state} for this failure already"
    answered = {one.of for one in before if one.of is not None}
    if any(one.state == "proposed" and one.id not in answered for one in before):
        return "a proposal waits for approval"
    done = [one for one in before if one.state == "done"]
    if done and now_us - done[-1].time_us < gate.cooldown_h * HOUR_US:
        return f"cool-down of {gate.cooldown_h:g} h"
    if sum(now_us - one.time_us < DAY_US for one in done) >= gate.max_per_day:
        return f"{gate.max_per_day} in a day already"
    failed = [one for one in before if one.state == "failed"]
    if failed and now_us - failed[-1].time_us < HOUR_US / 60:
        return "it failed a moment ago"
    return None


def _plan(gate: Gate, route: Route, learnt: Learnt) -> tuple[dict[str, Any], str]:
    """What of the route's learnt parts changes, and that in words; nothing for what is only said."""
    match gate.then.name:
        case "roll_back":
            left = [name for name in route.chain if name not in learnt.skip]
            target = gate.then.backend or (left[1] if len(left) > 1 else None)
            if target is None or target not in route.chain:
                return {}, "nothing is left in the chain to roll back to"
            # Of the chain, what stands before it; as an arm, whatever is explored instead of the first of the chain.
            skipped = dict.fromkeys((*learnt.skip, *route.chain[: route.chain.index(target)]))
            skipped.pop(target, None)
            changes: dict[str, Any] = {"skip": list(skipped)}
            if route.explore is not None:
                changes["arms"] = {}
            return changes, f"{target} answers in place of {', '.join(left[:1]) or 'the model'}"
        case "raise_floor":
            floor = learnt.floor
            if floor is None and route.confidence is not None:
                floor = route.confidence.floor
            raised = round(1.0 - (1.0 - (floor or 0.5)) * CLOSER, 4)
            if raised > HIGHEST or not 0.0 <= raised <= 1.0:
                return {}, f"the floor stands at {floor:g} already" if floor is not None else "no floor"
            return {"floor": raised}, f"the floor of confidence is raised to {raised:g}"
        case "stop_exploring":
            if route.explore is None or learnt.arms == {}:
                return {}, "nothing is explored"
            return {"arms": {}}, f"exploring stops, {route.chain[0]} gets every call"
        case "kill":
            return {"kill": True}, "the kill switch is open"
        case _:
            return {}, "told"
