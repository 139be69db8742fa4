"""docs/thresholds.md and docs/calibration.md: settings that are good, commands that exist, code that runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.replay import replay
from gateway.cli.threshold import threshold
from gateway.config import read_text

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text("utf-8") for name in ("thresholds", "calibration")}


def code(page: str) -> dict[str, Any]:
    [text] = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    names: dict[str, Any] = {}
    exec(text, names)
    return names


def test_the_settings_are_good() -> None:
    """What is shown is taken as it stands, without a warning."""
    [settings] = re.findall(r"```yaml\n(.*?)```", PAGES["thresholds"], re.DOTALL)
    loaded = read_text(settings, env={})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_exists(page: str) -> None:
    """Of the two commands, and of nothing else."""
    named = set(re.findall(r"(?<![-\w])--[a-z]+", PAGES[page]))
    known = {f"--{name}" for command in (threshold, replay) for name in inspect.signature(command).parameters}
    assert named
    assert named <= known | {"--json"}


def test_the_notebook_of_thresholds_runs() -> None:
    """And its choices are where the page's truth says that they must be."""
    found = code("thresholds")
    sure, most, move = found["sure"], found["most"], found["move"]
    score = found["score"]
    assert found["truth"][score >= sure.threshold].mean() >= 0.8
    assert found["truth"][score >= most.threshold].sum() >= 0.7 * found["truth"].sum()
    # Scores squared are probabilities here, so that costs of 1 and 3 are even at a score of .5.
    assert move.choice.threshold == pytest.approx(0.5, abs=0.1)
    assert found["curve"].best is not None


def test_the_notebook_of_calibration_runs() -> None:
    """The table mends what was broken on purpose."""
    found = code("calibration")
    assert found["before"].error.low > 0.05
    assert found["table"].method == "isotonic"
    assert found["table"].better
