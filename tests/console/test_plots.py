"""Pages: nothing from elsewhere, nothing unescaped, and numbers where they belong."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console import Band, Dot, Point, Stack, dots, figure, line, page, stacked, table
from gateway.console.axes import Frame, ticks

EVIL = "<script>alert(1)</script>\"' onload=x &"


def parsed(svg: str) -> ElementTree.Element:
    """The drawing, which must be well-formed."""
    return ElementTree.fromstring(svg)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_are_round_and_span_what_is_drawn(low: float, size: float) -> None:
    """At least two, never hundreds."""
    found = ticks(low, low + size)
    assert 2 <= len(found) <= 13
    assert found[0] <= low + 1e-6 * max(1.0, abs(low), size)
    assert found[-1] >= low + size - 1e-6 * max(1.0, abs(low), size)
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_ticks_of_what_is_no_range_are_some_range() -> None:
    """One value, NaN, infinity."""
    assert len(ticks(3, 3)) >= 2
    assert len(ticks(float("nan"), 1)) >= 2
    assert len(ticks(0, float("inf"))) >= 2


def test_values_lie_inside_the_frame() -> None:
    """What is beyond is drawn at its edge."""
    frame = Frame(0, 10, 0, 1)
    assert frame.x(0) == frame.left
    assert frame.x(10) == frame.width - frame.right
    assert frame.x(99) == frame.x(10)
    assert frame.y(0) == frame.height - frame.bottom
    assert frame.y(2) == frame.top
    assert Frame(5, 5, 1, 1).x(5) == frame.left


def test_a_line_shows_its_points_its_band_and_what_matters() -> None:
    """A missing point is left out, not drawn at nought."""
    points = (Point(0, 0.5, 0.4, 0.6), Point(1, None), Point(2, 0.7, 0.6, 0.9, "here"))
    drawn = parsed(
        line("quality", [Band("precision", points)], "x", "y", mark_y=(0.8, "wanted"), mark_x=(1, "now"))
    )
    texts = ["".join(one.itertext()) for one in drawn.iter() if one.tag in ("text", "title")]
    assert len(list(drawn.iter("circle"))) == 2
    assert len(list(drawn.iter("polygon"))) == 1
    assert {"quality", "here", "wanted", "now", "x", "y"} <= set(texts)
    assert line("none", [Band("nothing", (Point(0, None),))], "x", "y") == ""


def test_several_lines_have_their_names() -> None:
    """And a dashed one has no points."""
    came, wanted = Band("came", (Point(0, 1.0), Point(1, 2.0))), Band("expected", (Point(0, 1.0),), "dashed")
    drawn = parsed(line("flow", [came, wanted], "day", "labels", diagonal=True))
    assert len(list(drawn.iter("circle"))) == 2
    assert {"came", "expected"} <= {one.text for one in drawn.iter("text")}


def test_rows_without_a_number_say_why() -> None:
    """And have neither dot nor interval."""
    rows = [
        Dot("device=phone", 0.8, 0.7, 0.9, "80 %"),
        Dot("device=desk", None, None, None, "unknown: 3 labels"),
    ]
    drawn = parsed(dots("precision", rows, wanted=0.9))
    assert len(list(drawn.iter("circle"))) == 1
    assert "unknown: 3 labels" in {one.text for one in drawn.iter("text")}
    assert dots("none", []) == ""


def test_days_are_stacked_to_their_sum() -> None:
    """Each part is as high as its count."""
    drawn = parsed(
        stacked("calls", [Stack("01-01", {"a": 30, "b": 70}), Stack("01-02", {"a": 50})], ["a", "b"], "calls")
    )
    heights = [float(one.attrib["height"]) for one in drawn.iter("rect")]
    assert heights[1] / heights[0] == pytest.approx(7 / 3, rel=0.02)
    assert heights[2] / heights[0] == pytest.approx(5 / 3, rel=0.02)
    assert stacked("none", [], ["a"], "calls") == ""


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    """By its policy, and because there is nothing in it; the style is allowed by its hash."""
    text = page("title", ["<p>body</p>"])
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    for what in ("<script", "<link", "<img", "http://", "https://", "url(", "@import", " style="):
        assert what not in text


def test_whatever_people_named_is_escaped() -> None:
    """Segments, sources and reasons are chosen by others."""
    made = page(
        EVIL,
        [
            table([EVIL], [[EVIL]]),
            figure(line(EVIL, [Band(EVIL, (Point(0, 1.0, hint=EVIL),)), Band("b", ())], EVIL, EVIL), EVIL),
            dots(EVIL, [Dot(EVIL, 0.5, 0.4, 0.6, EVIL)]),
            stacked(EVIL, [Stack(EVIL, {EVIL: 1.0})], [EVIL], EVIL),
        ],
    )
    assert "<script" not in made
    assert "onload=x &amp;" in made
    assert "\"'" not in re.sub(r"<style>.*?</style>", "", made, flags=re.DOTALL)


def test_an_empty_table_is_none() -> None:
    """No head over nothing."""
    assert table(["a"], []) == ""
    assert figure("", "caption") == ""
