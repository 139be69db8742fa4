"""Whether feedback still comes: from each source and each segment, and since when not.

In: the ledger's tallies of labels and calls, signals and outcomes, how late labels come, and what was remembered. Out:
what is to be remembered, and in words which source stopped where. A number that rests on a source that stopped is
unknown, and never good.

A day is looked at once, when a fifth of its labels can have come. What is usual is learnt from the first days of a
source (`route.drift.reference_h`, twice), as weekends must be in it. Reviewers are not watched here: whether people
keep up with a budget is told by `gateway.quality.workload`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.autopilot.flow_words import SourceFlow, StreamFlow, tell
from gateway.autopilot.news import keep, notice
from gateway.ledger import schema
from gateway.ledger.daily import DAY_US, Delays, by_day, delays, first_day, stated, statements_by_day
from gateway.ledger.grid import HOUR_US
from gateway.ledger.labels import REVIEW
from gateway.quality.delay import LEAST_SHARE, DelayDistribution, delay_distribution
from gateway.quality.evidence import Evidence
from gateway.quality.starvation import FALLS, Flow, fall_e_values, make_flow
from gateway.types import Outcome

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.ledger import Ledger, Reader

__all__ = ["FLOW", "FlowWatch", "flow_report", "watch_flow"]

FLOW: Final = "flow"
"""Kind of states in the ledger."""

Key = tuple[str, str]

SETTLED_US: Final = 2 * HOUR_US

MOST_DAYS: Final = 90

KEPT_DAYS: Final = 45

MOST_SEGMENTS: Final = 20
"""Of a route, those with most calls; the others are in the route's own numbers."""

MOST_SOURCES: Final = 20

HORIZON_DAYS: Final = 90
"""How far back delays are learnt from."""

SERVED: Final = (Outcome.MODEL, Outcome.FALLBACK, Outcome.STATIC, Outcome.HUMAN, Outcome.HOLDOUT)
"""Outcomes of calls that somebody has an answer to speak about."""

Counts = dict[int, float]


@dataclass(slots=True)
class _Came:
    """By day: calls by (route, segment), labels by (route, source, segment); segment "" is all of the route."""

    served: dict[Key, Counts] = field(default_factory=lambda: defaultdict(dict))
    labels: dict[tuple[str, str, str], Counts] = field(default_factory=lambda: defaultdict(dict))


class FlowWatch:
    """A part of the loop: looks once a day, and remembers."""

    name = "feedback flow"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: tuple[int, Any] | None = None

    def look(self, standing: Any, now_us: int) -> None:
        """Bring what is remembered up to the last day whose labels can be judged. Blocks."""
        settings: Settings = standing.settings
        now = (
            (now_us - SETTLED_US) // DAY_US,
            {name: route.drift for name, route in settings.routes.items()},
        )
        if now != self._seen:
            ledger = self._ledger
            before = ledger.states(FLOW)
            found = watch_flow(ledger.reader, settings, before, now_us)
            news = [
                notice(route, "feedback", one.words, standing.version, now_us)
                for route, of in settings.routes.items()
                for one in _fresh(before, {**before, **found}, route, of.drift.arl_days)
            ]
            keep(ledger, {FLOW: found}, news, now_us)
            self._seen = now

    def idle(self) -> None:
        """Another leads: what is remembered is read anew when this one does again."""
        self._seen = None


def _fresh(
    before: Mapping[Key, Mapping[str, Any]],
    after: Mapping[Key, Mapping[str, Any]],
    route: str,
    arl_days: float,
) -> list[SourceFlow]:
    """Sources that are starved now, in a segment in which they were not before."""
    known = {one.source: set(one.starved) for one in flow_report(before, route, arl_days)}
    now = flow_report(after, route, arl_days)
    return [one for one in now if set(one.starved) - known.get(one.source, set())]


def watch_flow(
    reader: Reader, settings: Settings, before: Mapping[Key, Mapping[str, Any]], now_us: int
) -> dict[Key, Mapping[str, Any]]:
    """What is to be remembered once all days that can be judged have been; only what is new.

    Raises: LedgerUnavailable.
    """
    begun, today = first_day(reader), (now_us - SETTLED_US) // DAY_US
    wanted = {
        name: max(4, round(route.drift.reference_h / 12))
        for name, route in settings.routes.items()
        if "feedback" in route.drift.fields
    }
    if begun is None or not wanted:
        return {}
    last = [int(state["day"]) for state in before.values() if "day" in state]
    reach = today - max(wanted.values()) - 3
    start = max(min([reach, *(day + 1 for day in last)]) if last else begun, today - MOST_DAYS, begun)
    late = {
        key: _distribution(of) for key, of in delays(reader, now_us - HORIZON_DAYS * DAY_US, now_us).items()
    }
    came = _came(reader, set(wanted), start, today)
    known = {(route, *_parts(name)) for route, name in before}
    found: dict[Key, Mapping[str, Any]] = {}
    for route, source, segment in sorted(known | set(came.labels)):
        if route not in wanted:
            continue
        key = route, _name(source, segment)
        served, labels = came.served.get((route, segment), {}), came.labels.get((route, source, segment), {})
        state = before.get(key, {})
        shares = {
            day: _share(late.get((route, source)), day, now_us) for day in served if begun < day < today
        }
        days = [day for day in sorted(shares) if shares[day] > LEAST_SHARE]
        fresh: Mapping[str, Any] = state
        if "flow" not in state:
            whole = [day for day in days if day >= min(labels, default=today)]
            fresh = _learn(served, labels, shares, whole, wanted[route])
        after = _follow(served, labels, shares, days, fresh) if "flow" in fresh else fresh
        if after != state:
            found[key] = after
    return found


def flow_report(
    states: Mapping[Key, Mapping[str, Any]], route: str, arl_days: float
) -> tuple[SourceFlow, ...]:
    """What is known of one route's feedback, by source; nothing where nobody has looked yet."""
    here = {_parts(name): state for (of, name), state in states.items() if of == route}
    watched = sum("evidence" in state for state in here.values())
    by_source: dict[str, list[StreamFlow]] = defaultdict(list)
    for (source, segment), state in sorted(here.items()):
        by_source[source].append(_stream(segment, state, arl_days * max(watched, 1)))
    return tuple(tell(source, streams) for source, streams in sorted(by_source.items()))


def _stream(segment: str, state: Mapping[str, Any], wanted: float) -> StreamFlow:
    evidence = Evidence.of(state.get("evidence", {}), len(FALLS))
    if "flow" not in state or evidence is None:
        so_far, of = int(state.get("learning", 0)), int(state.get("wanted", 0))
        return StreamFlow(segment, so_far, of, reason=state.get("reason"))
    flow = Flow(**state["flow"])
    since = evidence.since if evidence.run > 1.0 else None
    rows = [day for day in state["days"] if since is None or day[0] >= since]
    rows = rows if since is not None else rows[-7:]
    expected, labels = sum(day[3] for day in rows), sum(day[2] for day in rows)
    days = tuple((int(day[0]), float(day[2]), float(day[3])) for day in state["days"])
    return StreamFlow(
        segment, 0, 0, flow.rate, evidence.level / wanted, since, labels, expected, days, flow.reason
    )


def _learn(
    served: Counts, labels: Counts, shares: Mapping[int, float], days: Sequence[int], wanted: int
) -> dict[str, Any]:
    """A flow from the first days, or how far that is; too few labels are waited for as long as days are in reach."""
    if len(days) < wanted:
        return {"learning": len(days), "wanted": wanted}
    for count in range(wanted, len(days) + 1):
        first = days[:count]
        flow = make_flow(
            [served[day] for day in first],
            [labels.get(day, 0.0) for day in first],
            [shares[day] for day in first],
        )
        if flow.reason is None:
            return {"flow": asdict(flow), "day": first[-1], "first": first[0], "days": []}
    return {"learning": len(days), "wanted": wanted, "reason": flow.reason}


def _follow(
    served: Counts, labels: Counts, shares: Mapping[int, float], days: Sequence[int], state: Mapping[str, Any]
) -> dict[str, Any]:
    flow = Flow(**state["flow"])
    evidence = Evidence.of(state.get("evidence", {}), len(FALLS)) or Evidence((0.0,) * len(FALLS))
    last, rows = int(state["day"]), list(state["days"])
    for day in days:
        if day > last:
            found = labels.get(day, 0.0)
            evidence = evidence.after(day, *fall_e_values(flow, served[day], found, shares[day]))
            rows.append([day, served[day], found, round(flow.expected(served[day], shares[day]), 3)])
            last = day
    return {**state, "evidence": evidence.as_dict(), "day": last, "days": rows[-KEPT_DAYS:]}


def _came(reader: Reader, routes: set[str], first: int, end: int) -> _Came:
    came = _Came()
    calls: dict[Key, float] = defaultdict(float)
    keys = ("route", "segment", "outcome")
    for day, route, segment, outcome, count in by_day(
        reader, schema.tally_calls, keys, ("calls",), first, end
    ):
        if route in routes and outcome in SERVED:
            for one in _pairs(segment):
                _add(came.served[route, one], day, float(count))
                calls[route, one] += float(count)
    kept = {
        key
        for route in routes
        for key in sorted((key for key in calls if key[0] == route and key[1]), key=lambda key: -calls[key])[
            :MOST_SEGMENTS
        ]
    }
    keys = ("route", "source", "segment")
    for day, route, source, segment, count in by_day(
        reader, schema.tally_labels, keys, ("labels",), first, end
    ):
        if source != REVIEW and count > 0:
            _note(came, routes, kept, route, source, segment, day, float(count))
    for day, route, source, segment, name, count in statements_by_day(reader, first, end):
        _note(came, routes, kept, route, stated(source, name), segment, day, float(count))
    total: dict[Key, float] = defaultdict(float)
    for (route, source, segment), days in came.labels.items():
        total[route, source] += sum(days.values()) if not segment else 0.0
    most = set(sorted(total, key=lambda key: -total[key])[: MOST_SOURCES * len(routes)])
    came.labels = {key: days for key, days in came.labels.items() if key[:2] in most}
    return came


def _note(
    came: _Came,
    routes: set[str],
    kept: set[Key],
    route: str,
    source: str,
    segment: str,
    day: int,
    count: float,
) -> None:
    if route in routes:
        for one in _pairs(segment):
            if not one or (route, one) in kept:
                _add(came.labels[route, source, one], day, count)


def _add(counts: Counts, day: int, count: float) -> None:
    counts[day] = counts.get(day, 0.0) + count


def _pairs(segment: str) -> list[str]:
    """All of the route, and each attribute's value by itself."""
    return ["", *(pair for pair in segment.split(",") if "=" in pair)]


def _name(source: str, segment: str) -> str:
    return f"{source}\n{segment}"


def _parts(name: str) -> Key:
    source, _, segment = name.partition("\n")
    return source, segment


def _distribution(found: Delays) -> DelayDistribution:
    return delay_distribution(found.delay_h, found.age_h)


def _share(late: DelayDistribution | None, day: int, now_us: int) -> float:
    """Of a day's labels, what can have come by now; all where nothing is known of how late they come."""
    if late is None or late.reason is not None:
        return 1.0
    ages = (now_us - (day * DAY_US + (np.arange(24) + 0.5) * HOUR_US)) / HOUR_US
    return float(late.by(ages).mean())
