"""docs/review-budget.md shows what the commands say, and settings that are good."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from tests.wire.gateway_process import run_gateway

PAGE = (Path(__file__).parents[2] / "docs" / "review-budget.md").read_text("utf-8")


def test_the_settings_are_good() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = read_text(text, env={})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []


def test_the_plan_is_what_the_command_prints() -> None:
    """Seeded, so that the very lines come."""
    [shown] = re.findall(r"```\n\$ gateway (plan .*?)\n(.*?)```", PAGE, re.DOTALL)
    result = run_gateway(*shown[0].split())
    assert result.returncode == 0, result.stderr
    printed = [line.rstrip() for line in result.stdout.rstrip().splitlines()]
    assert printed == shown[1].rstrip().splitlines()
