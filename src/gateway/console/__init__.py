"""Pages: what people look at in a browser.

In: plain numbers and sentences. Out: HTML and inline SVG, one file that needs no other. Never: a script, a style or an
image from elsewhere, text that was not escaped, a number of its own making.

    page        a whole page with a policy that forbids whatever is not in it
    plots       lines with bands, dots with intervals, stacked days
    axes        where numbers lie on paper
"""

from gateway.console.page import Html, escape, figure, page, table
from gateway.console.plots import Band, Dot, Point, Stack, dots, line, stacked

__all__ = [
    "Band",
    "Dot",
    "Html",
    "Point",
    "Stack",
    "dots",
    "escape",
    "figure",
    "line",
    "page",
    "stacked",
    "table",
]
