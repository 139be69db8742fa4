"""Rules in Python as the settings name them: which functions there are, what is wrong with them, and one asked alone.

Those of calls are asked by `gateway.runtime.rule_workers`, which a sidecar runs without any settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Settings
from gateway.config.faults import Path as SettingsPath
from gateway.config.faults import did_you_mean, listed
from gateway.runtime.rule_process import Ended, Hung, NotLoaded, RuleProcess, Verdict

__all__ = ["Asker", "RuleFault", "asking", "functions_of", "rule_faults"]


@dataclass(frozen=True, slots=True)
class RuleFault:
    """What is wrong with a rule's function, and where in the settings it stands."""

    path: SettingsPath
    found: str
    wanted: str = ""
    mend: str = ""


def functions_of(settings: Settings) -> dict[str, int]:
    """The functions that rules name, with how many arguments they are called: request, segment, predictions."""
    found: dict[str, int] = {}
    for route in settings.routes.values():
        for rule in route.rules:
            if rule.python is not None:
                # one that is used before and after the model must take both
                found[rule.python] = max(found.get(rule.python, 0), 2 if rule.on == "request" else 3)
    return found


def rule_faults(settings: Settings, folder: Path) -> list[RuleFault]:
    """Load every function in a process of its own, and say what cannot be. This runs the modules' code."""
    functions = functions_of(settings)
    if not functions:
        return []
    try:
        RuleProcess(folder, functions).close()
    except NotLoaded as error:
        return [
            _fault(
                ("routes", route, "rules", index, "python"), name, error.faults[name], folder, functions[name]
            )
            for route, index, name in _places(settings)
            if name in error.faults
        ]
    except (Ended, Hung) as error:
        why = (
            "they do not come to an end" if isinstance(error, Hung) else "the process that imports them ends"
        )
        route, index, _ = next(_places(settings))
        return [
            RuleFault(("routes", route, "rules", index, "python"), f"the modules cannot be imported: {why}")
        ]
    return []


def _places(settings: Settings) -> Iterator[tuple[str, int, str]]:
    for name, route in settings.routes.items():
        for index, rule in enumerate(route.rules):
            if rule.python is not None:
                yield name, index, rule.python


def _fault(
    path: SettingsPath, name: str, fault: tuple[str, str, list[str]], folder: Path, arguments: int
) -> RuleFault:
    kind, words, names = fault
    module, _, function = name.partition(":")
    if kind == "module":
        return RuleFault(
            path, f"there is no module {words}", f"a module in {folder}, or one that is installed"
        )
    if kind == "import":
        return RuleFault(path, f"{module} cannot be imported: {words}")
    if kind == "function":
        return RuleFault(
            path, f"{module} has no {function}", listed(names[:20]), did_you_mean(function, names)
        )
    takes = ("request, segment, predictions" if arguments == 3 else "request, segment") + ")"
    if kind == "callable":
        return RuleFault(path, f"{name} is no function but of type {words}", f"def {function}({takes}")
    if kind == "async":
        return RuleFault(
            path, f"{name} is async", f"def {function}({takes}", "take async out: it is called and waited for"
        )
    return RuleFault(path, f"{name} takes {words}", f"({takes}")


Asker = Callable[[str, bytes, float], Verdict]
"""Judges a rule: function, arguments as JSON, seconds."""


@contextlib.contextmanager
def asking(settings: Settings, folder: Path) -> Iterator[Asker | None]:
    """Who judges the rules of calls that are only thought of; None where no rule is in Python.

    Raises: NotLoaded, Ended, Hung.
    """
    functions = functions_of(settings)
    if not functions:
        yield None
        return
    process = RuleProcess(folder, functions)

    def ask(function: str, values: bytes, timeout_s: float) -> Verdict:
        nonlocal process
        try:
            return process.ask(function, values, timeout_s).verdict
        except (Ended, Hung):
            process.kill()
            process = RuleProcess(folder, functions)
            return None

    try:
        yield ask
    finally:
        process.close()
