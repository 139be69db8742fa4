"""`gateway labels` as it is typed: exit codes, what is printed, and that a gateway may run beside it."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from gateway._dataplane import sign_receipt
from gateway.ledger import Ledger, Reader
from gateway.ledger.audit import entries
from tests.wire.gateway_process import run_gateway

KEY = "k" * 32
SETTINGS = f"""
secrets: {{salt: "{"s" * 32}", receipt_keys: ["{KEY}"]}}
backends:
  main: {{grpc: "127.0.0.1:1", model: spam}}
routes:
  spam:
    chain: [main]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
"""


def genuine(number: int) -> str:
    now_ms = time.time_ns() // 1_000_000
    row = {"score": 0.9, "flagged": True, "sampled": False, "outcome": "model", "class": 1, "review_pi": 0.5}
    identity = uuid.UUID(int=now_ms << 80 | 7 << 76 | 2 << 62 | number)
    fields: dict[str, Any] = {
        "id": identity.bytes,
        "policy": 1,
        "route": "spam",
        "backend": "main",
        "segment": "",
    }
    return sign_receipt(fields | {"rows": [row]}, KEY.encode())


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(SETTINGS)
    ledger = Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")
    ledger.open()
    ledger.close()
    return file


def test_labels_go_in_and_come_out_again(settings: Path, tmp_path: Path) -> None:
    """Exit 1 where something was refused, which is told by its line; the import stands in the audit trail."""
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    good = [f"{genuine(n)},spam" for n in range(3)]
    file.write_text("\n".join(["receipt,label", *good, f"{genuine(9)},spma", "nonsense,ham"]) + "\n")
    result = run_gateway(
        "labels",
        "import",
        str(settings),
        "--labels",
        str(file),
        "--refused",
        str(tmp_path / "bad.csv"),
        "--json",
    )
    assert result.returncode == 1, result.stderr
    found = json.loads(result.stdout)
    assert (found["lines"], found["accepted"], found["dry_run"]) == (5, 3, False)
    assert found["refused"]["by_code"] == {"unknown_label": 1, "receipt_malformed": 1}
    assert [line["line"] for line in found["refused"]["lines"]] == [5, 6]
    assert (tmp_path / "bad.csv").read_text().startswith("line,code,message,receipt,")
    result = run_gateway("labels", "export", str(settings), "--to", str(out))
    assert (result.returncode, result.stdout) == (0, f"{out}: 3 statements\n")
    result = run_gateway("labels", "import", str(settings), "--labels", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "duplicate           3" in result.stdout
    reader = Reader.open(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")
    noted = reader.snapshot(lambda connection: entries(connection, action="labels.import"))
    reader.close()
    assert [(one.subject, one.details["accepted"], one.details["refused"]) for one in noted] == [
        ("in.csv", 3, 2),
        ("out.csv", 0, 0),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("import", "{dir}/none.yaml", "--labels", "{dir}/x.csv"), 2, "none.yaml"),
        (("import", "{dir}/gateway.yaml", "--labels", "{dir}/none.csv"), 2, "No such file"),
        (("import", "{dir}/gateway.yaml", "--labels", "{dir}/typo.csv"), 2, "lable"),
        (("import", "{dir}/faulty.yaml", "--labels", "{dir}/x.csv"), 78, "chian"),
        (("export", "{dir}/gateway.yaml", "--to", "{dir}/none/x.csv"), 2, "No such file"),
    ],
)
def test_wrong_use_is_told(
    settings: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """2 for what was typed, 78 for the settings; as every command."""
    (tmp_path / "x.csv").write_text("receipt,label\n")
    (tmp_path / "typo.csv").write_text("receipt,lable\n")
    (tmp_path / "faulty.yaml").write_text(settings.read_text().replace("chain", "chian"))
    result = run_gateway("labels", *(one.format(dir=tmp_path) for one in arguments))
    assert (result.returncode, words in result.stderr.replace("\n", "")) == (code, True), result.stderr
