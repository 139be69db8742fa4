"""The commands as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.config.examples import EVERYTHING, TEN_LINES

ROOT = Path(__file__).parents[2]


def gateway(*arguments: str, folder: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), **env},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(TEN_LINES)
    return path


def test_check_says_what_the_file_does(file: Path) -> None:
    """Who reads the answer knows whether the file means what was meant."""
    file.write_text(EVERYTHING)
    done = gateway("check", str(file), "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model spam, x-tenant: acme -> spam-v3 -> spam-lite -> ham (static) within 250 ms" in done.stdout
    assert "below 0.8, 0.9 for spam, 0.95 for device=phone" in done.stdout
    assert (
        "2 % of units are held out and get ham; each unit draws who is asked first (spam-v3 90 %, spam-v4 10 %); "
        "10 % are copied to spam-lite, 20 % of these to spam-twin too; about 60 an hour go to review"
        in done.stdout
    )
    assert "What matches no route goes to spam-v3, untouched." in done.stdout
    assert "\x1b" not in done.stdout


def test_check_shows_every_fault_and_ends_with_78(file: Path) -> None:
    """One run, all faults, a line each, and a code that scripts can tell from wrong use."""
    file.write_text(
        TEN_LINES.replace("model: spam}", "modle: spam}")
        .replace("[spam-v3, ham]", "[spam-v3, hamm]")
        .replace("positive: spam", "positive: spma")
        .replace("floor: 0.8", "floor: 80")
        + "workers: many\n"
    )
    done = gateway("check", "gateway.yaml", "--offline", folder=file.parent)
    assert done.returncode == 78
    lines = done.stdout.splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["gateway.yaml", str(line)] for line in (2, 6, 7, 8, 9)
    ]
    assert done.stderr.strip() == "5 faults in gateway.yaml"


def test_check_as_json_is_for_programs(file: Path) -> None:
    """An editor or a pipeline reads places, not sentences."""
    good = json.loads(gateway("check", str(file), "--offline", "--json").stdout)
    assert good == {"file": str(file), "good": True, "faults": [], "warnings": []}
    done = gateway("check", str(file), "--json", "--offline", "--set", "routes.spam.confidence.flor=1")
    bad = json.loads(done.stdout)
    assert done.returncode == 78
    assert bad["good"] is False
    assert bad["faults"][0] == {
        "place": "--set routes.spam.confidence.flor=1",
        "line": None,
        "column": None,
        "path": "routes.spam.confidence.flor",
        "found": "there is no setting flor here",
        "wanted": "",
        "mend": "did you mean floor?",
    }


def test_warnings_do_not_fail(file: Path) -> None:
    """What is probably not meant is said, and decided by the operator."""
    done = gateway("check", str(file), "--offline", "--set", "routes.spam.chain=[spam-v3]")
    assert done.returncode == 0
    assert "gateway.yaml:3:3: warning: backends.ham: no route uses this backend" in done.stdout
    assert "warning: routes.spam.confidence: a floor with nothing to fall back on" in done.stdout


def test_missing_file_is_a_fault_with_a_mend(tmp_path: Path) -> None:
    """The first thing a new user meets is a sentence."""
    done = gateway("check", folder=tmp_path)
    assert done.returncode == 78
    assert done.stdout == (
        "gateway.yaml: cannot read this file: No such file or directory (`gateway init` writes one to start with)\n"
    )


def test_init_writes_a_file_that_check_takes(tmp_path: Path) -> None:
    """The way from nothing to a checked file is two commands; a file that is there is never lost."""
    assert gateway("init", folder=tmp_path).returncode == 0
    assert gateway("check", "--offline", folder=tmp_path).returncode == 0
    again = gateway("init", folder=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert gateway("init", "--force", folder=tmp_path).returncode == 0


def test_schema_is_json() -> None:
    """Editors read it as it is printed."""
    schema = json.loads(gateway("schema").stdout)
    assert schema["$defs"]["Confidence"]["properties"]["measure"]["default"] == "max_probability"


def test_help_names_the_commands_and_wrong_use_ends_with_2(file: Path) -> None:
    """Wrong use is told apart from faulty settings."""
    done = gateway("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("init", "check", "schema", "explain"))
    assert gateway("chek").returncode == 2
    assert gateway("check", str(file), "--nonsense").returncode == 2
    assert gateway("--version").stdout.startswith("gateway ")
