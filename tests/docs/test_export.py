"""What docs/export.md shows is what happens: the command makes the folder, and the snippet trains on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.datasets import payloads as inputs
from gateway.datasets import source as reading
from gateway.datasets import splits, tally, writing
from gateway.ledger import Reader
from gateway.ledger.audit import entries
from tests.datasets.making import (
    SALT,
    STRINGS,
    by_call,
    calls,
    capture,
    feedback,
    infer_request,
    opened,
    review,
)
from tests.datasets.test_export import TYPES
from tests.docs.test_readme import ENVIRONMENT, ROOT
from tests.ledger.making import batch

PAGE = (ROOT / "docs" / "export.md").read_text()
(SNIPPET,) = re.findall(r"```python\n# train.py\n(.*?)```", PAGE, re.DOTALL)
(COMMAND,) = re.findall(r"^gateway (export gateway.yaml .*)$", PAGE, re.MULTILINE)
SETTINGS = """
state_dir: state
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam}
routes:
  spam: {chain: [spam-v3]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A settings file, and a ledger with 400 calls whose score follows from what was captured of them."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "salt").write_text(SALT)
    (tmp_path / "gateway.yaml").write_text(SETTINGS)
    ledger = opened(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")
    try:
        records = calls(11, 400, units=150, rows=(1, 2))
        for one in records:
            one["segment"], one["sampled"] = one["segment"] % 2, 1 if one["flagged"] else one["sampled"]
            one["review_pi"] = 1.0 if one["flagged"] else 0.25
        captures = []
        for call in by_call([one for one in records if one["sampled"]]):
            size = int(call[0]["rows"])
            score = {one["row"]: one["score"] for one in records if one["id_lo"] == call[0]["id_lo"]}
            features = np.random.default_rng(call[0]["id_lo"]).normal(size=(size, 3)).astype("<f4")
            features[:, 0] = [10 * score[row] - 6 for row in range(size)]
            captures.append(capture(call, infer_request({"features": ("FP32", features)})))
        ledger.write_batch(batch(records, strings=STRINGS, captures=captures))
        assert ledger.flush(30.0)
        feedback(ledger, records, 12, share=0.2)
        review(ledger, records)
    finally:
        ledger.close()
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )


def test_the_command_and_the_snippet_do_what_the_page_says(folder: Path) -> None:
    """A reader who types them gets a model, and numbers that are near the truth that the ledger was filled with."""
    exported = run(folder, "-m", "gateway.cli", *COMMAND.split())
    assert exported.returncode == 0, exported.stderr
    assert sorted(file.name for file in (folder / "data").iterdir()) == sorted(
        re.findall(r"^data/(\S+)", PAGE, re.M)
    )
    (folder / "train.py").write_text(SNIPPET)
    trained = run(folder, "train.py")
    assert trained.returncode == 0, trained.stderr
    found = dict(re.findall(r"^(precision|recall) (\S+)$", trained.stdout, re.MULTILINE))
    assert float(found["precision"]) > 0.8
    assert float(found["recall"]) > 0.8
    labels, worth = map(int, re.findall(r"from (\d+) labels, which are worth (\d+)", trained.stdout)[0])
    assert 10 < worth < labels
    again = run(folder, "-m", "gateway.cli", *COMMAND.split())
    assert again.returncode == 1
    assert "holds a data set already" in again.stderr
    reader = Reader.open(f"sqlite:///{folder / 'state' / 'ledger.db'}")
    (entry,) = reader.snapshot(lambda connection: entries(connection, action="dataset.export"))
    reader.close()
    assert (entry.subject, entry.details["command"]) == ("data", f"gateway {COMMAND}")


def test_the_table_of_columns_is_that_of_the_files() -> None:
    """Every column that every data set has, with a type that stands beside it."""
    table = re.findall(r"^\| (`decision`.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)[0]
    named = [name for line in table.splitlines() for name in re.findall(r"`([a-z_]+)`", line.split("|")[-4])]
    assert set(named) - {"request"} == {name for name in TYPES if "." not in name}


def test_the_limits_are_those_of_the_code() -> None:
    """A number on a page goes stale in silence."""
    limits = PAGE[PAGE.index("## Limits") :]
    for number in (
        writing.ROW_GROUP_ROWS,
        inputs.MOST_INPUTS,
        splits.MOST_UNITS,
        tally.MOST_VALUES,
        tally.MOST_PAIRS,
    ):
        assert f" {number:,}" in limits
    assert f"{writing.ROW_GROUP_BYTES >> 20} MiB" in limits
    assert f"{reading.PAYLOAD_BYTES >> 20} MiB" in limits
