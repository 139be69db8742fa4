"""Few kinds of plots, each with its uncertainty in it. matplotlib would be 50 MB and a second for the same lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from gateway.console.axes import Frame, percent, plain, ticks

__all__ = ["Band", "Dot", "Point", "Stack", "dots", "line", "stacked"]

ROW: Final = 26
WIDE: Final = 920


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a line, with its interval; `None` leaves a gap. `hint`: what is said when the mouse is on it."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """A line with its name; `kind`: line (with a band), points (with whiskers), or dashed (without either)."""

    name: str
    points: tuple[Point, ...]
    kind: str = "line"


@dataclass(frozen=True, slots=True)
class Dot:
    """A row of an interval plot; no number where `value` is None, and `words` say why."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Stack:
    """One day's parts by name, from below."""

    words: str
    parts: Mapping[str, float]


def line(
    title: str,
    bands: Sequence[Band],
    x_name: str,
    y_name: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_words: Callable[[float], str] = plain,
    y_words: Callable[[float], str] = plain,
    x_ticks: Sequence[float] | None = None,
    mark_x: tuple[float, str] | None = None,
    mark_y: tuple[float, str] | None = None,
    diagonal: bool = False,
    width: int = 440,
) -> str:
    """Lines with their bands.

    Args: mark_x, mark_y: a value that matters, with its name. diagonal: where both axes are equal.
    Returns: SVG; "" where no point has a number.
    """
    every = [point for band in bands for point in band.points if point.y is not None]
    if not every:
        return ""
    values = [y for point in every for y in (point.y, point.low, point.high) if y is not None]
    values += [mark_y[0]] if mark_y else []
    xs = [point.x for point in every] + ([mark_x[0]] if mark_x else [])
    y_at = ticks(*(y_range or (min(0.0, *values), max(values))))
    x_low, x_high = x_range or (min(xs), max(xs))
    x_at = list(x_ticks) if x_ticks is not None else [x for x in ticks(x_low, x_high) if x_low <= x <= x_high]
    # Names of lines stand above the plot, where no line can cross them.
    top = 26 if len(bands) > 1 else 12
    frame = Frame(x_low, x_high, y_at[0], y_at[-1], width=width, top=top)
    parts = frame.grid([(x, x_words(x)) for x in x_at], y_at, x_name, y_name, y_words)
    if diagonal:
        parts.append(_segment(frame, (x_low, x_low), (x_high, x_high), "guide"))
    if mark_y is not None:
        parts.append(_segment(frame, (x_low, mark_y[0]), (x_high, mark_y[0]), "mark"))
        over = frame.y(mark_y[0]) - 5
        at = over if over > frame.top + 10 else over + 17
        parts.append(_note(frame.width - frame.right - 4, at, mark_y[1], "end"))
    if mark_x is not None:
        parts.append(_segment(frame, (mark_x[0], y_at[0]), (mark_x[0], y_at[-1]), "mark"))
        right = frame.x(mark_x[0]) > 0.6 * frame.width
        at = frame.x(mark_x[0]) + (-5 if right else 5)
        parts.append(_note(at, frame.top + 10, mark_x[1], "end" if right else "start"))
    for number, band in enumerate(bands):
        parts += _band(frame, band, number)
    if len(bands) > 1:
        parts += _legend(frame, [band.name for band in bands])
    return frame.svg(title, parts)


def dots(
    title: str, rows: Sequence[Dot], *, low: float = 0.0, high: float = 1.0, wanted: float | None = None
) -> str:
    """One row each, with its interval as a line; `wanted` is drawn through all of them."""
    if not rows:
        return ""
    height = ROW * len(rows) + 56
    frame = Frame(low, high, 0, 1, width=WIDE, height=height, left=190, right=270, top=8, bottom=44)
    bottom, parts = height - frame.bottom, []
    for value in ticks(low, high):
        at = frame.x(value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{frame.top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{at}" y="{bottom + 16}" text-anchor="middle">{percent(value)}</text>'
        )
    if wanted is not None:
        at = frame.x(wanted)
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{frame.top}" y2="{bottom}"/>')
        parts.append(_note(at, bottom + 30, f"wanted {percent(wanted)}", "middle"))
    for number, row in enumerate(rows):
        y = frame.top + ROW * (number + 0.5)
        parts.append(
            f'<text class="name" x="{frame.left - 10}" y="{y + 4}" text-anchor="end">{_short(row.name)}</text>'
        )
        parts.append(
            f'<text class="value" x="{WIDE - frame.right + 12}" y="{y + 4}">{escape(row.words)}</text>'
        )
        if row.value is not None and row.low is not None and row.high is not None:
            ends = frame.x(row.low), frame.x(row.high)
            parts.append(f'<line class="whisker s0" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>')
            parts.append(f'<circle class="dot s0" cx="{frame.x(row.value)}" cy="{y}" r="4.5"/>')
    return frame.svg(title, parts)


def stacked(title: str, days: Sequence[Stack], names: Sequence[str], y_name: str) -> str:
    """A column each, of parts in the order of `names`; at most a quarter's days."""
    top = max((sum(day.parts.values()) for day in days), default=0.0)
    if top <= 0:
        return ""
    y_at = ticks(0, top)
    frame = Frame(0, len(days), 0, y_at[-1], width=WIDE, height=250)
    every = max(1, -(-len(days) // 9))
    labelled = [(at + 0.5, day.words) for at, day in enumerate(days) if at % every == 0]
    parts = frame.grid(labelled, y_at, "day (UTC)", y_name, plain)
    for at, day in enumerate(days):
        below = 0.0
        left, right = frame.x(at + 0.1), frame.x(at + 0.9)
        for number, name in enumerate(names):
            count = day.parts.get(name, 0.0)
            if count > 0:
                high, low = frame.y(below + count), frame.y(below)
                parts.append(
                    f'<rect class="fill o{number}" x="{left}" width="{max(right - left, 0.5):.1f}" y="{high}" '
                    f'height="{max(low - high, 0.5):.1f}"><title>{escape(day.words)}: {plain(count)} {escape(name)}'
                    "</title></rect>"
                )
                below += count
    return frame.svg(title, parts)


def _band(frame: Frame, band: Band, number: int) -> list[str]:
    style, parts = f"s{number % 4}", []
    known = [point for point in band.points if point.y is not None]
    sure = [point for point in known if point.low is not None and point.high is not None]
    if band.kind == "line" and len(sure) > 1:
        up = [f"{frame.x(point.x)},{frame.y(point.high or 0.0)}" for point in sure]
        down = [f"{frame.x(point.x)},{frame.y(point.low or 0.0)}" for point in reversed(sure)]
        parts.append(f'<polygon class="band {style}" points="{" ".join(up + down)}"/>')
    if band.kind == "points":
        for point in sure:
            x, low, high = frame.x(point.x), frame.y(point.low or 0.0), frame.y(point.high or 0.0)
            parts.append(f'<line class="whisker {style}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
    places = " ".join(f"{frame.x(point.x)},{frame.y(point.y or 0.0)}" for point in known)
    kind = "dashed" if band.kind == "dashed" else "line"
    parts.append(f'<polyline class="{kind} {style}" points="{places}"/>')
    if band.kind != "dashed":
        radius = 3.5 if band.kind == "points" or len(known) <= 40 else 2
        for point in known:
            hint = f"<title>{escape(point.hint)}</title>" if point.hint else ""
            x, y = frame.x(point.x), frame.y(point.y or 0.0)
            parts.append(f'<circle class="dot {style}" cx="{x}" cy="{y}" r="{radius}">{hint}</circle>')
    return parts


def _legend(frame: Frame, names: Sequence[str]) -> list[str]:
    parts, at, y = [], float(frame.left), 10
    for number, name in enumerate(names):
        parts.append(f'<line class="line s{number % 4}" x1="{at}" x2="{at + 16}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{at + 20}" y="{y + 3.5}">{escape(name)}</text>')
        at += 34 + 6.2 * len(name)
    return parts


def _segment(frame: Frame, start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    ends = f'x1="{frame.x(start[0])}" y1="{frame.y(start[1])}" x2="{frame.x(end[0])}" y2="{frame.y(end[1])}"'
    return f'<line class="{style}" {ends}/>'


def _note(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="note" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _short(name: str) -> str:
    return escape(name if len(name) <= 26 else f"{name[:25]}\N{HORIZONTAL ELLIPSIS}")
