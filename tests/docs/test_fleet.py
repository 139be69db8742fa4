"""What docs/fleet.md shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.cli.sidecar import _parser
from gateway.config import read_text
from gateway.config.fleet import fleet_faults
from gateway.fleet.outbox import MOST_AGE_S, Limits

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()


def test_the_settings_of_the_page_are_those_of_a_fleet(tmp_path: Path) -> None:
    """Who copies them gets a fleet."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "keys").mkdir()
    for name in ("salt", "receipt", "sidecar", "anna"):
        (tmp_path / "keys" / name).write_text(f"a {name} of some length")
    loaded = read_text(block, folder=tmp_path, env={})
    assert [str(fault) for fault in loaded.faults + fleet_faults(loaded, block)] == []


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    """Operators plan disks by them."""
    limits = Limits()
    assert f"{limits.memory_bytes // 2**20} MB, {limits.spool_after_s:g} seconds" in PAGE
    assert f"`--spool-mb`, {limits.spool_bytes // 2**20}" in PAGE
    assert f"after {MOST_AGE_S / 86_400:g} days" in PAGE
    assert _parser().parse_args(["--control", "x:1"]).spool_mb == limits.spool_bytes // 2**20
