"""How long a report over millions of labelled decisions takes.

Run as `python benchmarks/ledger/bench_report.py [LABELS] [--tallies-only]`.

Makes an SQLite ledger of so many sampled decisions, each labelled by review, spread over a year (8,760 hours), all
1,000 bins of scores, two routes; adds them up into the tallies as they would have been while they came; rolls what is
over; and times what `gateway report --html` reads, computes and draws, each in a fresh process (imports aside), and
what part of that counts and quality take. Prints medians of five.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.ledger import Ledger, rolling
from gateway.ledger.database import writer_engine

HOURS = 8_760
HOUR_US = 3_600_000_000
TIMED = """
import json, sys, time
from gateway.ledger import Reader, Window
from gateway.ledger.report import make_report
from gateway.autopilot.story import stories
from gateway.cli.report_html import render_html
import scipy.special
reader = Reader.open(sys.argv[1])
window, now_us = Window(int(sys.argv[2]) or None), time.time_ns() // 1000
began = time.perf_counter()
report = make_report(reader, window, now_us=now_us)
counts = time.perf_counter() - began
page = render_html(report, stories(reader, window, report, now_us), now_us)
took = time.perf_counter() - began
print(json.dumps([took, sum(one.quality.numbers.labels for one in report.routes), counts]))
"""


def fill(file: Path, labels: int, end_hour: int, *, rows: bool) -> None:
    """Decisions and labels (if `rows`) and tallies, by statements of the database itself."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    connection.execute("BEGIN")
    # n runs over predictions; a product with a large odd number scatters it over hours and bins without a generator.
    facts = (
        f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {labels}), "
        f"facts AS (SELECT n, CAST(printf('%016d', n) AS BLOB) AS decision, "
        f"({end_hour} - {HOURS} + n * {HOURS} / {labels + 1}) * {HOUR_US} + n % 1000 AS time_us, "
        "CASE WHEN n % 2 THEN 'spam' ELSE 'fraud' END AS route, (n * 2654435761 % 1000 + 0.5) / 1000.0 AS score "
        "FROM numbers) "
    )
    pi = "CASE WHEN score >= 0.5 THEN 0.5 ELSE 0.125 END"
    said = (
        f"{facts} SELECT decision, 0 AS row, 'review' AS source, 'label' AS kind, 1 AS revision, 'spam' AS label, "
        "(n * 40503 % 1000) / 1000.0 < score AS positive, 'ann' AS author, time_us AS received_us, time_us, "
        "7 AS policy, route, 'spam-v3' AS backend, '' AS segment, 0 AS outcome, score, score >= 0.5 AS flagged, "
        f"{pi} AS review_pi, 1 AS sampled FROM facts"
    )
    if rows:
        connection.execute(
            "INSERT INTO decisions (decision, row, time_us, policy, route, backend, segment, outcome, reason, label, "
            "score, confidence, flagged, stratum, review_pi, sampled, arm, propensity, unit) "
            f"{facts} SELECT decision, 0, time_us, 7, route, 'spam-v3', '', 0, 'ok', 'spam', score, score, "
            f"score >= 0.5, 1, {pi}, 1, NULL, 1.0, n FROM facts"
        )
        connection.execute(
            "INSERT INTO labels (decision, row, source, kind, revision, label, positive, author, received_us, time_us, "
            f"policy, route, backend, segment, outcome, score, flagged, review_pi, sampled) {said}"
        )
    key = (
        "time_us / 3600000000, route, policy, backend, segment, outcome, flagged, "
        "CAST(score * 1000 AS INTEGER), review_pi"
    )
    connection.execute(
        f"INSERT INTO tally_labels SELECT {key}, 1, source, positive, count(*) FROM ({said}) "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12"
    )
    connection.execute(
        "INSERT INTO tally_scores SELECT hour, route, policy, backend, segment, outcome, flagged, score_bin, "
        "review_pi, CAST(sum(labels) / review_pi AS INTEGER), sum(labels) FROM tally_labels "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"
    )
    connection.execute(
        "INSERT INTO tally_calls SELECT hour, route, policy, backend, segment, outcome, 'ok', sum(rows), sum(rows) "
        "FROM tally_scores GROUP BY 1, 2, 3, 4, 5, 6, 7"
    )
    connection.execute("COMMIT")
    connection.close()


def main() -> None:
    labels = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    rows = "--tallies-only" not in sys.argv  # a report reads no decision and no label: minutes may be saved
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        url = f"sqlite:///{file}"
        now_hour = time.time_ns() // 1000 // HOUR_US
        ledger = Ledger(url)
        ledger.open()
        ledger.close()
        began = time.perf_counter()
        fill(file, labels, now_hour - 3, rows=rows)
        print(
            f"{labels:,} labelled decisions over {HOURS:,} hours: {file.stat().st_size / 1e9:.1f} GB, "
            f"made in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        began = time.perf_counter()
        steps = roll(url, now_hour)
        took = time.perf_counter() - began
        print(f"rolled a year in {steps:,} steps, {1000 * took / steps:.0f} ms each", flush=True)
        timed("all of it", url, 0, 5)
        timed("30 days and a half", url, (now_hour - 732) * HOUR_US, 5)
        timed("a week", url, (now_hour - 168) * HOUR_US, 5)


def roll(url: str, now_hour: int) -> int:
    """All that a gateway would have rolled by now; the number of steps."""
    engine = writer_engine(url)
    steps = 0
    with engine.begin() as connection:
        for tally in rolling.rolled_of:
            for span in reversed(rolling.SPANS):
                while rolling.roll(connection, tally, span, now_hour):
                    steps += 1
    engine.dispose()
    return steps


def timed(what: str, url: str, since_us: int, times: int) -> None:
    """Print how long a report takes, each time in a process of its own."""
    found = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", TIMED, url, str(since_us)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    whole, counts = (statistics.median(one[at] for one in found) for at in (0, 2))
    print(
        f"{what}: median {whole:.2f} s, of which counts and quality {counts:.2f} s; {found[0][1]:,} labels",
        flush=True,
    )


if __name__ == "__main__":
    main()
