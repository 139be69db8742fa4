"""`gateway report`: what each route did, how right it was, and how sure that is; reads beside a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

if TYPE_CHECKING:
    from gateway.autopilot.story import Story
    from gateway.ledger.report import Report

__all__ = ["report"]

WEEK_H = 168.0


def report(
    where: WhereArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="One route only.")] = None,
    hours: Annotated[
        float,
        typer.Option("--hours", metavar="H", help="How far to look back, in hours; 0 looks at everything."),
    ] = WEEK_H,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page instead: one file, with plots, without scripts."
        ),
    ] = None,
) -> None:
    """Show calls by outcome and reason, the time added, precision and recall, drift, feedback, lift, gates and acts.

    Precision and recall are weighted estimates from reviewed predictions, with 95 % intervals; where there is
    no number, the reason stands in its place.
    """
    import time

    from gateway.cli.printing import print_json, wrong_use

    if not 0 <= hours < 1e6:
        raise wrong_use(f"--hours: found {hours:g}, wanted a number of hours, such as 24")
    now_us = time.time_ns() // 1000
    since_us = now_us - round(hours * 3.6e9) if hours else None
    if json and html is not None:
        raise wrong_use("--html: found --json beside it, wanted one of them")
    made, stories = _read(where, overrides, route, since_us, now_us)
    if json:
        from gateway.autopilot.story import as_json

        print_json(as_json(made, stories))
        return
    if html is not None:
        from gateway.cli.report_html import render_html

        text = render_html(made, stories, now_us)
        try:
            html.write_text(text, "utf-8")
        except OSError as error:
            raise wrong_use(f"--html: {html} cannot be written: {error.strerror}") from error
        return
    from rich.console import Console

    from gateway.cli.report_text import render

    # Wide terminals do not make sentences easier to read.
    out = Console(highlight=False, markup=False, emoji=False)
    out.width = min(out.width, 100)
    render(out, made, now_us, stories)


def _read(
    where: Path, overrides: list[str], route: str | None, since_us: int | None, now_us: int
) -> tuple[Report, dict[str, Story]]:
    from gateway.autopilot.story import stories
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import wrong_use
    from gateway.ledger import Reader, Window
    from gateway.ledger.report import make_report

    url, settings = find_ledger(where, overrides)
    known = () if settings is None else tuple(settings.routes)
    reader = Reader.open(url)
    try:
        if route is not None and route not in known and route not in (seen := reader.routes()):
            names = ", ".join(sorted({*known, *seen})) or "none yet"
            raise wrong_use(f"--route: found {route!r}, wanted one of the routes ({names})")
        window = Window(since_us, None, route)
        made = make_report(reader, window, known, now_us=now_us)
        return made, stories(reader, window, made, now_us, settings)
    finally:
        reader.close()
