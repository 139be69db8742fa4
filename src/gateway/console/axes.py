"""Where numbers lie on paper: a frame, its scales, and ticks that people would choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

__all__ = ["Frame", "percent", "plain", "ticks"]


def percent(value: float) -> str:
    """A share as people say it."""
    return f"{100 * value:.3g} %"


def plain(value: float) -> str:
    """A number in few digits, with thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span a range; at least two."""
    if not (isfinite(low) and isfinite(high)) or high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = (low if isfinite(low) else 0.0), (low if isfinite(low) else 0.0) + 1.0
    raw = (high - low) / max(about, 1)
    size = 10.0 ** floor(log10(raw))
    step = next(one * size for one in (1.0, 2.0, 2.5, 5.0, 10.0) if one * size >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot's area: what lies at its edges, in numbers, and where these are, in pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int = 440
    height: int = 260
    left: int = 58
    right: int = 22
    top: int = 12
    bottom: int = 44

    def x(self, value: float) -> float:
        part = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return round(self.left + min(max(part, 0.0), 1.0) * (self.width - self.left - self.right), 1)

    def y(self, value: float) -> float:
        part = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return round(
            self.height - self.bottom - min(max(part, 0.0), 1.0) * (self.height - self.top - self.bottom), 1
        )

    def svg(self, title: str, parts: Sequence[str]) -> str:
        """The whole drawing; `title` is what a screen reader says of it."""
        body = "".join(parts)
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(title, quote=True)}">'
            f"<title>{escape(title)}</title>{body}</svg>"
        )

    def grid(
        self,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[float],
        x_name: str,
        y_name: str,
        y_words: Callable[[float], str],
    ) -> list[str]:
        """Lines, numbers and names of both axes."""
        bottom, parts = self.height - self.bottom, []
        for value in y_ticks:
            at = self.y(value)
            parts.append(
                f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" y1="{at}" y2="{at}"/>'
            )
            parts.append(f'<text class="tick" x="{self.left - 6}" y="{at + 3.5:.1f}" text-anchor="end">')
            parts.append(f"{escape(y_words(value))}</text>")
        for value, words in x_ticks:
            at = self.x(value)
            parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 4}"/>')
            parts.append(
                f'<text class="tick" x="{at}" y="{bottom + 16}" text-anchor="middle">{escape(words)}</text>'
            )
        middle = (self.left + self.width - self.right) / 2
        parts.append(f'<text class="axis" x="{middle}" y="{self.height - 6}" text-anchor="middle">')
        parts.append(f"{escape(x_name)}</text>")
        across = (self.top + bottom) / 2
        parts.append(
            f'<text class="axis" transform="translate(13 {across}) rotate(-90)" text-anchor="middle">'
        )
        parts.append(f"{escape(y_name)}</text>")
        return parts
