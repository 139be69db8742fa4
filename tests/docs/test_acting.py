"""docs/acting.md shows settings that are good, and commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from gateway.config.gates import ACTS
from tests.config.examples import TEN_LINES
from tests.wire.gateway_process import run_gateway

PAGE = (Path(__file__).parents[2] / "docs" / "acting.md").read_text("utf-8")


def faults(text: str, folder: Path) -> list[str]:
    return [str(fault) for fault in read_text(text, name="g.yaml", folder=folder, env={}).faults]


def test_the_settings_are_good(tmp_path: Path) -> None:
    """With the rest of a file around them."""
    first, second = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "key").write_text("k" * 32)
    alerts, _, route = first.replace("/run/keys/alerts", "key").partition("routes:\n")
    gates = route.partition("    gates:\n")[2]
    text = f"{TEN_LINES}    review: {{per_hour: 60}}\n    gates:\n{gates}{second}{alerts}"
    assert faults(text, tmp_path) == []


def test_every_act_is_explained() -> None:
    assert {act for act in ACTS if f"| `{act}` |" not in PAGE} == set()


def test_the_commands_are_there() -> None:
    commands = re.findall(r"^gateway acts (\w+)", PAGE, re.MULTILINE)
    assert set(commands) == {"list", "approve", "refuse", "undo"}
    for command in commands:
        assert run_gateway("acts", command, "--help").returncode == 0
