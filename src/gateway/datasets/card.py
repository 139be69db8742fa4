"""The card of a data set as data: what card.json holds.

Every number comes from the counts of the files that were written, or from the same state of the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway import __version__
from gateway.datasets.biases import biases
from gateway.datasets.payloads import Payloads, Redaction
from gateway.datasets.plan import Plan
from gateway.datasets.source import Policy
from gateway.datasets.tally import Agreement, SplitTally
from gateway.ledger import Window
from gateway.ledger.grid import HOUR_US

__all__ = ["FORM", "Made", "card", "redacted", "used"]

FORM: Final = 1
"""Of card.json; a reader may count on names not changing their meaning within a form."""


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a data set of what. `command`: as it may be typed again; `schema`: of the ledger."""

    at_us: int
    command: str
    schema: str


def card(
    made: Made,
    plan: Plan,
    cuts_us: Sequence[int],
    splits: Mapping[str, SplitTally],
    dropped: Mapping[str, int],
    agreement: Agreement,
    covered: Mapping[str, Mapping[str, Any]],
    payloads: Payloads,
    hidden: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """All that is known of a data set, as JSON values."""
    since, until = plan.window.hours
    split = plan.split
    said: dict[str, Any] = {
        "form": FORM,
        "made": {
            "at": iso(made.at_us),
            "by": f"model-gateway {__version__}",
            "command": made.command,
            "ledger_schema": made.schema,
        },
        "window": {
            "since": None if since is None else iso(since * HOUR_US),
            "until": None if until is None else iso(until * HOUR_US),
            "route": plan.window.route,
        },
        "kinds": list(plan.kinds),
        "split": None
        if split is None
        else {
            "by": split.by,
            "asked": split.text,
            "cuts": list(split.cuts) if split.by == "unit" else [iso(cut) for cut in cuts_us],
            "gap_h": split.gap_us / HOUR_US,
            "unknown_units": plan.unknown_units,
        },
        "rows": sum(tally.rows for tally in splits.values()),
        "splits": {name: tally.as_dict() for name, tally in splits.items()},
        "dropped": dict(dropped),
        "agreement": agreement.as_list(),
        "coverage": {route: dict(of) for route, of in covered.items()},
        "inputs": {
            "written": plan.inputs,
            "unread": dict(sorted(payloads.unread.items())),
            "redacted": {route: list(names) for route, names in hidden.items()},
        },
    }
    said["biases"] = list(biases(said))
    return said


def redacted(plan: Plan, policies: Sequence[Policy], now: Redaction) -> dict[str, tuple[str, ...]]:
    """By route, what is taken out of captured requests: by the policies of their day, or by today's settings."""
    found: dict[str, set[str]] = {name: set(names) for name, names in now.routes.items()}
    for policy in policies:
        document = json.loads(policy.document)
        for route in document["routes"]:
            found.setdefault(route["name"], set()).update((route.get("review") or {}).get("redact") or ())
    wanted = plan.window.route
    return {
        name: tuple(sorted(names))
        for name, names in sorted(found.items())
        if names and wanted in (None, name)
    }


def used(window: Window) -> str:
    """The window in words."""
    since, until = window.hours
    start = "the beginning" if since is None else iso(since * HOUR_US)
    end = "now" if until is None else iso(until * HOUR_US)
    return f"from {start} to {end}"


def iso(time_us: int) -> str:
    """UTC, with as many digits as it has."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)
    return moment.isoformat().replace("+00:00", "Z")
