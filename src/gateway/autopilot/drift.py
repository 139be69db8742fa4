"""Whether traffic is still what it was: a route's scores, confidences, fallbacks and segments, day by day.

In: the ledger's tallies, and what was remembered of a reference and of the evidence so far. Out: both as they are now,
and what they say in words. A model is compared with its own first days (`route.drift.reference_h`): another version of
it begins anew. Days are those of UTC, and looked at once, when they are over.

One false alarm of a route in `arl_days`: of k things watched, each must bring k times the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.autopilot.drift_words import FieldDrift, tell
from gateway.autopilot.news import keep, notice
from gateway.ledger import schema
from gateway.ledger.daily import CONFIDENCE_CELLS, DAY_US, by_day, confidence_by_day, first_day
from gateway.ledger.grid import SCORE_BINS
from gateway.quality.drift import Reference, Shift, compare, equal_mass, largest, make_reference
from gateway.quality.evidence import Evidence, e_value
from gateway.types import Outcome

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.ledger import Ledger, Reader

__all__ = ["DRIFT", "REFERENCE", "DriftWatch", "Remembered", "Stream", "drift_report", "watch_drift"]

REFERENCE: Final = "reference"
DRIFT: Final = "drift"
"""Kinds of states in the ledger."""

Floats = NDArray[np.float64]
Key = tuple[str, str]

SETTLED_US: Final = 2 * 3_600_000_000
"""So long after its end a day is looked at, when little more is to come for it."""

MOST_DAYS: Final = 60
"""A gateway that was away longer looks at no more than these."""

KEPT_DAYS: Final = 45
"""Remembered one by one, for plots and for the size of a change since it began."""

LEAST_DAY: Final = 50
"""Predictions of a day that is one: what is less is a holiday, a test, or the rest of a model that was replaced."""

BACK_DAYS: Final = 3
"""Days after which traffic that is as before counts as such: evidence sinks more slowly than it rises."""

MOST_STREAMS: Final = 8
"""Models, and attributes of segments, of one route."""

ANSWERED: Final = (Outcome.MODEL, Outcome.FALLBACK, Outcome.STATIC, Outcome.HUMAN, Outcome.ERROR)
"""Outcomes of calls that were meant for a model."""


@dataclass(slots=True)
class Stream:
    """One thing that is watched. `days`: by day, counts by cell. `names`: of the cells, where they are categories."""

    kind: str
    subject: str
    days: dict[int, Floats] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.subject}".strip()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger keeps: by (route, name), references and evidence."""

    references: Mapping[Key, Mapping[str, Any]]
    states: Mapping[Key, Mapping[str, Any]]


class DriftWatch:
    """A part of the loop: looks once a day, and remembers."""

    name = "drift"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: tuple[int, Any] | None = None

    def look(self, standing: Any, now_us: int) -> None:
        """Bring what is remembered up to the last day that is over; nothing where that was done. Blocks."""
        settings: Settings = standing.settings
        today = (now_us - SETTLED_US) // DAY_US
        now = (today, {name: route.drift for name, route in settings.routes.items()})
        if now == self._seen:
            return
        ledger = self._ledger
        before = Remembered(ledger.states(REFERENCE), ledger.states(DRIFT))
        found = watch_drift(ledger.reader, settings, before, today)
        after = Remembered({**before.references, **found.references}, {**before.states, **found.states})
        news = [
            notice(route, "drift", one.words, standing.version, now_us)
            for route, of in settings.routes.items()
            for one in _fresh(before, after, route, of.drift.arl_days)
        ]
        keep(ledger, {REFERENCE: found.references, DRIFT: found.states}, news, now_us)
        self._seen = now

    def idle(self) -> None:
        """Another leads: what is remembered is read anew when this one does again."""
        self._seen = None


def _fresh(before: Remembered, after: Remembered, route: str, arl_days: float) -> list[FieldDrift]:
    """What has drifted now and had not before."""
    known = {
        (one.kind, one.subject) for one in drift_report(before, route, arl_days) if one.verdict == "drifted"
    }
    now = drift_report(after, route, arl_days)
    return [one for one in now if one.verdict == "drifted" and (one.kind, one.subject) not in known]


def watch_drift(reader: Reader, settings: Settings, before: Remembered, today: int) -> Remembered:
    """What is to be remembered once all days before `today` have been looked at; only what is new.

    Raises: LedgerUnavailable.
    """
    begun = first_day(reader)
    if begun is None:
        return Remembered({}, {})
    reach = max(
        (round(2 * route.drift.reference_h / 24) + 3 for route in settings.routes.values()), default=0
    )
    last = [int(state["day"]) for state in before.states.values() if "day" in state]
    start = max(min([today - reach, *(day + 1 for day in last)]) if last else begun, today - MOST_DAYS, begun)
    references: dict[Key, Mapping[str, Any]] = {}
    states: dict[Key, Mapping[str, Any]] = {}
    for route, streams in _streams(reader, settings, start, today).items():
        wanted = max(2, round(settings.routes[route].drift.reference_h / 24))
        for stream in streams:
            key = route, stream.name
            kept = before.references.get(key)
            young = start == begun or min(stream.days, default=start) > start
            if kept is None and (kept := _refer(stream, wanted, young)) is not None:
                references[key] = kept
            if kept is None:
                states[key] = {"learning": len(_whole(stream, young)), "wanted": wanted}
            elif (state := _follow(stream, kept, before.states.get(key, {}), today)) is not None:
                states[key] = state
    return Remembered(references, states)


def drift_report(remembered: Remembered, route: str, arl_days: float) -> tuple[FieldDrift, ...]:
    """What is known of one route's traffic; nothing where nobody has looked yet."""
    states = {name: state for (of, name), state in remembered.states.items() if of == route}
    watched = sum("evidence" in state for state in states.values())
    found = []
    for name, state in sorted(states.items()):
        kept = remembered.references.get((route, name))
        evidence = Evidence.of(state.get("evidence", {}), 1)
        shift, back = None, False
        if kept is not None and evidence is not None:
            reference = make_reference(kept["days"])
            shift = _since(state["days"], evidence, reference)
            last = [day["counts"] for day in state["days"][-BACK_DAYS:]]
            back = bool(last) and not compare(np.sum(last, axis=0), reference).material
        found.append(tell(name, state, kept, evidence, shift, arl_days * max(watched, 1), back=back))
    return tuple(found)


def _since(days: Sequence[Any], evidence: Evidence, reference: Reference) -> Shift:
    """The size of what changed: all days since it began together, else the last week."""
    counts = [
        np.asarray(day["counts"]) for day in days if evidence.since is None or day["day"] >= evidence.since
    ]
    if not counts or evidence.run <= 1.0:
        counts = [np.asarray(day["counts"]) for day in days[-7:]]
    return compare(np.sum([np.zeros_like(reference.counts), *counts], axis=0), reference)


def _refer(stream: Stream, wanted: int, young: bool) -> dict[str, Any] | None:
    """The stream's first whole days as its reference; None while there are too few."""
    whole = _whole(stream, young)[:wanted]
    if len(whole) < wanted:
        return None
    width = max(len(stream.days[day]) for day in whole)
    days = np.array([np.pad(stream.days[day], (0, width - len(stream.days[day]))) for day in whole])
    cells: dict[str, int] | None = None
    if stream.names:
        bins = largest(days.sum(axis=0))
        cells = dict(zip(stream.names[:width], bins.tolist(), strict=True))
    elif stream.kind == "fallback":
        bins = np.arange(width)
    else:
        bins = equal_mass(days.sum(axis=0))
    binned = np.array([np.bincount(bins, weights=day, minlength=int(bins.max()) + 1) for day in days])
    if cells is not None and int(bins.max()) == len(cells) - 1:
        binned = np.pad(binned, ((0, 0), (0, 1)))  # a place for what was never seen
    return {
        "first": whole[0],
        "end": whole[-1] + 1,
        "days": binned.tolist(),
        "cells": cells,
        "edges": [int(at) for at in np.flatnonzero(np.diff(bins, prepend=-1))] if cells is None else None,
        "width": width,
    }


def _whole(stream: Stream, young: bool) -> list[int]:
    """Days that count; the very first is left out where it was seen to begin, as that was in the middle of it."""
    first = min(stream.days, default=0)
    return [
        day
        for day in sorted(stream.days)
        if stream.days[day].sum() >= LEAST_DAY and not (young and day == first)
    ]


def _follow(
    stream: Stream, kept: Mapping[str, Any], state: Mapping[str, Any], today: int
) -> dict[str, Any] | None:
    """The state after the days that are new; None where there are none."""
    reference = make_reference(kept["days"])
    evidence = Evidence.of(state.get("evidence", {}), 1) or Evidence()
    last = int(state.get("day", kept["end"] - 1))
    days = list(state.get("days", ()))
    for day in sorted(stream.days):
        if not max(last, kept["end"] - 1) < day < today or stream.days[day].sum() < LEAST_DAY:
            continue
        counts = _binned(stream, stream.days[day], kept, len(reference.counts))
        shift = compare(counts, reference)
        if shift.p is not None:
            evidence = evidence.after(day, float(e_value(shift.p)))
        last = day
        days.append(
            {"day": day, "counts": counts.tolist(), "psi": shift.psi, "low": shift.low, "high": shift.high}
        )
    if last == state.get("day"):
        return None
    return {"evidence": evidence.as_dict(), "day": last, "days": days[-KEPT_DAYS:]}


def _binned(stream: Stream, cells: Floats, kept: Mapping[str, Any], bins: int) -> Floats:
    if kept["cells"] is not None:
        place = [kept["cells"].get(name, bins - 1) for name in stream.names[: len(cells)]]
    else:
        found = np.searchsorted(kept["edges"], np.arange(len(cells)), side="right") - 1
        place = np.clip(found, 0, bins - 1).tolist()
    return np.bincount(place, weights=cells, minlength=bins).astype(np.float64)


def _streams(reader: Reader, settings: Settings, first: int, end: int) -> dict[str, list[Stream]]:
    """Everything that is watched, by route, from what came in some days."""
    watched = {name: set(route.drift.fields) for name, route in settings.routes.items()}
    any_field = set().union(*watched.values()) if watched else set()
    found: dict[str, dict[str, Stream]] = {route: {} for route in watched}

    def add(
        field_name: str, route: str, kind: str, subject: str, day: int, cell: int, count: float, width: int
    ) -> None:
        if field_name not in watched.get(route, ()):
            return
        stream = found[route].setdefault(f"{kind} {subject}", Stream(kind, subject))
        counts = stream.days.setdefault(day, np.zeros(width))
        counts[cell] += count

    model = _models(settings)
    if "score" in any_field:
        keys = ("route", "backend", "score_bin")
        for day, route, backend, cell, rows in by_day(
            reader, schema.tally_scores, keys, ("rows",), first, end, predicted=True
        ):
            if cell >= 0 and rows > 0 and (name := model(route, backend)):
                add("score", route, "score", name, day, cell, float(rows), SCORE_BINS)
    if "fallback" in any_field:
        for day, route, outcome, calls in by_day(
            reader, schema.tally_calls, ("route", "outcome"), ("calls",), first, end
        ):
            if (
                outcome in ANSWERED
                and route in watched
                and (name := model(route, settings.routes[route].chain[0]))
            ):
                add("fallback", route, "fallback", name, day, int(outcome != Outcome.MODEL), float(calls), 2)
    if "confidence" in any_field:
        _confidences(reader, first, end, model, add)
    if "segments" in any_field:
        for route, stream in _segments(reader, first, end):
            if "segments" in watched.get(route, ()):
                found[route][stream.name] = stream
    return {route: _most(streams.values()) for route, streams in found.items()}


def _most(streams: Any) -> list[Stream]:
    """Of each kind those with most traffic."""
    by_kind: dict[str, list[Stream]] = {}
    for stream in sorted(streams, key=lambda one: -sum(float(day.sum()) for day in one.days.values())):
        by_kind.setdefault(stream.kind, []).append(stream)
    return [stream for kind in by_kind.values() for stream in kind[:MOST_STREAMS]]


def _models(settings: Settings) -> Callable[[str, str], str | None]:
    """The name by which a backend that may be wrong is watched: with its version; None for what is no model."""
    names = {
        name: f"{name} {backend.version}" if backend.version else name
        for name, backend in settings.backends.items()
        if backend.grpc
    }
    return lambda route, backend: names.get(backend)


def _confidences(
    reader: Reader, first: int, end: int, model: Callable[[str, str], str | None], add: Callable[..., None]
) -> None:
    """Weighted counts, scaled to how many equally weighted predictions they are worth."""
    cells: dict[tuple[int, str, str], list[tuple[int, float, float]]] = {}
    for day, route, backend, cell, weight, squared in confidence_by_day(reader, first, end):
        if (name := model(route, backend)) is not None:
            cells.setdefault((day, route, name), []).append(
                (min(int(cell), CONFIDENCE_CELLS - 1), weight, squared)
            )
    for (day, route, name), rows in cells.items():
        total = sum(weight for _, weight, _ in rows)
        worth = total / max(sum(squared for _, _, squared in rows), 1e-12)
        for cell, weight, _ in rows:
            add("confidence", route, "confidence", name, day, cell, weight * worth, CONFIDENCE_CELLS)


def _segments(reader: Reader, first: int, end: int) -> Iterator[tuple[str, Stream]]:
    """One stream for each attribute of the segments, its values as categories."""
    rows = by_day(reader, schema.tally_calls, ("route", "segment"), ("calls",), first, end)
    counts: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for day, route, segment, calls in rows:
        for pair in segment.split(",") if segment else ():
            attribute, sign, value = pair.partition("=")
            if sign and route:
                of_day = counts.setdefault((route, attribute), {}).setdefault(day, {})
                of_day[value] = of_day.get(value, 0.0) + float(calls)
    for (route, attribute), days in counts.items():
        names = sorted({value for of_day in days.values() for value in of_day})
        if len(names) > 1:
            arrays = {day: np.array([of.get(name, 0.0) for name in names]) for day, of in days.items()}
            yield route, Stream("segment", attribute, arrays, names)
