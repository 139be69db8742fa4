"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
SETTINGS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_of_the_readme_are_good(text: str, tmp_path: Path) -> None:
    """A reader who copies the example gets a gateway."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    result = gateway("check", str(file), "--offline")
    assert result.returncode == 0, result.stdout + result.stderr


def test_explained_call_of_the_readme_falls_back(tmp_path: Path) -> None:
    """A score of 0.6 is under the example's floor of 0.8, so the static answer is given."""
    file = tmp_path / "gateway.yaml"
    file.write_text(SETTINGS[0])
    result = gateway("explain", str(file), "--model", "spam", "--score", "0.6")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "low_confidence" in result.stdout
    assert "static" in result.stdout


def test_files_that_the_readme_links_exist() -> None:
    """No dead link inside the repository."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_make_targets_of_the_readme_exist() -> None:
    """Every `make x` that is named can be typed."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)
    assert named
    assert set(named) <= targets
