"""What docs/testing.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_readme import ROOT, SETTINGS, gateway

PAGE = (ROOT / "docs" / "testing.md").read_text()
CASES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]


def test_cases_of_the_page_pass(tmp_path: Path) -> None:
    """With the settings of the README, as it says."""
    (tmp_path / "gateway.yaml").write_text(SETTINGS[0])
    (tmp_path / "cases.yaml").write_text(CASES)
    result = gateway("test", str(tmp_path / "gateway.yaml"), str(tmp_path / "cases.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{result.stdout.strip()}\n```" in PAGE


def test_difference_of_the_page_is_what_is_said(tmp_path: Path) -> None:
    """The line that is shown comes out so."""
    before, after = tmp_path / "gateway.yaml", tmp_path / "next.yaml"
    before.write_text(SETTINGS[0])
    after.write_text(SETTINGS[0].replace("floor: 0.8", "floor: 0.85"))
    result = gateway("diff", str(before), str(after))
    assert result.returncode == 1
    assert f"$ gateway diff gateway.yaml next.yaml\n{result.stdout}" in PAGE


def test_every_key_of_a_case_is_in_the_table() -> None:
    """What can be expected must be findable."""
    from gateway.config.cases import Case, Expect, Given, Said, ThoughtCall

    for block in (Case, Expect, Given, Said, ThoughtCall):
        for name in block.model_fields:
            assert f"`{name}`" in PAGE or f"{name}:" in PAGE, name
