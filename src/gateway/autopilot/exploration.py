"""Moves the shares of explored arms by what was learnt about them, and stops once the best is known.

In: rewards by arm from the ledger, what was remembered of those before, verdicts, what is in force. Out: shares, as a
policy version with its reason; and what is known of each arm, for the report. Never: moves more than floor and cap
allow, more often than the settings say, or while a gate of the route fails, its feedback has stopped, or somebody has
stopped it; and never touches the holdout, which is drawn before any arm.

Rewards of predictions that are older than `SETTLED_US` are added to what is remembered, once; younger ones are read
again at every look, as labels still come and are corrected. So a look costs what a week brings, and a restart, or the
next leader, forgets nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.autopilot.acting import AUTOPILOT, Book, Standing
from gateway.autopilot.arms import ArmsState, describe, known, rewarded
from gateway.autopilot.flow import FLOW, flow_report
from gateway.errors import GatewayError
from gateway.ledger import Ledger, acts, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.arms import ArmRewards, Stretch, arm_rewards
from gateway.ledger.grid import HOUR_US
from gateway.quality.bandits import Posteriors, best_probabilities, bounded, epsilon_greedy
from gateway.quality.rewards import Rewards, RewardSums
from gateway.runtime.learnt import Learnt

if TYPE_CHECKING:
    from gateway.config import Route, Settings
    from gateway.config.exploring import Explore

__all__ = ["KIND", "LEAST_MOVE", "SETTLED_US", "Exploration"]

log = logging.getLogger(__name__)

KIND: Final = "arms"
"""Of the states in the ledger."""

SETTLED_US: Final = 7 * 24 * HOUR_US
"""Predictions older than this, and than `delay_h`, are counted for good; what is said of them later is not."""

LEAST_MOVE: Final = 0.02
"""Of a share, before a policy version is worth it: more than the chance in the Monte Carlo moves it."""

LOOK_US: Final = 60_000_000
"""Where nothing may move for long, rewards are read no more often."""


@dataclass(slots=True)
class _Look:
    """One route at one look."""

    name: str
    route: Route
    explore: Explore
    arms: tuple[str, ...]
    shares: Mapping[str, float]
    state: ArmsState


class Exploration:
    """A part of the loop.

    Args:
        change: makes a policy by a function that blocks and returns the version, and sees to it that it is run.
    """

    name = "exploration"

    def __init__(self, ledger: Ledger, book: Book, change: Callable[[Callable[[], int]], int]) -> None:
        self._ledger, self._book, self._change = ledger, book, change
        self._looked: dict[str, int] = {}
        self._swept: int | None = None

    def look(self, standing: Standing, now_us: int) -> None:
        """Read what came, move what should move, remember. Blocks. Raises: LedgerUnavailable."""
        explored = _explored(standing)
        due = [name for name in explored if self._due(name, standing, now_us)]
        if not due and self._swept == standing.version:
            return
        kept = self._ledger.states(KIND)
        if self._swept != standing.version:
            gone = {key: None for key in kept if key[0] not in explored}
            if gone:
                self._ledger.put_states(KIND, gone, now_us)
            self._swept = standing.version
        looks = [_look(name, standing, kept.get((name, "")), now_us) for name in due]
        self._read(looks, now_us)
        unsafe = _starved(self._ledger, looks) | _failing(self._ledger, standing.settings)
        changed: dict[tuple[str, str], dict[str, Any]] = {}
        for look in looks:
            state = self._decide(look, standing, unsafe.get(look.name), now_us)
            key = look.name, ""
            if state.kept() != kept.get(key):
                changed[key] = state.kept()
            if state.moved_us == now_us or state.decided_us == now_us:
                # At once: what was done must be remembered, whatever becomes of the next route.
                self._ledger.put_states(KIND, {key: changed.pop(key)}, now_us)
            self._looked[look.name] = now_us
        if changed:
            self._ledger.put_states(KIND, changed, now_us)

    def idle(self) -> None:
        """Another leads: all that is remembered is in the ledger."""
        self._looked.clear()
        self._swept = None

    def _due(self, name: str, standing: Standing, now_us: int) -> bool:
        explore = standing.settings.routes[name].explore
        assert explore is not None
        every_us = min(LOOK_US, round(explore.every_s * 1e6 / 4))
        return now_us - self._looked.get(name, 0) >= every_us

    def _read(self, looks: Iterable[_Look], now_us: int) -> None:
        """Bring each state's sums up to now."""
        settled: dict[Stretch, list[_Look]] = defaultdict(list)
        recent: dict[Stretch, list[_Look]] = defaultdict(list)
        for look in looks:
            delay_us = round(look.explore.delay_h * HOUR_US)
            within = delay_us or None
            until = now_us - delay_us
            boundary = (now_us - max(delay_us, SETTLED_US)) // HOUR_US * HOUR_US
            start = look.state.settled_us
            if boundary > start:
                settled[Stretch(start, boundary, within)].append(look)
                start = boundary
            recent[Stretch(start, max(until, start), within)].append(look)
        for stretch, which in settled.items():
            for look, sums in self._sums(which, stretch):
                look.state = replace(
                    look.state, settled_us=stretch.until_us, settled=look.state.settled + sums
                )
        for stretch, which in recent.items():
            for look, sums in self._sums(which, stretch):
                look.state = replace(look.state, all=look.state.settled + sums)

    def _sums(self, looks: Sequence[_Look], stretch: Stretch) -> list[tuple[_Look, RewardSums]]:
        wanted = {look.name: reward for look in looks if (reward := rewarded(look.route)) is not None}
        found = arm_rewards(self._ledger.reader, wanted, stretch)
        return [(look, _summed(look, found.get(look.name))) for look in looks]

    def _decide(self, look: _Look, standing: Standing, unsafe: str | None, now_us: int) -> ArmsState:
        explore, state = look.explore, look.state
        told = known(state.all, explore)
        if state.winner is None and told.stop.winner is not None:
            state = replace(
                state, winner=look.arms[told.stop.winner], decided=told.stop.why, decided_us=now_us
            )
            self._note(look, "winner", f"{state.winner} is the best arm: {told.stop.why}", now_us)
        frozen = self._frozen(look, standing, unsafe)
        if state.published is not None and dict(state.published) != dict(look.shares) and frozen is None:
            # Somebody took a move back, or wrote other settings: that stands for as long as a move would.
            state = replace(state, published=look.shares, moved_us=now_us)
        shares, why = look.shares, frozen or ""
        if not explore.learns:
            why = frozen or "shares are fixed by the settings"
        elif frozen is None:
            wanted = self._wanted(look, state, told.beliefs, now_us)
            why = self._waits(look, state, wanted, told.stop.why, now_us) or ""
            if not why:
                reason = _reason(look, wanted, state.winner, told.stop.labels)
                try:
                    self._publish(look, wanted, reason, standing.version, now_us)
                except GatewayError as error:
                    log.error("shares of %s were not moved: %s", look.name, error)
                    why = f"shares were not moved: {error}"
                else:
                    shares, why = wanted, reason
                    state = replace(state, moved_us=now_us, published=wanted)
        return replace(state, why=why, frozen=frozen, arms=describe(look.arms, shares, told))

    def _frozen(self, look: _Look, standing: Standing, unsafe: str | None) -> str | None:
        """Why shares must not move; None where they may."""
        learnt = standing.learnt.get(look.name, Learnt())
        level = learnt.autonomy or (look.route.autonomy.level if look.route.autonomy else None)
        if learnt.arms == {}:
            return "nothing is explored: a gate or a person stopped it, and it stays so until that is undone"
        if level == "shadow":
            return "nothing is explored: on the level shadow no model answers"
        if look.name in standing.stopped or look.route.kill_switch:
            return "frozen: the kill switch is open"
        if learnt.skip:
            return f"frozen: {', '.join(learnt.skip)} is passed over"
        return None if unsafe is None else f"frozen: {unsafe}"

    def _wanted(self, look: _Look, state: ArmsState, beliefs: Posteriors, now_us: int) -> dict[str, float]:
        explore = look.explore
        if state.winner is not None and explore.until == "winner":
            shares = np.array([float(name == state.winner) for name in look.arms])
        elif explore.algorithm == "epsilon_greedy":
            shares = epsilon_greedy(beliefs, explore.epsilon)
        else:
            # The same draws for the same hour: shares that were worked out twice are the same.
            rng = np.random.default_rng([zlib.crc32(look.name.encode()), now_us // HOUR_US])
            shares = best_probabilities(beliefs, rng)
        first = look.arms.index(look.route.chain[0])
        made = bounded(shares, explore.floor, min(explore.cap, 1.0), first)
        return {name: round(float(share), 4) for name, share in zip(look.arms, made, strict=True)}

    def _waits(
        self, look: _Look, state: ArmsState, wanted: Mapping[str, float], evidence: str, now_us: int
    ) -> str | None:
        """Why shares stay for now; None where they move."""
        if int(state.all.labels.sum()) == 0:
            return "shares stay: no reward has come yet"
        most = max(abs(wanted[name] - look.shares.get(name, 0.0)) for name in look.arms)
        if most < LEAST_MOVE - 1e-9:
            if state.winner is not None and look.explore.until == "winner":
                return f"stopped: {state.winner} is the best arm ({state.decided})"
            return f"shares stay: none would move by {LEAST_MOVE:g}; {evidence}"
        if now_us - state.moved_us < look.explore.every_s * 1e6:
            return f"shares stay: they moved less than {look.explore.every_s:g} s ago; {evidence}"
        return None

    def _publish(
        self, look: _Look, shares: Mapping[str, float], reason: str, version: int, now_us: int
    ) -> None:
        make = partial(self._book.learn, look.name, {"arms": dict(shares)}, author=AUTOPILOT, reason=reason)
        after = self._change(make)
        log.info("arms of %s: %s", look.name, reason, extra={"policy": after})
        undo = {"learnt": {"arms": dict(look.shares)}}
        self._note(look, "share_arms", reason, now_us, before=version, after=after, details=undo)

    def _note(self, look: _Look, act: str, words: str, now_us: int, **more: Any) -> None:
        made = Act(now_us, look.name, "exploration", act, "done", words, AUTOPILOT, **more)
        self._ledger.transact(partial(acts.note, act=made)).result()


def _explored(standing: Standing) -> list[str]:
    """Routes that explore, and know what is good."""
    routes = standing.settings.routes
    return [
        name for name, route in routes.items() if route.explore is not None and rewarded(route) is not None
    ]


def _look(name: str, standing: Standing, kept: Mapping[str, Any] | None, now_us: int) -> _Look:
    route = standing.settings.routes[name]
    explore = route.explore
    assert explore is not None
    learnt, first = standing.learnt.get(name, Learnt()).arms, route.chain[0]
    shares = {first: 1.0} if learnt == {} else learnt or explore.start(first)
    arms = tuple(explore.arms)
    mark = _mark(standing.settings, route)
    state = None if kept is None else ArmsState.of(kept, mark, arms, explore)
    if state is None:
        # Other arms, or other models behind them, begin anew; the very first look goes back over what is not settled.
        since = (now_us - SETTLED_US) // HOUR_US * HOUR_US if kept is None else now_us
        state = ArmsState.begin(mark, arms, explore, since)
    return _Look(name, route, explore, arms, shares, state)


def _mark(settings: Settings, route: Route) -> str:
    """What evidence belongs to: arms, what serves them, and what is good. Another mark begins anew."""
    assert route.explore is not None
    explore = route.explore
    served = {
        name: [list(one.grpc or ()), one.model, one.version]
        for name in explore.arms
        if (one := settings.backends.get(name)) is not None
    }
    reward = rewarded(route)
    parts = [
        served,
        None if reward is None else [reward.kind, reward.name, reward.source, reward.low, reward.high],
    ]
    text = json.dumps([*parts, explore.delay_h], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _summed(look: _Look, found: ArmRewards | None) -> RewardSums:
    explore = look.explore
    if found is None:
        none: list[float] = []
        return RewardSums.of(
            Rewards.of(none, none, none, len(look.arms), low=explore.range.low, high=explore.range.high)
        )
    place = {name: index for index, name in enumerate(look.arms)}
    index = np.array([place.get(str(name), -1) for name in found.arm])
    here = index >= 0
    cells = Rewards.cells(
        found.propensity[here],
        index[here],
        len(look.arms),
        found.count[here],
        found.total[here],
        found.squares[here],
        pi=found.pi[here],
        low=explore.range.low,
        high=explore.range.high,
    )
    return RewardSums.of(cells)


def _failing(ledger: Ledger, settings: Settings) -> dict[str, str]:
    """By route, a gate that fails, in words; one that the settings have no more says nothing."""
    watched = {name: {gate.name for gate in route.watched} for name, route in settings.routes.items()}
    found = ledger.reader.snapshot(verdicts.latest)
    return {
        one.route: f"the gate {one.gate} fails"
        for one in found
        if one.verdict == "fail" and one.gate in watched.get(one.route, ())
    }


def _starved(ledger: Ledger, looks: Iterable[_Look]) -> dict[str, str]:
    """By route, a source of its rewards that has stopped, in words: what rests on it is unknown."""
    flow = ledger.states(FLOW)
    found: dict[str, str] = {}
    for look in looks:
        reward = rewarded(look.route)
        sources = flow_report(flow, look.name, look.route.drift.arl_days) if reward is not None else ()
        for one in sources:
            if one.verdict == "starved" and reward is not None and reward.rests_on(one.source):
                found[look.name] = one.words
    return found


def _reason(look: _Look, wanted: Mapping[str, float], winner: str | None, labels: int) -> str:
    moves = ", ".join(
        f"{name} {look.shares.get(name, 0.0):.4g} -> {wanted[name]:.4g}"
        for name in look.arms
        if abs(wanted[name] - look.shares.get(name, 0.0)) >= 5e-5
    )
    if winner is not None and look.explore.until == "winner":
        return f"arms: {moves}; {winner} is the best arm"
    return f"arms: {moves}; by {look.explore.algorithm}, after {labels:,} labels"
