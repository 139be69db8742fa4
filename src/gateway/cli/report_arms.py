"""Explored arms, as the terminal shows them in a report: who gets how many calls, how good each is, what is next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.ledger.standing import RouteStanding

__all__ = ["render_arms"]


def render_arms(out: Console, standing: RouteStanding, heading: Callable[[Console, str], None]) -> None:
    """Nothing, where the route explores nothing."""
    told = standing.arms_as_dict()
    if told is None:
        return
    heading(out, "Explored models")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    for _ in range(4):
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(
        *(Text(word, "dim") for word in ("", "share", "believed (95 %)", "value (SNIPS)", "rewards"))
    )
    for name, arm in told["arms"].items():
        best = name == told["winner"]
        grid.add_row(
            Text(name, "bold green" if best else ""),
            f"{100 * arm['share']:.1f} %",
            _interval(arm["mean"], arm["low"], arm["high"]),
            _value(arm["snips"]),
            f"{arm['labels']:,}",
        )
    out.print(Padding(grid, (0, 0, 0, 2), expand=False))
    lines = []
    if told["winner"] is not None:
        lines.append(f"{told['winner']} is the best: {told['decided']}.")
    lines.append(f"{_capital(told['why'])}.")
    lines += [
        f"No value of {name}: {arm['snips']['reason']}."
        for name, arm in told["arms"].items()
        if arm["snips"]["reason"]
    ]
    lines.append(
        "Believed is where the mean reward of a model lies; its value is what a call would be worth if it got them all."
    )
    for line in lines:
        style = "yellow" if line.startswith("Frozen") else "dim"
        out.print(Padding(Text(line, style), (0, 0, 0, 2), expand=False))


def _interval(value: float, low: float, high: float) -> Text:
    return Text.assemble((f"{value:.3f}", "bold"), (f" ({low:.3f} to {high:.3f})", "dim"))


def _value(estimate: Mapping[str, Any]) -> Text:
    if estimate["value"] is None:
        return Text("-", "yellow")
    return _interval(estimate["value"], estimate["low"], estimate["high"])


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
