"""Where a route's gates stand, and what was done: as a report tells it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.ledger import acts, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.reading import Reader, Window
from gateway.ledger.verdicts import Verdict

__all__ = ["RouteStanding", "standings"]

MOST_ACTS = 100
"""Of a route; what is older stands in the ledger."""


@dataclass(frozen=True, slots=True)
class RouteStanding:
    """`gates`: the last verdict of each gate and segment. `acts`: those of the window, oldest first; what was only
    begun is left out where it has ended."""

    gates: tuple[Verdict, ...] = ()
    acts: tuple[Act, ...] = ()

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
                "time": _iso(one.time_us),
                "words": one.words,
            }
            for one in self.gates
        ]

    def acts_as_dicts(self) -> list[dict[str, Any]]:
        """As `gateway report --json` prints them."""
        return [
            {
                "id": one.id,
                "time": _iso(one.time_us),
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
    """By route, for those that have gates or acts. Raises: LedgerUnavailable."""
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
    return {
        route: RouteStanding(tuple(gates[route]), tuple(done[route][-MOST_ACTS:]))
        for route in (*gates, *(name for name in done if name not in gates))
    }


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
