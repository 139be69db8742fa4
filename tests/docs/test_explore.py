"""docs/explore.md shows settings that are good, and begins where it says that it does."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text

PAGE = (Path(__file__).parents[2] / "docs" / "explore.md").read_text("utf-8")


def test_the_settings_are_good_and_begin_within_the_cap() -> None:
    """What is shown is taken as it stands, without a warning."""
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = read_text(text, env={})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []
    assert loaded.settings is not None
    explore = loaded.settings.routes["spam"].explore
    assert explore is not None
    assert explore.start("spam-v3") == {"spam-v3": 0.8, "spam-v4": 0.2}
