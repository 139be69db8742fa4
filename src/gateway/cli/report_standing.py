"""Gates and acts, as the terminal shows them in a report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.ledger.standing import RouteStanding

__all__ = ["render_standing"]

STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def render_standing(out: Console, standing: RouteStanding, heading: Callable[[Console, str], None]) -> None:
    """Nothing, where the route has neither."""
    if standing.gates:
        heading(out, "Gates")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column()
        for one in standing.gates:
            name = one.gate + (f" {one.segment}" if one.segment else "")
            grid.add_row(name, Text(one.verdict, STYLES.get(one.verdict, "")), Text(one.words, "dim"))
        out.print(Padding(grid, (0, 0, 0, 2), expand=False))
    if standing.acts:
        heading(out, "What was done")
        for act in standing.acts:
            at = datetime.fromtimestamp(act.time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
            line = Text.assemble((f"{at}  ", "dim"), (f"{act.act} {act.state}", "bold"), f" by {act.actor}: ")
            line.append(act.words)
            out.print(Padding(line, (0, 0, 0, 2), expand=False))
