"""`gateway plan`: what a review budget teaches by when, by the same arithmetic that divides and reports it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gateway.cli.check import JsonOption, SetOption

if TYPE_CHECKING:
    from gateway.autopilot.plan import Assumed, Plan
    from gateway.quality import Objective

__all__ = ["plan"]

USUAL_PER_HOUR = 60.0
OBJECTIVES = ("both", "precision", "recall")


def plan(
    where: Annotated[
        Path,
        typer.Argument(metavar="FILE_OR_STATE_DIR", help="The settings file, or the folder of the state."),
    ] = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="One route only.")] = None,
    within: Annotated[
        list[float],
        typer.Option("--within", metavar="X", help="How far off a number may be, such as 0.05; repeatable."),
    ] = [0.1, 0.05, 0.03],  # noqa: B006  typer copies it
    per_hour: Annotated[
        float | None,
        typer.Option("--per-hour", metavar="N", help="Reviews an hour; else as the last policy has it."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="WHAT",
            help="both, precision or recall first: to compare with; else as the route's objective has it.",
        ),
    ] = None,
    hours: Annotated[
        float, typer.Option("--hours", metavar="H", help="How far to look back for the traffic.")
    ] = 168.0,
    traffic: Annotated[
        float | None,
        typer.Option("--traffic", metavar="N", help="Assume so many predictions an hour; no ledger is read."),
    ] = None,
    flagged: Annotated[
        float, typer.Option("--flagged", metavar="SHARE", help="With --traffic: the share that is flagged.")
    ] = 0.02,
    precision: Annotated[
        float, typer.Option("--precision", metavar="P", help="With --traffic: what it may be.")
    ] = 0.8,
    recall: Annotated[
        float, typer.Option("--recall", metavar="R", help="With --traffic: what it may be.")
    ] = 0.6,
) -> None:
    """Say how many reviews, and hours, it takes until precision and recall are known to within so much."""
    from gateway.autopilot.plan import Assumed
    from gateway.cli.printing import print_json, wrong_use

    for name, value in (("--flagged", flagged), ("--precision", precision), ("--recall", recall)):
        if not 0 < value < 1:
            raise wrong_use(f"{name}: found {value:g}, wanted a share between 0 and 1")
    for name, number in (("--per-hour", per_hour), ("--traffic", traffic), ("--hours", hours)):
        if number is not None and not 0 < number < 1e12:
            raise wrong_use(f"{name}: found {number:g}, wanted a number above 0")
    for width in within:
        if not 0.005 <= width < 0.5:
            raise wrong_use(f"--within: found {width:g}, wanted 0.005 to 0.5, such as 0.05")
    if objective not in (None, *OBJECTIVES):
        raise wrong_use(f"--objective: found {objective!r}, wanted both, precision or recall")
    first = cast("Objective | None", objective)
    widths = sorted(set(within), reverse=True)
    if traffic is not None:
        assumed = Assumed(traffic, flagged, precision, recall)
        plans = [_assumed(route or "assumed", assumed, per_hour or USUAL_PER_HOUR, widths, first or "both")]
    else:
        plans = _seen(where, overrides, route, hours, per_hour, widths, first)
    if json:
        print_json({"routes": {one.route: one.as_dict() for one in plans}})
        return
    for one in plans:
        _print(one)


def _assumed(
    route: str, assumed: Assumed, per_hour: float, within: list[float], objective: Objective
) -> Plan:
    from gateway.autopilot.plan import assumed_cells, make_plan

    came, rate = assumed_cells(assumed)
    return make_plan(route, came, per_hour, within, objective=objective, rate=rate)


def _seen(
    where: Path,
    overrides: list[str],
    route: str | None,
    hours: float,
    per_hour: float | None,
    within: list[float],
    objective: Objective | None,
) -> list[Plan]:
    import time

    from gateway.autopilot.division import labels_by_cell
    from gateway.autopilot.plan import make_plan, seen_cells
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import wrong_use
    from gateway.errors import LedgerError
    from gateway.ledger import Reader, Window
    from gateway.ledger.grid import HOUR_US
    from gateway.ledger.review_budget import BUDGET_KEY, first_hour, last_policy, stratum_labels

    reader = Reader.open(find_ledger(where, overrides)[0])
    now_us = time.time_ns() // 1000
    since_us = now_us - round(hours * HOUR_US)
    try:
        population = reader.population(Window(since_us))
        labels, policy = stratum_labels(reader), last_policy(reader)
        first = first_hour(reader, Window(since_us))
    finally:
        reader.close()
    documents = {one["name"]: one for one in policy.get("routes", [])}
    budgets = policy.get(BUDGET_KEY) or {}
    names = sorted({str(name) for name in population.route} - {""})
    if route is not None and route not in names:
        raise wrong_use(
            f"--route: found {route!r}, wanted one with predictions ({', '.join(names) or 'none yet'})"
        )
    if not names:
        raise LedgerError(
            f"no prediction in the last {hours:g} h, so there is no traffic to plan with; "
            "give --hours, or --traffic N to assume some"
        )
    # The hour that has begun counts only as far as it has gone.
    span_h = min(hours, max((now_us - first * HOUR_US) / HOUR_US, 0.1)) if first is not None else hours
    plans = []
    for name in [route] if route else names:
        known, positive = labels_by_cell(labels, name)
        wanted = per_hour or float((budgets.get(name) or {}).get("per_hour") or USUAL_PER_HOUR)
        came = seen_cells(population, name, span_h, documents.get(name))
        aim = objective or (budgets.get(name) or {}).get("objective")
        plans.append(
            make_plan(
                name,
                came,
                wanted,
                within,
                objective=aim if aim in OBJECTIVES else "both",
                labels=known,
                positive=positive,
            )
        )
    return plans


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, markup=False, emoji=False)
    out.width = min(out.width, 100)
    first = {"both": "precision and recall", "precision": "precision first", "recall": "recall first"}
    out.print(
        f"{made.route}: {made.per_hour:g} reviews an hour of {made.predictions_per_hour:,.0f} predictions; "
        f"{first[made.objective]}"
    )
    if made.objective != "both":
        out.print(f"  As with objective: {{prioritise: {made.objective}}} in the route.", style="yellow")
    if made.reviews_per_hour < 0.9 * made.per_hour:
        out.print(
            f"  Only {made.reviews_per_hour:,.1f} an hour can be made: all that may be reviewed is.",
            style="yellow",
        )
    table = Table(box=None, padding=(0, 2), pad_edge=True, header_style="dim")
    table.add_column("stratum")
    for name in ("an hour", "share", "reviews an hour", "positive", "labels"):
        table.add_column(name, justify="right")
    for one in made.strata:
        table.add_row(
            one.stratum,
            f"{one.predictions_per_hour:,.1f}",
            f"{one.share:.3g}",
            f"{one.reviews_per_hour:,.1f}",
            f"{one.positive_share:.2%}",
            f"{one.labels:,}",
        )
    out.print(table)
    for when in made.milestones:
        if when.hours is None or when.reviews is None:
            out.print(
                f"  {when.metric:<9} to within {when.within:g}: not in five years at this rate",
                style="yellow",
            )
        else:
            out.print(
                f"  {when.metric:<9} to within {when.within:g}: about {when.reviews:,} reviews, {_span(when.hours)}"
            )
    if made.guessed:
        out.print(
            "  No label yet: the shares of positives are guesses, and so is all of this.", style="yellow"
        )
    out.print()


def _span(hours: float) -> str:
    if hours < 48:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days"
