"""Gates, acts and slices, as the terminal shows them in a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.ledger.breakdown import Slice
from gateway.ledger.standing import RouteStanding
from gateway.quality import Estimate

__all__ = ["render_slices", "render_standing"]

STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}

LAST = 14
"""Slices of a kind that are shown, the last of them; `--json` has more."""


def render_slices(
    out: Console, slices: Mapping[str, tuple[Slice, ...]], heading: Callable[[Console, str], None]
) -> None:
    """One table a kind, with a number wherever there is one."""
    for kind, of_kind in slices.items():
        heading(out, f"By {kind.removeprefix('segment ')}")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        for _ in range(3):
            grid.add_column(justify="right", no_wrap=True)
        grid.add_row(*(Text(word, "dim") for word in ("", "predictions", "precision", "recall")))
        for one in of_kind[-LAST:]:
            name = one.name.partition("=")[2] or one.name
            grid.add_row(name, f"{one.predictions:,}", _rate(one.precision), _rate(one.recall))
        out.print(Padding(grid, (0, 0, 0, 2), expand=False))
        reasons = {one.recall.reason for one in of_kind if one.recall.reason}
        if len(reasons) == 1:
            words = f"Where there is no number: {reasons.pop()}."
            out.print(Padding(Text(words, "dim"), (0, 0, 0, 2), expand=False))


def _rate(estimate: Estimate) -> Text:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return Text("-", "yellow")
    value, low, high = (f"{100 * rate:.0f}" for rate in (estimate.value, estimate.low, estimate.high))
    return Text.assemble((f"{value} %", "bold"), (f" ({low} to {high})", "dim"))


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
