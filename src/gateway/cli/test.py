"""`gateway test`: what a policy does with calls that are thought of, compared with what was expected of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import JsonOption, SetOption

if TYPE_CHECKING:
    from gateway.runtime.cases import CaseResult

__all__ = ["test"]


def test(
    file: Annotated[Path, typer.Argument(help="The settings file.")],
    cases: Annotated[list[Path], typer.Argument(help="Files of cases.")],
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="WORDS", help="Try the cases whose name holds these words."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every case, with its steps.")
    ] = False,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
) -> None:
    """Try a policy on cases: given a call and what backends answer, is the outcome the one that was wanted?

    Ends with 0 if every case came as expected, with 1 if one did not, with 78 if a file is faulty.
    """
    from gateway.cli.printing import FAULTY, FOUND, print_faults, print_json, wrong_use
    from gateway.config.cases import read_cases
    from gateway.runtime.cases import run_cases, untried_rules
    from gateway.runtime.check import check as check_file

    loaded = check_file(file, overrides, machine=False)
    settings = loaded.settings
    if settings is None:
        print_faults(loaded.faults, to_stderr=True)
        raise typer.Exit(FAULTY)
    files = [read_cases(path, settings) for path in cases]
    faults = [fault for one in files for fault in one.faults]
    if faults:
        print_faults(faults, to_stderr=True)
        raise typer.Exit(FAULTY)
    results: list[CaseResult] = []
    for one in files:
        results += run_cases(file, settings, overrides, one, only or "")
    if not results:
        raise wrong_use(f"no case's name holds {only}")
    failed = [result for result in results if not result.passed]
    untried = untried_rules(settings, results) if only is None else []
    if json:
        print_json(
            {
                "cases": [_as_dict(result) for result in results],
                "passed": len(results) - len(failed),
                "failed": len(failed),
                "untried_rules": [{"route": route, "rule": rule} for route, rule in untried],
            }
        )
    else:
        _print(results, failed, untried, verbose)
    if failed:
        raise typer.Exit(FOUND)


def _as_dict(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "where": result.where,
        "passed": result.passed,
        "differences": [
            {"what": one.what, "found": one.found, "wanted": one.wanted, "line": one.fault.line}
            for one in result.differences
        ],
        "faults": [fault.as_dict() for fault in result.faults],
        "decision": result.explained.get("decision"),
    }


def _print(
    results: list[CaseResult], failed: list[CaseResult], untried: list[tuple[str, str]], verbose: bool
) -> None:
    from rich.text import Text

    from gateway.cli.printing import console, count, print_faults

    out = console()
    for result in results:
        if result.passed and not verbose:
            continue
        line = Text()
        line.append(f"{result.where}: ", "dim")
        line.append("passed: " if result.passed else "failed: ", "green" if result.passed else "red")
        line.append(result.case.name, "bold")
        out.print(line)
        print_faults(result.faults)
        for one in result.differences:
            out.print(Text(f"  {one.what}: {one.fault.text}  ({one.fault.where})"))
        for number, step in enumerate(result.explained.get("steps", ()), 1):
            out.print(Text(f"    {number:>2}. {step['step'].replace('_', ' ')}: {step['text']}", "dim"))
    for route, rule in untried:
        out.print(f"note: no case makes the rule {rule} of the route {route} hold")
    if failed:
        out.print(f"{len(failed)} of {count(len(results), 'case')} failed")
    else:
        out.print(f"{count(len(results), 'case')} passed")
