"""`gateway gold`: tasks whose truth is known, by which reviewers are measured; works beside a running gateway."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.ledger import Ledger, Truth
    from gateway.ledger.review import GoldTask

__all__ = ["gold"]


def gold(
    where: WhereArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="One queue only.")] = None,
    agreed: Annotated[
        int,
        typer.Option(
            "--agreed",
            metavar="N",
            min=0,
            max=1000,
            help="Make gold of the last N tasks of --queue that reviewers agreed on.",
        ),
    ] = 0,
    decision: Annotated[
        str | None,
        typer.Option(
            "--decision", metavar="ID", help="Make gold of this reviewed decision; see --row, --label."
        ),
    ] = None,
    row: Annotated[int, typer.Option("--row", min=0, max=2**31 - 1, help="Of the call that it was in.")] = 0,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="LABEL", help="What is true of it; else what reviews said."),
    ] = None,
    retire: Annotated[
        int | None, typer.Option("--retire", metavar="NUMBER", help="Hand this one out no more.")
    ] = None,
    author: Annotated[str, typer.Option("--author", metavar="NAME", help="Who does it.")] = "gateway gold",
    json: JsonOption = False,
) -> None:
    """List, make or retire tasks whose truth is known.

    They are mixed into a queue by its `gold_share`, look like any other task, and never count as labels. Each reviewer
    meets each of them once, and none that they reviewed before it was gold. `gateway reviews` shows how they did.
    """
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import console, print_json, wrong_use
    from gateway.ledger import Ledger, Reader

    asked = [name for name, value in (("--agreed", agreed), ("--decision", decision)) if value]
    asked += ["--retire"] if retire is not None else []
    if len(asked) > 1:
        raise wrong_use(f"found {' and '.join(asked)}, wanted one of them at a time")
    if agreed and queue is None:
        raise wrong_use("--agreed: wanted --queue beside it")
    if label is not None and decision is None:
        raise wrong_use("--label: wanted --decision beside it")
    url, settings = find_ledger(where, overrides)
    Reader.open(url).close()  # a ledger of another version is refused, not changed
    ledger = Ledger(url)
    ledger.open()
    try:
        made: int | None = None
        if agreed and queue is not None:
            made = ledger.make_agreed_gold(queue, agreed, author).result()
        elif decision is not None:
            made = int(_make(ledger, settings, decision, row, label, author))
        elif retire is not None:
            ledger.retire_gold(retire, author).result()
        found = ledger.gold(queue)
    finally:
        ledger.close()
    if json:
        print_json({"made": made, "gold": [_as_dict(one) for one in found]})
        return
    out = console()
    if made is not None:
        out.print(
            f"{made} made." if made else "None made: there is nothing to make gold of that is not gold."
        )
    for one in found:
        retired = "" if one.retired_us is None else "  retired"
        out.print(
            f"{one.id:>6}  {one.queue}  {one.route}  {uuid.UUID(bytes=one.decision)} row {one.row}  "
            f"{_said(one.truth)}  by {one.author}{retired}"
        )
    if not found:
        out.print("There is no gold: `gateway gold --queue NAME --agreed 50` makes some.")


def _make(
    ledger: Ledger, settings: Settings | None, decision: str, row: int, label: str | None, author: str
) -> bool:
    from gateway.cli.printing import wrong_use
    from gateway.ledger import RouteClasses, truth_of

    try:
        number = uuid.UUID(decision).bytes
    except ValueError:
        raise wrong_use(f"--decision: found {decision!r}, wanted an id as in gateway-decision-id") from None
    truth = None
    if label is not None:
        if settings is None:
            raise wrong_use(
                "--label: wanted the settings file, which knows the route's classes, not a folder"
            )
        facts = ledger.find_facts([(number, row)]).get((number, row))
        if facts is not None:
            route = settings.routes.get(facts.route)
            read = None if route is None else route.prediction
            known = None if read is None else RouteClasses(tuple(read.classes or ()), read.positive)
            truth = truth_of(facts.route, known, label=label)
    return ledger.make_gold(number, row, truth, author).result()


def _said(truth: Truth) -> str:
    return truth.label if truth.label is not None else f"positive: {str(truth.positive).lower()}"


def _as_dict(one: GoldTask) -> dict[str, object]:
    return {
        "number": one.id,
        "queue": one.queue,
        "route": one.route,
        "decision": str(uuid.UUID(bytes=one.decision)),
        "row": one.row,
        "label": one.truth.label,
        "positive": one.truth.positive,
        "author": one.author,
        "retired": one.retired_us is not None,
    }
