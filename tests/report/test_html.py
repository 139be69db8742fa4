"""`gateway report --html`: one page that tells everything, and lets nothing in."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from gateway.cli.report import report as command
from tests.report.conftest import Told
from tests.report.test_command import printed, settings_file

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags in their order, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("style", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(told: Told, where: Path, **options: object) -> Page:
    file = told.folder.parent / "report.html"
    arguments: dict[str, object] = {"overrides": [], "json": False, "route": None, "hours": 0.0, "html": file}
    command(where, **{**arguments, **options})  # type: ignore[arg-type]
    found = Page()
    found.feed(file.read_text("utf-8"))
    found.close()
    assert found.open == []
    return found


def test_the_page_tells_what_the_terminal_tells(told: Told) -> None:
    """Well-formed, with plots, each number in a sentence."""
    found = page(told, told.folder)
    words = " ".join(found.text.split())
    for sentence in (
        "3,000",
        "flagged predictions, about",
        "positives, about",
        "Precision against recall, were the threshold another",
        "Whether a score of 0.8 is right in 8 of 10",
        "15 wait, the oldest for",
        "An early warning, not a measurement",
        "Shadow spam-v4",
        "What the model is worth",
        "200 of 3,000 calls (6.67 %) were kept from the model",
    ):
        assert sentence in words, sentence
    assert found.seen.count("svg") >= 2
    assert "script" not in found.seen
    assert "nan" not in words.lower().split()


def test_a_route_without_calls_is_said_to_have_none(told: Told) -> None:
    """And has a place of its own."""
    found = page(told, settings_file(told))
    assert "No call in this window." in found.text
    assert found.seen.count("h2") == 2


def test_json_has_the_story_too(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read what people see."""
    spam = json.loads(printed(capsys, told.folder, json=True))["routes"]["spam"]
    assert {
        "slices",
        "by_threshold",
        "calibration",
        "value",
        "drift",
        "flow",
        "maturity",
        "holdout",
        "advice",
    } <= set(spam)
    assert len(spam["by_threshold"]) == 19
    assert spam["holdout"]["held_out"] == 200
    assert spam["drift"] == []
    assert spam["calibration"]["reliability"]
    shares = [one["flagged"] for one in spam["by_threshold"]]
    assert shares == sorted(shares, reverse=True)
    precision = [one["precision"]["value"] for one in spam["by_threshold"] if one["threshold"] == 0.5]
    assert precision[0] == pytest.approx(spam["precision"]["value"], abs=0.02)


def test_a_place_that_cannot_be_written_is_wrong_use(told: Told, tmp_path: Path) -> None:
    """So is a page and JSON at once."""
    with pytest.raises(typer.BadParameter, match="cannot be written"):
        page(told, told.folder, html=tmp_path / "absent" / "report.html")
    with pytest.raises(typer.BadParameter, match="--json"):
        page(told, told.folder, json=True)
