"""A report: everything that the ledger can say about each route in a window, as frozen data.

The command prints it, the service sends it; neither computes anything. `Report.as_dict` is its JSON form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gateway.ledger.breakdown import Slice, breakdowns
from gateway.ledger.grid import HOUR_US
from gateway.ledger.quality import RouteQuality, route_qualities, route_quality
from gateway.ledger.reading import Calls, Reader, Shadows, Window
from gateway.ledger.review_budget import workloads
from gateway.ledger.shadows import ShadowReport, shadow_reports
from gateway.ledger.signals import SignalSummary, signal_summaries
from gateway.ledger.standing import RouteStanding, iso, standings
from gateway.quality.workload import Workload
from gateway.types import Outcome

__all__ = ["CallCounts", "Report", "RouteReport", "ShadowReport", "falling", "make_report"]


NONE = RouteStanding()


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls by how they ended and why, most frequent first."""

    total: int
    by_outcome: dict[str, int]
    by_reason: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {"total": self.total, "by_outcome": self.by_outcome, "by_reason": self.by_reason}


@dataclass(frozen=True, slots=True)
class RouteReport:
    """One route. `overhead_p50_us`, `overhead_p99_us`: the gateway's own time; None without calls."""

    route: str
    calls: CallCounts
    overhead_p50_us: float | None
    overhead_p99_us: float | None
    quality: RouteQuality
    shadows: tuple[ShadowReport, ...]
    workload: Workload | None = None
    """Whether people keep up with the route's review budget, where it has one."""
    signals: tuple[SignalSummary, ...] = ()
    """Outcomes among them, with an empty name."""
    standing: RouteStanding = NONE
    """Its gates, and what was done about them."""
    slices: Mapping[str, tuple[Slice, ...]] = field(default_factory=dict)
    """Precision and recall by kind of slice: each segment, backend, policy, day."""

    def as_dict(self) -> dict[str, Any]:
        numbers, review = self.quality.numbers, self.quality.review
        return {
            "calls": self.calls.as_dict(),
            "overhead_us": {
                "p50": self.overhead_p50_us,
                "p99": self.overhead_p99_us,
                "reason": None if self.overhead_p50_us is not None else "no call in this window",
            },
            "predictions": {
                "total": numbers.predictions,
                "flagged": numbers.flagged,
                "unreviewable": numbers.unreachable,
            },
            "precision": numbers.precision.as_dict(),
            "recall": numbers.recall.as_dict(),
            "f1": numbers.f1.as_dict(),
            **self.quality.rates.as_dict(),
            "shadows": {one.shadow: one.as_dict() for one in self.shadows},
            "review": {
                "sampled": review.sampled,
                "done": review.done,
                "open": review.open,
                "oldest_open": iso(review.oldest_open_us),
                "budget": None if self.workload is None else self.workload.as_dict(),
            },
            "feedback": {
                one.source: {
                    "labels": one.labels,
                    "confirmed": one.confirmed.as_dict(),
                    "missed": one.missed.as_dict(),
                }
                for one in self.quality.feedback
            },
            "signals": _by_source(self.signals),
            "outcomes": {one.source: one.as_dict() for one in self.signals if not one.name},
            "slices": {
                kind: {one.name: one.as_dict() for one in slices} for kind, slices in self.slices.items()
            },
            "gates": self.standing.gates_as_dicts(),
            "acts": self.standing.acts_as_dicts(),
            "exploration": self.standing.arms_as_dict(),
            "notes": list(self.quality.notes),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All routes. `since_us`, `until_us`: the window as it was cut, at whole hours; None is open."""

    since_us: int | None
    until_us: int | None
    routes: tuple[RouteReport, ...]
    unmatched: CallCounts
    """Calls that matched no route and were passed on untouched, or refused."""

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        return {
            "window": {"since": iso(self.since_us), "until": iso(self.until_us)},
            "routes": {one.route: one.as_dict() for one in self.routes},
            "unmatched": {"calls": self.unmatched.as_dict()},
        }


def make_report(
    reader: Reader,
    window: Window,
    known: Collection[str] = (),
    seed: int = 0,
    now_us: int | None = None,
) -> Report:
    """Read the ledger.

    Args:
        window: the predictions' time, and one route or all. known: routes that are listed even if nothing
        came to them. seed: of the Monte Carlo intervals, so that the same ledger gives the same report.
        now_us: for what people did in the last day, microseconds since 1970; left out if None.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    calls, shadows = reader.calls(window), reader.shadows(window)
    qualities, signals = route_qualities(reader, window, seed), signal_summaries(reader, window)
    judged, slices = standings(reader, window), breakdowns(reader, window)
    loads = {} if now_us is None else workloads(reader, now_us)
    names = (
        {str(name) for name in np.unique(calls.route)}
        | set(qualities)
        | set(signals)
        | set(judged)
        | set(known)
    )
    if window.route is not None:
        names = {window.route}
    since, until = window.hours
    return Report(
        since_us=None if since is None else since * HOUR_US,
        until_us=None if until is None else until * HOUR_US,
        routes=tuple(
            replace(
                _route(reader, window, name, calls, shadows, qualities, seed),
                workload=loads.get(name),
                signals=signals.get(name, ()),
                standing=judged.get(name, NONE),
                slices=slices.get(name, {}),
            )
            for name in sorted(names - {""})
        ),
        unmatched=_counts(calls, ""),
    )


def _route(
    reader: Reader,
    window: Window,
    name: str,
    calls: Calls,
    shadows: Shadows,
    qualities: dict[str, RouteQuality],
    seed: int,
) -> RouteReport:
    overhead = reader.overhead(Window(window.since_us, window.until_us, name))
    quality = qualities.get(name) or route_quality(reader, name, window.since_us, window.until_us, seed)
    return RouteReport(
        route=name,
        calls=_counts(calls, name),
        overhead_p50_us=overhead.quantile_us(0.50),
        overhead_p99_us=overhead.quantile_us(0.99),
        quality=quality,
        shadows=shadow_reports(shadows, name),
    )


def _counts(calls: Calls, route: str) -> CallCounts:
    here = calls.route == route
    by_outcome: dict[str, int] = {}
    by_reason: dict[str, int] = {}
    for outcome, reason, count in zip(
        calls.outcome[here].tolist(), calls.reason[here].tolist(), calls.calls[here].tolist(), strict=True
    ):
        if count:  # a key may hold further rows of a batch only
            text = Outcome(outcome).text
            by_outcome[text] = by_outcome.get(text, 0) + count
            by_reason[reason] = by_reason.get(reason, 0) + count
    return CallCounts(int(calls.calls[here].sum()), falling(by_outcome), falling(by_reason))


def _by_source(signals: Iterable[SignalSummary]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in signals:
        if one.name:
            found.setdefault(one.source, {})[one.name] = one.as_dict()
    return found


def falling(counts: Mapping[str, int]) -> dict[str, int]:
    """The largest first, and those that are equal by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
