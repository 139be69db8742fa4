"""docs/drift.md shows settings that are good and the defaults as they are; docs/report.md shows commands that exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from gateway.cli.report import report
from gateway.config import read_text
from gateway.config.drift import Drift

DOCS = Path(__file__).parents[2] / "docs"


def test_the_settings_are_good_and_what_stands_there_is_the_default() -> None:
    """As the page says."""
    [text] = re.findall(r"```yaml\n(.*?)```", (DOCS / "drift.md").read_text("utf-8"), re.DOTALL)
    loaded = read_text(text, env={})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.settings is not None
    assert loaded.settings.routes["spam"].drift == Drift()


def test_every_test_that_is_named_is_there() -> None:
    """A figure without its test is a claim."""
    names = set(re.findall(r"`(test_\w+\.py)`", (DOCS / "drift.md").read_text("utf-8")))
    assert names == {"test_delay.py", "test_drift.py", "test_starvation.py", "test_lift.py"}
    assert all((DOCS.parent / "tests" / "quality" / name).exists() for name in names)


def test_the_options_are_those_of_the_command() -> None:
    """And the files that are linked are there."""
    page = (DOCS / "report.md").read_text("utf-8")
    options = {f"--{name}" for name in inspect.signature(report).parameters}
    shown = {
        option
        for command in re.findall(r"gateway report (.*)", page)
        for option in re.findall(r"--\w+", command)
    }
    assert shown == {"--hours", "--html", "--route", "--json"}
    assert shown <= options
    assert all((DOCS / name).exists() for name in re.findall(r"\]\((\w[\w-]*\.md)\)", page))
