"""`gateway gates`: what every gate says now, with the number it is said from; reads beside a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.ledger import Reader
    from gateway.ledger.verdicts import Verdict

__all__ = ["gates", "verdict_as_dict"]

STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def gates(
    where: WhereArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="One route only.")] = None,
    history: Annotated[
        float | None,
        typer.Option("--history", metavar="H", help="What was said in the last so many hours, oldest first."),
    ] = None,
) -> None:
    """Show each gate's verdict: pass, fail or inconclusive, with its number, interval and rule in words.

    With a settings file its gates are judged now, and nothing is kept or done. With the folder of a state, or with
    --history, it is what the running gateway said. Exit 1 when a gate fails.
    """
    import time

    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import FOUND, print_json, wrong_use
    from gateway.ledger import Reader

    if history is not None and not 0 < history < 1e6:
        raise wrong_use(f"--history: found {history:g}, wanted a number of hours, such as 24")
    url, settings = find_ledger(where, overrides)
    if settings is not None and route is not None and route not in settings.routes:
        names = ", ".join(settings.routes) or "none"
        raise wrong_use(f"--route: found {route!r}, wanted one of the routes ({names})")
    now_us = time.time_ns() // 1000
    reader = Reader.open(url)
    try:
        if history is not None:
            said = _said(reader, route, now_us - round(history * 3.6e9))
        elif settings is None:
            said = _latest(reader, route)
        else:
            said = _judged(reader, settings, route, now_us)
    finally:
        reader.close()
    if json:
        print_json({"gates": [verdict_as_dict(one) for one in said]})
    else:
        _print(said, settings, history is not None)
    if history is None and any(one.verdict == "fail" for one in said):
        raise typer.Exit(FOUND)


def verdict_as_dict(one: Verdict) -> dict[str, Any]:
    """A verdict as `--json` prints it; numbers that cannot be had are null, and `words` says why."""
    from dataclasses import asdict

    return {**asdict(one), "time": _time(one.time_us), "segment": one.segment or None}


def _judged(reader: Reader, settings: Settings, route: str | None, now_us: int) -> list[Verdict]:
    from gateway.autopilot.gates import GateWatch

    judged = GateWatch(None, reader).evaluate(settings, 0, now_us)
    return [one.verdict for one in judged if route in (None, one.verdict.route)]


def _latest(reader: Reader, route: str | None) -> list[Verdict]:
    from functools import partial

    from gateway.ledger import verdicts

    return reader.snapshot(partial(verdicts.latest, route=route))


def _said(reader: Reader, route: str | None, since_us: int) -> list[Verdict]:
    from functools import partial

    from gateway.ledger import verdicts

    return reader.snapshot(partial(verdicts.history, route=route, since_us=since_us))


def _print(said: list[Verdict], settings: Settings | None, times: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.printing import console, plain_text

    out = console()
    if not said:
        written = settings is not None and any(one.watched for one in settings.routes.values())
        out.print("no verdict yet" if written or settings is None else "no route has gates, or an objective")
        return
    if not out.is_terminal:
        out.width = 240  # a sentence stays a line, for who looks for a word in it
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in (["time"] if times else []) + ["route", "gate", "segment", "verdict"]:
        table.add_column(name, no_wrap=True)
    table.add_column("because")
    for one in said:
        table.add_row(
            *([_time(one.time_us)] if times else []),
            one.route,
            one.gate,
            plain_text(one.segment),
            Text(one.verdict, STYLES.get(one.verdict, "")),
            one.words,
        )
    out.print(table)


def _time(time_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
