"""docs/gates.md shows settings that are good, what the command says of them, and gives every preset its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from gateway.cli.gates import gates
from gateway.config import read_text
from gateway.config.objective import PRESETS
from gateway.ledger.grid import HOUR_US
from tests.autopilot.labelled import START_US, Flow, Model, Writer, opened

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text("utf-8")
[SETTINGS] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_settings_are_good() -> None:
    """What is shown is taken as it stands, without a warning."""
    loaded = read_text(SETTINGS, env={})
    assert [str(fault) for fault in (*loaded.faults, *loaded.warnings)] == []


def test_every_preset_has_its_side_and_its_reason() -> None:
    """The table says what the code does."""
    rows = re.findall(r"^\| `(\w+)` \| (precision|recall) \| (.{40,}) \|$", PAGE, re.MULTILINE)
    assert {name: first for name, first, _ in rows} == dict(PRESETS)


def test_the_command_says_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two days of which the last was bad on phones; made anew from a seed."""
    file = tmp_path / "gateway.yaml"
    file.write_text(f"ledger: sqlite:///{tmp_path}/ledger.db\n{SETTINGS}")
    now_us = START_US + 48 * HOUR_US
    monkeypatch.setattr("time.time_ns", lambda: now_us * 1000)
    with opened(tmp_path, [now_us]) as ledger:
        writer = Writer(ledger, 1001)
        for hour in range(0, 48, 3):
            at_us = START_US + hour * HOUR_US
            writer.hour(["spam"], at_us, Model(0.98), Flow(30, 60), "device=desktop")
            writer.hour(["spam"], at_us, Model(0.97 if hour < 24 else 0.40), Flow(20, 40), "device=phone")
            writer.hour(["spam"], at_us, Model(0.93), Flow(8, 40), "device=tablet")
    with pytest.raises(typer.Exit) as ended:
        gates(file, overrides=[], json=False, route=None, history=None)
    assert ended.value.exit_code == 1
    [shown] = re.findall(r"```\n\$ gateway gates gateway.yaml\n(.*?)```", PAGE, re.DOTALL)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == shown.splitlines(), "\n".join(["", *printed])
