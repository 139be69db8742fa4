"""docs/gates.md shows settings that are good, and gives every preset its reason."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from gateway.config.objective import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text("utf-8")


def test_the_settings_are_good() -> None:
    """What is shown is taken as it stands, without a warning."""
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = read_text(text, env={})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []


def test_every_preset_has_its_side_and_its_reason() -> None:
    """The table says what the code does."""
    rows = re.findall(r"^\| `(\w+)` \| (precision|recall) \| (.{40,}) \|$", PAGE, re.MULTILINE)
    assert {name: first for name, first, _ in rows} == dict(PRESETS)
