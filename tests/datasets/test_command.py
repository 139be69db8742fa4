"""`gateway export`: what is refused and how, and what is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from gateway.cli.export import _command
from gateway.cli.export import export as command
from gateway.errors import DataSetError, LedgerError, SettingsError
from tests.datasets.making import SALT

SETTINGS = """
state_dir: {state}
backends:
  spam-v3: {{grpc: "127.0.0.1:8001", model: spam}}
routes:
  spam:
    chain: [spam-v3]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    review: {{capture: [inputs], redact: [inputs.email]}}
"""


@pytest.fixture
def file(filled: str, tmp_path: Path) -> Path:
    """Settings whose ledger is filled."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "salt").write_text(SALT)
    (state / "ledger.db").write_bytes(Path(filled.removeprefix("sqlite:///")).read_bytes())
    made = tmp_path / "gateway.yaml"
    made.write_text(SETTINGS.format(state=state))
    return made


def run(file: Path, out: Path, **options: Any) -> None:
    usual: dict[str, Any] = {
        "overrides": [],
        "route": None,
        "since": None,
        "until": None,
        "split": None,
        "gap_h": 0.0,
        "unknown_units": "drop",
        "kinds": ["label"],
        "inputs": True,
        "form": "parquet",
        "force": False,
        "json": False,
    }
    command(out, file, **{**usual, **options})


def test_people_are_told_what_was_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file with its rows, what was left out, and where to read on."""
    run(file, tmp_path / "out", split="unit:0.8")
    said = capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    train = card["splits"]["train"]
    assert f"train.parquet: {train['rows']:,} rows of {train['calls']:,} calls, " in said
    assert f"{train['weights']['rows']:,} with a weight" in said
    assert f"left out: {card['dropped']['unit_unknown']:,} rows, unit_unknown" in said
    assert "README.md says what they are" in said


def test_programs_are_told_the_card(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(file, tmp_path / "out", json=True)
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "card.json").read_text())


def test_the_settings_say_what_is_redacted(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the captures were made before."""
    run(file, tmp_path / "out", json=True)
    assert json.loads(capsys.readouterr().out)["inputs"]["redacted"] == {
        "spam": ["inputs.email", "inputs.phone"]
    }
    frame = pl.read_parquet(tmp_path / "out" / "all.parquet")
    assert "input.text" in frame.columns
    assert "input.email" not in frame.columns


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "csv"}, "--format: found 'csv', wanted parquet"),
        ({"split": "unit:2"}, "--split: .*add up to 2"),
        ({"split": "unit:0.8", "gap_h": 3.0}, "--split: a gap belongs to a split by time"),
        ({"gap_h": 3.0}, "--gap-h: found no --split"),
        ({"split": "time:0.8", "gap_h": float("nan")}, "--gap-h: found nan"),
        ({"kinds": ["label", "rumour"]}, "--kind: found 'rumour', wanted label, outcome, signal"),
        ({"unknown_units": "guess"}, "--unknown-units: found 'guess', wanted drop or call"),
        ({"since": "soon"}, "--since: found 'soon', wanted 24h, 7d"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "--until: found '2026-11-01', wanted a time after"),
        ({"route": "span"}, r"--route: found 'span', wanted one of the routes \(spam\)"),
    ],
)
def test_wrong_use_is_said_with_a_mend(
    file: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    """Exit 2, and nothing is written."""
    with pytest.raises(typer.BadParameter, match=words):
        run(file, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_state_folder_is_not_enough(file: Path, tmp_path: Path) -> None:
    """The settings say what is redacted: without them it would not be."""
    with pytest.raises(typer.BadParameter, match="wanted the settings file"):
        run(tmp_path / "state", tmp_path / "out")


def test_without_the_gateways_salt_nothing_is_exported(file: Path, tmp_path: Path) -> None:
    """A made-up one would give other splits and pseudonyms each time."""
    (tmp_path / "state" / "salt").unlink()
    with pytest.raises(DataSetError, match=r"there is no salt at .*copy it from where the gateway runs"):
        run(file, tmp_path / "out")
    assert not (tmp_path / "state" / "salt").exists()


def test_other_faults_are_told_as_everywhere(file: Path, tmp_path: Path) -> None:
    """No ledger, no settings."""
    (tmp_path / "state" / "ledger.db").unlink()
    with pytest.raises(LedgerError, match="there is no ledger at"):
        run(file, tmp_path / "out")
    with pytest.raises(SettingsError):
        run(tmp_path / "absent.yaml", tmp_path / "out")


def test_values_of_set_stand_in_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be passwords, and a card is handed on."""
    typed = [
        "export",
        "g.yaml",
        "--set",
        "ledger=postgresql://u:secret@h/d",
        "--set=secrets.salt=secret",
        "--out",
        "a b",
    ]
    monkeypatch.setattr(sys, "argv", ["/somewhere/gateway", *typed])
    assert _command() == "gateway export g.yaml --set ledger=... --set=secrets.salt=... --out 'a b'"
