"""Ways that lead back: rules whose backends refer to each other, and ways out of loops that are none.

At run time each backend is asked at most once a call, so nothing turns for ever; but a rule that leads back
does nothing, which nobody means who writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.config.expressions import names_variable, without_texts
from gateway.config.faults import Path, did_you_mean, listed, quoted
from gateway.config.memory import LoopGuard
from gateway.config.names import Names, Report
from gateway.config.routes import Route, Rule

__all__ = ["check_circles", "check_loop_guard"]

_EQUALS = re.compile(r"(?<![\w.])backend\s*==\s*(\"[^\"]*\"|'[^']*')|(\"[^\"]*\"|'[^']*')\s*==\s*backend\b")
_AMONG = re.compile(r"(?<![\w.])backend\s+in\s*\[([^\]]*)\]")
_TEXT = re.compile(r"\"([^\"]*)\"|'([^']*)'")


def check_loop_guard(path: Path, route: Route, names: Names, report: Report) -> None:
    """Report a way out that is none, and a guard that cannot count what it is to count."""
    guard = route.loop_guard
    if guard is None:
        return
    at = (*path, "loop_guard")
    if names.check((*at, "then"), guard.then, report) and guard.then == route.chain[0]:
        report(
            (*at, "then"),
            f"{guard.then} is whom the unit is stuck with: this leads back to it",
            "another backend than the first of the chain",
            "for example a static answer, or another model",
        )
    _negative(at, guard, route, report)


def _negative(at: Path, guard: LoopGuard, route: Route, report: Report) -> None:
    prediction = route.prediction
    for index, label in enumerate(guard.negative):
        if prediction is not None and prediction.classes and label not in prediction.classes:
            report(
                (*at, "negative", index),
                f"there is no class {quoted(label)}",
                listed(prediction.classes),
                did_you_mean(label, prediction.classes),
            )
    known = bool(guard.negative) or (prediction is not None and prediction.positive is not None)
    if guard.on is not None and "same_negative" in guard.on and not known:
        report(
            (*at, "on"),
            "same_negative, and no answer is negative",
            "prediction.positive, or the labels under negative:",
            "for example negative: [rejected]",
        )


def check_circles(path: Path, route: Route, report: Report) -> None:
    """Report rules on predictions that lead back to who made the prediction."""
    edges: dict[int, tuple[set[str], str]] = {}
    for index, rule in enumerate(route.rules):
        to = rule.then.to
        # What leads to the first of the chain is told already.
        if rule.on != "prediction" or to is None or to == route.chain[0]:
            continue
        at = (*path, "rules", index, "then", "to")
        if not names_variable(rule.when, "prediction") and not names_variable(rule.when, "backend"):
            report(
                at,
                f"the rule holds for what {to} answers as well: this leads back to it",
                "a condition that names the prediction or the backend",
                f'write && backend == "{route.chain[0]}", or on: request',
            )
            continue
        makers = _makers(rule)
        if makers is not None and to in makers:
            report(
                at,
                f"{to} has just made the prediction: this leads back to it",
                "another backend",
                "write then: next to go on along the chain",
            )
            continue
        edges[index] = ({route.chain[0]} if makers is None else makers, to)
        back = _way(to, edges[index][0], edges.values())
        if back:
            report(
                at,
                f"these rules lead in a circle: {' -> '.join([back[-1], *back])}",
                "each backend once",
                "write then: next to go on along the chain",
            )
            del edges[index]


def _makers(rule: Rule) -> set[str] | None:
    """The backends whose predictions the rule is about; None where it may be any's."""
    blank = without_texts(rule.when)
    if "||" in blank or "!" in blank.replace("!=", "") or "?" in blank:
        return None
    made = {one.strip("\"'") for match in _EQUALS.findall(rule.when) for one in match if one}
    for among in _AMONG.findall(rule.when):
        made.update(one or other for one, other in _TEXT.findall(among))
    return made or None


def _way(start: str, ends: set[str], edges: Iterable[tuple[set[str], str]]) -> list[str]:
    """The backends from `start` to one of `ends` by the rules; empty where there is no way."""
    known = list(edges)
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        if way[-1] in ends:
            return way
        for makers, to in known:
            if way[-1] in makers and to not in seen:
                seen.add(to)
                ways.append([*way, to])
    return []
