"""Where a route's gates and its explored arms stand, and what was done: as a report tells it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.ledger import acts, states, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.reading import Reader, Window
from gateway.ledger.verdicts import Verdict

__all__ = ["RouteStanding", "iso", "standings"]

MOST_ACTS = 100
"""Of a route; what is older stands in the ledger."""


@dataclass(frozen=True, slots=True)
class RouteStanding:
    """`gates`: the last verdict of each gate and segment. `acts`: those of the window, oldest first; what was only
    begun is left out where it has ended. `arms`: what `gateway.autopilot.arms` keeps of an exploration, else None."""

    gates: tuple[Verdict, ...] = ()
    acts: tuple[Act, ...] = ()
    arms: Mapping[str, Any] | None = None

    def arms_as_dict(self) -> dict[str, Any] | None:
        """As `gateway report --json` prints them; None where nothing is explored."""
        kept = self.arms
        if kept is None:
            return None
        told = {name: kept[name] for name in ("winner", "frozen", "why")}
        moved, decided = int(kept["moved_us"]), int(kept["decided_us"])
        return {
            **told,
            "decided": kept["decided"] or None,
            "decided_at": iso(decided) if decided else None,
            "moved_at": iso(moved) if moved else None,
            "arms": {name: kept["arms"][name] for name in kept["order"]},
        }

    def gates_as_dicts(self) -> list[dict[str, Any]]:
        """As `gateway report --json` prints them."""
        return [
            {
                "gate": one.gate,
                "segment": one.segment or None,
                "verdict": one.verdict,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "labels": one.labels,
                "policy": one.policy,
                "time": iso(one.time_us),
                "words": one.words,
            }
            for one in self.gates
        ]

    def acts_as_dicts(self) -> list[dict[str, Any]]:
        """As `gateway report --json` prints them."""
        return [
            {
                "id": one.id,
                "time": iso(one.time_us),
                "act": one.act,
                "state": one.state,
                "cause": one.cause,
                "actor": one.actor,
                "policy_before": one.before,
                "policy_after": one.after,
                "of": one.of,
                "words": one.words,
            }
            for one in self.acts
        ]


def standings(reader: Reader, window: Window) -> dict[str, RouteStanding]:
    """By route, for those that have gates or acts, or explore. Raises: LedgerUnavailable."""
    gates: dict[str, list[Verdict]] = defaultdict(list)
    done: dict[str, list[Act]] = defaultdict(list)
    for verdict in reader.snapshot(partial(verdicts.latest, route=window.route)):
        gates[verdict.route].append(verdict)
    found = reader.snapshot(partial(acts.history, route=window.route, since_us=window.since_us))
    ended = {one.of for one in found}
    for act in found:
        after = window.until_us is not None and act.time_us >= window.until_us
        if not after and not (act.state == "begun" and act.id in ended):
            done[act.route].append(act)
    kept = reader.snapshot(partial(states.find, kind="arms"))
    arms = {route: state for (route, _), state in kept.items() if window.route in (None, route)}
    return {
        route: RouteStanding(tuple(gates[route]), tuple(done[route][-MOST_ACTS:]), arms.get(route))
        for route in dict.fromkeys((*gates, *done, *arms))
    }


def iso(time_us: int | None) -> str | None:
    """UTC, to the second."""
    if time_us is None:
        return None
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
