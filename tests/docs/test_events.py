"""docs/events.md: settings that are good, and the reasons that the code gives."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from gateway.telemetry import events

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")


def test_the_settings_are_good() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = read_text(text.replace("file:/run/keys/events", "${T}"), env={"T": "x" * 16})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []


def test_every_reason_is_told() -> None:
    """Whoever sees a count must find what it means."""
    source = Path(events.__file__).read_text("utf-8")
    given = set(re.findall(r'_TryAgainError\(\s*"(\w+)"', source)) | set(
        re.findall(r'_dropped\("(\w+)"', source)
    )
    given |= set(re.findall(r'return "(\w+)"', source)) | set(
        re.findall(r'"(busy)" if .* else "(failed)"', source)[0]
    )
    table = PAGE[PAGE.index("| reason |") :]
    told = {
        word
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }
    assert given == told
    assert set(map(int, re.findall(r"\b(4\d\d|5\d\d)\b", PAGE[: PAGE.index("| reason")]))) == events.AGAIN
