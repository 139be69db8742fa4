"""How long an export takes and how much memory, by the number of labelled decisions, on SQLite.

Method. A ledger is filled by SQL with one label a decision, a quarter of them reviews of kept decisions with a unit
(one million units), the rest feedback; then `gateway.datasets.export` splits it, in a process of its own. Told are the
clock, the CPU of that process (where other work has the machine, it tells more than the clock), and its largest
resident set.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

from gateway.datasets import Plan, export, parse_split  # noqa: E402 - run as a file, from anywhere
from gateway.ledger import Ledger, Reader  # noqa: E402

START_US = 1_790_000_000_000_000
UNITS = 1_000_003

COUNTED = (
    "WITH RECURSIVE n(i) AS (SELECT {step} UNION ALL SELECT i + {step} FROM n WHERE i < {rows} - {step} + 1) "
)
LABELS = """
INSERT INTO labels (decision, row, source, kind, name, revision, label, positive, author,
    received_us, time_us, policy, route, backend, segment, outcome, score, flagged, review_pi, sampled, propensity)
SELECT id(i), 0, iif(i % 4 = 0, 'review', 'app'), 'label', '', 1, iif(i * 7919 % 10 < 3, 'spam', 'ham'),
    i * 7919 % 10 < 3, iif(i % 4 = 0, 'ann', ''), {start} + i * 200000 + i * 104729 % 864000000000,
    {start} + i * 200000, 1, 'spam', 'spam-v3', iif(i % 3 = 0, 'device=phone,country=de', 'device=desk'), i % 2,
    (i * 7919 % 1000) / 1000.0, i * 7919 % 10 < 3, 0.25, i % 4 = 0, 1.0 FROM n
"""
DECISIONS = """
INSERT INTO decisions (decision, row, time_us, policy, route, backend, segment, outcome, reason, label, score,
    confidence, flagged, stratum, review_pi, sampled, propensity, unit)
SELECT id(i), 0, {start} + i * 200000, 1, 'spam', 'spam-v3', 'device=desk', 0, 'ok', 'ham', 0.5,
    0.7, 0, 0, 0.25, 1, 1.0, i * 7919 % {units} FROM n
"""


def fill(file: Path, rows: int) -> None:
    """A ledger with so many labels; not as the gateway writes, which would take far longer than what is measured."""
    ledger = Ledger(f"sqlite:///{file}")
    ledger.open()
    ledger.close()
    connection = sqlite3.connect(file)
    connection.create_function("id", 1, lambda number: number.to_bytes(16, "big"))
    connection.execute("PRAGMA synchronous=OFF")
    for query, step in ((LABELS, 1), (DECISIONS, 4)):
        whole = COUNTED + query
        connection.execute(whole.format(step=step, rows=rows, start=START_US, units=UNITS))
        connection.commit()
    connection.close()


def measure(file: Path, split: str) -> dict[str, Any]:
    """One export, by this process."""
    began, cpu = time.monotonic(), time.process_time()
    reader = Reader.open(f"sqlite:///{file}")
    plan = Plan(split=parse_split(split), unknown_units="call")
    card = export(reader, file.with_name("out"), plan, salt_hex="ab" * 32, force=True)
    reader.close()
    return {
        "split": split,
        "rows": card["rows"] + sum(card["dropped"].values()),
        "s": round(time.monotonic() - began, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "parquet_mb": sum(one.stat().st_size for one in file.with_name("out").iterdir()) >> 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=[1_000_000, 10_000_000], nargs="+")
    parser.add_argument("--split", default=["unit:0.8", "time:0.8"], nargs="+")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        print(json.dumps(measure(asked.measure, asked.split[0])))
        return
    print(__doc__)
    print("| labels | split | s | CPU s | largest resident set, MB | Parquet, MB |\n|" + " --- |" * 6)
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ledger.db"
            fill(file, rows)
            for split in asked.split:
                command = [sys.executable, __file__, "--measure", str(file), "--split", split]
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    "| {rows:,} | `{split}` | {s} | {cpu_s} | {rss_mb} | {parquet_mb} |".format(**told),
                    flush=True,
                )


if __name__ == "__main__":
    main()
