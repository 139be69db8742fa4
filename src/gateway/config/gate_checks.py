"""Objectives and gates against the rest of the route: what they refer to, and what they could never learn."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.faults import Path, did_you_mean, listed, quoted
from gateway.config.gates import Act
from gateway.config.names import Names, Report
from gateway.config.routes import Route

__all__ = ["check_gates", "idle_gates"]


def check_gates(path: Path, route: Route, names: Names, report: Report) -> None:
    """Report what a route's gates and objective refer to wrongly."""
    seen: dict[str, int] = {}
    for index, gate in enumerate(route.gates):
        at = (*path, "gates", index)
        if gate.name in seen:
            report((*at, "name"), f"a gate {gate.name} stands here already", "a name of its own")
        seen[gate.name] = index
        if gate.segment is not None:
            segment = gate.segment.partition("=")[0]
            if segment not in names.segments or gate.segment.endswith("="):
                report(
                    (*at, "segment"),
                    f"there is no segment {quoted(gate.segment)}",
                    listed(form for known in names.segments for form in (known, f"{known}=<value>"))
                    or "a segment that stands under identity.segments:",
                    did_you_mean(segment, names.segments),
                )
        _act((*at, "then"), gate.then, route, names, report)
    prediction = route.prediction
    if prediction is not None and prediction.positive is None:
        for name in ("objective", "costs", "gates"):
            if getattr(route, name):
                report(
                    (*path, name),
                    f"{name} without prediction.positive",
                    "the class that precision and recall are about",
                    "for example positive: spam",
                    key=True,
                )


def _act(at: Path, act: Act, route: Route, names: Names, report: Report) -> None:
    backend = act.backend
    known = backend is not None and names.check((*at, "roll_back"), backend, report)
    if known and backend not in route.chain[1:]:
        found = "is the first of the chain" if backend == route.chain[0] else "is not in the chain"
        report(
            (*at, "roll_back"),
            f"{backend} {found}",
            listed(route.chain[1:]) or "a second backend in the chain",
            "what stands before it is left out until somebody undoes it",
        )
    of = at[:2]  # the route
    if act.stop_exploring and route.explore is None and not names.written((*of, "explore")):
        report(at, "stop_exploring, and nothing is explored", "explore: in the route, or another act")
    if act.raise_floor and route.confidence is None and not names.written((*of, "confidence")):
        report(
            at,
            "raise_floor without confidence",
            "confidence: in the route, or another act",
            "for example confidence: {floor: 0.8}",
        )


def idle_gates(route: Route) -> Iterator[tuple[Path, str, str]]:
    """Why gates never come to a verdict: where in the route, what was found, the mend."""
    if not route.watched:
        return
    where = "gates" if route.gates else "objective"
    if route.review is None:
        yield (
            (where,),
            "nobody reviews this route, so its precision and recall are never known",
            "for example review: {per_hour: 60}",
        )
        return
    share = route.review.share
    if share is None or route.review.per_hour is not None:
        return
    for index, gate in enumerate(route.watched):
        at: Path = ("gates", index) if route.gates else ("objective",)
        if share.flagged == 0:
            yield (
                at,
                "what is flagged is never reviewed, so there is never a verdict",
                "review.share.flagged above 0",
            )
        elif share.rest == 0 and not gate.flagged_only:
            yield (
                at,
                f"what is not flagged is never reviewed, so {gate.metric} is never known",
                "review.share.low above 0",
            )
