"""`gateway report`: what is printed, and what is said when nothing can be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from gateway.cli.report import report as command
from gateway.errors import LedgerError, SettingsError
from tests.report.conftest import Told


def printed(capsys: pytest.CaptureFixture[str], where: Path, **options: object) -> str:
    arguments: dict[str, object] = {"overrides": [], "json": False, "route": None, "hours": 0.0, "html": None}
    command(where, **{**arguments, **options})  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_json_has_the_agreed_shape(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read these names."""
    found = json.loads(printed(capsys, told.folder, json=True))
    spam = found["routes"]["spam"]
    assert set(spam["calls"]) == {"total", "by_outcome", "by_reason"}
    assert {"p50", "p99"} <= set(spam["overhead_us"])
    for metric in ("precision", "recall", "f1"):
        assert {"value", "low", "high", "labels", "reason"} <= set(spam[metric])
        assert spam[metric]["low"] <= spam[metric]["value"] <= spam[metric]["high"]
        assert spam[metric]["reason"] is None
    assert spam["shadows"]["spam-v4"]["compared"] == 980
    assert spam["feedback"]["user"]["labels"] == 300
    assert spam["review"]["open"] == 15


def test_a_missing_number_is_null_with_a_reason(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that could be mistaken for a zero."""
    file = settings_file(told)
    quiet = json.loads(printed(capsys, file, json=True))["routes"]["quiet"]
    assert quiet["precision"]["value"] is None
    assert quiet["precision"]["reason"]
    assert quiet["overhead_us"] == {"p50": None, "p99": None, "reason": "no call in this window"}


@pytest.mark.parametrize("columns", ["80", "100", "200"])
def test_text_fits_the_terminal_and_explains_its_numbers(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """80 columns at least, 100 at most; no colour where it is not a terminal."""
    monkeypatch.setenv("COLUMNS", columns)
    text = printed(capsys, told.folder)
    assert max(map(len, text.splitlines())) <= min(int(columns), 100)
    assert "\x1b" not in text
    assert "nan" not in text.lower()
    words = " ".join(text.split())
    for sentence in (
        r"3,000 calls",
        r"The gateway itself adds 79 us or less to half of the calls",
        r"Of 100 flagged predictions, about \d+ are right \(95 % interval: \d+ to \d+\)",
        r"Of 100 positives, about \d+ are found \(95 % interval: \d+ to [\d.]+\)",
        r"agreement 95\.9 %",
        r"An early warning, not a measurement",
        r"15 predictions wait for a reviewer",
    ):
        assert re.search(sentence, words), sentence


def test_a_settings_file_leads_to_its_ledger(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """And its routes are listed even if nothing came to them."""
    words = printed(capsys, settings_file(told))
    assert "No call in this window." in words
    assert "3,000 calls" in words


def test_an_unknown_route_is_told_which_there_are(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use, exit 2."""
    with pytest.raises(typer.BadParameter, match="found 'span', wanted one of the routes \\(spam\\)"):
        printed(capsys, told.folder, route="span")


@pytest.mark.parametrize("hours", [-1.0, float("nan"), float("inf")])
def test_hours_that_make_no_sense_are_refused(
    told: Told, capsys: pytest.CaptureFixture[str], hours: float
) -> None:
    """Wrong use, exit 2."""
    with pytest.raises(typer.BadParameter, match="--hours: found"):
        printed(capsys, told.folder, hours=hours)


def test_a_folder_without_a_ledger_stays_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading must not make an empty ledger that looks like one with no calls."""
    with pytest.raises(LedgerError, match="there is no ledger at"):
        printed(capsys, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some other SQLite file, or an empty one."""
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerError, match="holds no ledger"):
        printed(capsys, tmp_path)


def test_faulty_settings_are_told_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With file and line, by `main`; exit 78."""
    with pytest.raises(SettingsError):
        printed(capsys, tmp_path / "absent.yaml")


def settings_file(told: Told) -> Path:
    file = told.folder.parent / "gateway.yaml"
    file.write_text(
        f"""
state_dir: {told.folder}
backends:
  spam-v3: {{grpc: "127.0.0.1:8001", model: spam}}
routes:
  spam: {{chain: [spam-v3]}}
  quiet: {{chain: [spam-v3]}}
"""
    )
    return file
