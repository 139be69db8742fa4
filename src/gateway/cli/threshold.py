"""`gateway threshold ROUTE`: from which score on to flag, what a promise about it rests on, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument
from gateway.cli.steering import AddressOption, CaOption, TokenOption

if TYPE_CHECKING:
    from gateway.autopilot.thresholds import Advice, InForce, Seen

__all__ = ["threshold"]

RULES: Final = ("guaranteed", "recall_first", "cost_optimal")
MONTH_H: Final = 672.0
USUAL: Final = 0.9
"""Promised where neither the command nor the route's objective says."""


def threshold(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="The route whose threshold it is.")],
    where: WhereArgument = Path("gateway.yaml"),
    precision: Annotated[
        float | None,
        typer.Option("--precision", metavar="P", help="To guarantee; else the objective's, else 0.9."),
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", metavar="R", help="To keep; else the objective's, else 0.9.")
    ] = None,
    sure: Annotated[
        float, typer.Option("--sure", metavar="S", help="How sure a promise is, from 0.5 on.")
    ] = 0.9,
    hours: Annotated[
        float, typer.Option("--hours", metavar="H", help="How far to look back; 0 looks at everything.")
    ] = MONTH_H,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
    publish: Annotated[
        str | None,
        typer.Option(
            "--publish",
            metavar="RULE",
            help="Make it the threshold: guaranteed, recall_first, cost_optimal, or a number. Else only told.",
        ),
    ] = None,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate", help="Publish the table that makes scores probabilities; flags stay as they are."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the version.")] = "",
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Show thresholds that keep a promise, what decisions are worth at each, and whether scores are probabilities.

    Reads reviewed predictions from the ledger, weighted by how likely each was to be reviewed. Exit 1 where nothing
    that was asked for is shown by the labels that there are.
    """
    from rich.console import Console

    from gateway.cli.printing import FOUND, print_json, wrong_use
    from gateway.cli.threshold_publish import carry_out, change_of
    from gateway.cli.threshold_text import render

    _check(precision, recall, sure, hours)
    advice, known, now = _advise(route, where, overrides, hours, (precision, recall, sure))
    change = change_of(advice, known, now, publish, recalibrate=recalibrate)
    if json:
        print_json(advice.as_dict() | {"change": None if change is None else change.as_dict()})
    else:
        out = Console(highlight=False, markup=False, emoji=False)
        out.width = min(out.width, 110)
        render(out, advice, change)
    if change is not None:
        if not change.changes:
            raise typer.Exit(FOUND)
        if json and not yes:
            raise wrong_use("--json asks nobody: say --yes as well, or leave out --publish and --recalibrate")
        carry_out(change, reason, (address, token_file, ca), yes=yes, json=json)
        return
    if all(choice is None or choice.threshold is None for choice in map(advice.choice, RULES)):
        raise typer.Exit(FOUND)


def _check(precision: float | None, recall: float | None, sure: float, hours: float) -> None:
    from gateway.cli.printing import wrong_use

    for name, value in (("--precision", precision), ("--recall", recall)):
        if value is not None and not 0 < value < 1:
            raise wrong_use(f"{name}: found {value:g}, wanted a share between 0 and 1")
    if not 0.5 <= sure < 1:
        raise wrong_use(f"--sure: found {sure:g}, wanted 0.5 to below 1, such as 0.9")
    if not 0 <= hours < 1e6:
        raise wrong_use(f"--hours: found {hours:g}, wanted a number of hours, such as 672")


def _advise(
    name: str,
    where: Path,
    overrides: list[str],
    hours: float,
    promises: tuple[float | None, float | None, float],
) -> tuple[Advice, Seen, InForce]:
    import time

    from gateway.autopilot.thresholds import Asked, InForce, advise, in_force, seen
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import wrong_use
    from gateway.ledger import Reader, Window
    from gateway.quality import Costs

    url, settings = find_ledger(where, overrides)
    if settings is None:
        raise wrong_use(
            f"{where}: wanted the settings file: it says what is positive, and what mistakes cost"
        )
    if name not in settings.routes:
        raise wrong_use(f"ROUTE: found {name!r}, wanted one of {', '.join(settings.routes)}")
    route = settings.routes[name]
    prediction, objective = route.prediction, route.objective
    if prediction is None or prediction.positive is None:
        raise wrong_use(f"ROUTE: {name} has no prediction.positive, so there is nothing to flag")
    precision, recall, sure = promises
    wanted = (None, None) if objective is None else (objective.precision, objective.recall)
    costs = None if route.costs is None else Costs(**route.costs.model_dump())
    asked = Asked(precision or wanted[0] or USUAL, recall or wanted[1] or USUAL, costs, sure)
    since_us = time.time_ns() // 1000 - round(hours * 3.6e9) if hours else None
    reader = Reader.open(url)
    try:
        known = seen(reader, Window(since_us, None, name))
        now = in_force(reader, name)
    finally:
        reader.close()
    if now is None:
        floor = None if route.confidence is None else route.confidence.floor
        now = InForce(0, prediction.threshold, floor, mapped=False)
    return advise(name, known, now.threshold, asked, binary=len(prediction.classes) == 2), known, now
