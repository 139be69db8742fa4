"""Cases tried on a policy: each call walked through by the code that decides real ones, and what came of it compared.

What chance would decide is taken out of chance: a case says whether its unit is in the holdout, and which arm it
draws. Nothing is sent anywhere, and no state is read, so a case comes out the same on every machine.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from gateway._dataplane import Policy
from gateway.config import Fault, Settings
from gateway.config.cases import Case, Expect, LoadedCases
from gateway.runtime.check import check
from gateway.runtime.document import document
from gateway.runtime.rules import Asker, asking

__all__ = ["CaseResult", "Difference", "run_cases", "untried_rules"]

SALT: Final = "00" * 32
"""Any will do: no choice that a case depends on is drawn by it."""

TOLERANCE: Final = 1e-6
"""Scores are compared as people write them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that was not met: its name, what was found and what was wanted, and where it stands."""

    what: str
    found: Any
    wanted: Any
    fault: Fault


@dataclass(slots=True)
class CaseResult:
    """What became of one case. `faults` are those of the settings that the case itself puts before the file's."""

    case: Case
    where: str
    differences: list[Difference] = field(default_factory=list)
    explained: Mapping[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all came as expected."""
        return not self.differences and not self.faults


def run_cases(
    file: FilePath, settings: Settings, overrides: Sequence[str], loaded: LoadedCases, only: str = ""
) -> Iterator[CaseResult]:
    """Try every case whose name holds the words `only`.

    Args:
        file, overrides: where `settings` came from, for cases that change some of them.
    """
    policies: dict[tuple[Any, ...], tuple[Policy, Asker | None] | list[Fault]] = {}
    with contextlib.ExitStack() as processes:
        for index, case in enumerate(loaded.cases):
            if only.lower() not in case.name.lower():
                continue
            result = CaseResult(case, loaded.source.fault(("cases", index), "").where)
            key = (case.settings, case.given.holdout, case.given.arm)
            if key not in policies:
                policies[key] = _policy(file, settings, overrides, case, processes)
            policy = policies[key]
            if isinstance(policy, list):
                result.faults = policy
            else:
                result.explained = json.loads(policy[0].explain(json.dumps(_call(case)), policy[1]))
                decision = result.explained["decision"]
                result.differences = list(_differences(case.expect, decision, index, loaded))
            yield result


def untried_rules(settings: Settings, results: Sequence[CaseResult]) -> list[tuple[str, str]]:
    """Rules, as (route, rule), whose condition held in no case: nobody knows what they do."""
    held = {
        (result.explained["decision"]["route"], step["text"])
        for result in results
        if result.explained
        for step in result.explained["steps"]
        if step["step"] == "rule"
    }
    untried: list[tuple[str, str]] = []
    for name, route in settings.routes.items():
        rules = map(route.rule_name, range(len(route.rules)))
        untried += [
            (name, rule)
            for rule in rules
            if not any(at == name and text.startswith(f"the rule {rule} holds") for at, text in held)
        ]
    return untried


def _policy(
    file: FilePath,
    settings: Settings,
    overrides: Sequence[str],
    case: Case,
    processes: contextlib.ExitStack,
) -> tuple[Policy, Asker | None] | list[Fault]:
    """The policy, and who judges its rules in Python until `processes` are closed."""
    if case.settings:
        changed = check(file, [*overrides, *case.settings], machine=False)
        if changed.settings is None:
            return changed.faults
        settings = changed.settings
    policy = document(settings, version=1, salt_hex=SALT, receipt_keys=[])
    for route in policy["routes"]:
        if route["holdout"] is not None:
            route["holdout"]["share"] = 1.0 if case.given.holdout else 0.0
        if route["explore"] is not None:
            _draw(route, case.given.arm)
    ask = processes.enter_context(asking(settings, file.absolute().parent))
    return Policy(json.dumps(policy)), ask


def _draw(route: Mapping[str, Any], given: str | None) -> None:
    """Gives a route's draw to one arm: the one given, else the first of the chain."""
    arms = route["explore"]["arms"]
    names = [arm["backend"] for arm in arms]
    wanted = given if given in names else route["chain"][0]
    drawn = wanted if wanted in names else names[0]
    for arm in arms:
        arm["share"] = float(arm["backend"] == drawn)


def _call(case: Case) -> dict[str, Any]:
    call = case.call.model_dump(mode="json")
    call["past"] = case.given.past()
    call["answers"] = {name: said.as_dict() for name, said in case.answers.items()}
    # A backend of which nothing is said would be taken for down only where a prediction is read.
    call["answer"] = {"error": "UNAVAILABLE"} if case.others is None else case.others.as_dict()
    return call


def _differences(
    expect: Expect, decision: Mapping[str, Any], index: int, loaded: LoadedCases
) -> Iterator[Difference]:
    prediction = decision["prediction"] or {}
    found = {**decision, "label": prediction.get("label"), "score": prediction.get("score")}
    found["outcomes"] = tuple(row["outcome"] for row in decision.get("rows") or ())
    for name in sorted(expect.model_fields_set, key=list(type(expect).model_fields).index):
        wanted, got = getattr(expect, name), found[name]
        if name == "attempts":
            got = [f"{backend}:{reason}" for backend, reason in got]
            same = len(got) == len(wanted) and all(
                one == other or one.partition(":")[0] == other for one, other in zip(got, wanted, strict=True)
            )
        elif name == "message":
            same = wanted in (got or "")
        elif isinstance(wanted, float) and isinstance(got, (int, float)):
            same = math.isclose(wanted, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        else:
            same = wanted == got
        if not same:
            at = loaded.source.fault(
                ("cases", index, "expect", name), f"found {_shown(got)}", f"{_shown(wanted)}"
            )
            yield Difference(name, got, wanted, at)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)
