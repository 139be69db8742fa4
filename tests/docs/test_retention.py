"""docs/retention.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML

from gateway.config.retention import Retention
from gateway.ledger import retention

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "retention.md").read_text()


def test_the_settings_that_are_shown_are_the_defaults() -> None:
    """Who copies them changes nothing."""
    [shown] = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    written = YAML(typ="safe").load(shown)["retention"]
    assert written == Retention().model_dump()


def test_the_bounds_of_a_step_are_the_codes() -> None:
    """The page promises how long nobody waits."""
    assert f"{retention.STEP_ROWS:,} rows or {retention.STEP_BYTES // 2**20} MB" in PAGE
    assert f"{retention.ROOM:.0%}".replace("%", " %") in PAGE


def test_every_action_that_is_noted_is_listed() -> None:
    """People search the trail by these words."""
    sources = "\n".join(path.read_text() for path in (ROOT / "src" / "gateway").rglob("*.py"))
    noted = set(re.findall(r'\baction="([a-z]+\.[a-z_]+)"', sources))
    assert {"policy.keep", "unit.forget", "retention.delete"} <= noted
    assert {action for action in noted if f"| `{action}` |" not in PAGE} == set()
