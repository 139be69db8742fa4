"""What docs/python-rules.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_readme import ROOT, gateway

PAGE = (ROOT / "docs" / "python-rules.md").read_text()
[SETTINGS] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
[MODULE] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMAND = re.findall(r"^\$ gateway explain gateway.yaml (.*)$", PAGE, re.MULTILINE)[0].split()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "gateway.yaml").write_text(SETTINGS)
    (tmp_path / "mail_rules.py").write_text(MODULE)
    return tmp_path / "gateway.yaml"


def test_settings_of_the_page_are_good(file: Path) -> None:
    """With the module beside them; without it, a fault with its line."""
    assert gateway("check", str(file)).returncode == 0
    (file.parent / "mail_rules.py").unlink()
    result = gateway("check", str(file))
    assert result.returncode == 78
    said = " ".join(result.stdout.split())
    assert "routes.spam.rules[0].python: there is no module mail_rules" in said
    assert "routes.spam.rules[1].python: there is no module mail_rules" in said


def test_explained_call_of_the_page_is_judged_by_the_function(file: Path) -> None:
    """The one whose sender is known, and one whose score is odd in one row only."""
    known = gateway("explain", str(file), *COMMAND)
    assert known.returncode == 0, known.stderr
    assert "the rule known-sender holds, says Python" in known.stdout
    assert "rule:known-sender" in known.stdout
    odd = gateway("explain", str(file), *COMMAND[:-2])
    assert "the rule known-sender does not hold, says Python" in odd.stdout
    assert "rule:odd-score" in odd.stdout
