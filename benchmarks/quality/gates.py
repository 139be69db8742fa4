"""How long a cycle of gates takes: 100 routes, each with a gate on every one of its 20 segments.

Run as `python benchmarks/quality/gates.py [ROUTES] [LABELS_A_SEGMENT]`.

Makes an SQLite ledger of a week: each segment of each route has 200 labels, spread over all hours and bins of scores,
a fifth of them flagged (reviewed with probability .5, the others with .0625); tallies as they would have been added up
while they came, rolled by day. Times `GateWatch.evaluate`, all that a cycle reads, computes and keeps:

    first       after a start: every label of the window goes through the detectors
    quiet       nothing came since
    all new     every segment of every route has a new label, so that all are measured anew
    hour turns  the windows have moved on, so that all are measured anew

Prints the median of three (the first is one), with the memory that the process has come to.
"""

from __future__ import annotations

import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.autopilot.gates import GateWatch
from gateway.config import Settings, read_text
from gateway.ledger import Ledger, Limits, rolling, schema
from gateway.ledger.database import writer_engine
from gateway.ledger.grid import HOUR_US

HOURS = 168
SEGMENTS = 20


def settings(routes: int) -> Settings:
    """A gate on the precision of every device, in each route."""
    text = 'backends:\n  model: {grpc: "127.0.0.1:8001"}\n'
    text += 'identity: {unit: "metadata:x-user-id", segments: {device: "metadata:x-device"}}\nroutes:\n'
    for number in range(routes):
        text += (
            f"  route-{number}:\n    chain: [model]\n"
            "    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}\n"
            "    review: {per_hour: 60, capture: [inputs]}\n"
            "    gates: [{name: holds, metric: recall, at_least: 0.5, segment: device, label_delay_h: 0}]\n"
        )
    loaded = read_text(text, name="bench.yaml", folder=Path("/nowhere"), env={})
    assert loaded.settings is not None, loaded.faults
    return loaded.settings


def fill(file: Path, routes: int, labels: int, end_hour: int, first: int = 0) -> None:
    """Labels and tallies, by statements of the database itself; from number `first` on, all in the last hour."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    total = routes * SEGMENTS * labels
    hour = f"{end_hour} - 1" if first else f"{end_hour} - {HOURS} + n * 2654435761 % {HOURS}"
    facts = (
        f"WITH RECURSIVE numbers(n) AS (SELECT {first + 1} UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n < {first + total}), "
        f"facts AS (SELECT n, CAST(printf('%016d', n) AS BLOB) AS decision, "
        f"({hour}) * {HOUR_US} + n % 1000 AS time_us, "
        f"'route-' || (n % {routes}) AS route, 'device=' || (n / {routes} % {SEGMENTS}) AS segment, "
        f"CASE WHEN n / {routes * SEGMENTS} % 5 = 0 THEN 0.5 + n * 40503 % 500 / 1000.0 "
        "ELSE n * 40503 % 500 / 1000.0 END AS score FROM numbers) "
    )
    pi = "CASE WHEN score >= 0.5 THEN 0.5 ELSE 0.0625 END"
    said = (
        f"{facts} SELECT decision, 0 AS row, 'review' AS source, 'label' AS kind, 1 AS revision, 'spam' AS label, "
        "(n * 7919 % 1000) < CASE WHEN score >= 0.5 THEN 950 ELSE 3 END AS positive, 'ann' AS author, "
        "time_us AS received_us, time_us, 7 AS policy, route, 'model' AS backend, segment, 0 AS outcome, score, "
        f"score >= 0.5 AS flagged, {pi} AS review_pi, 1 AS sampled FROM facts"
    )
    columns = (
        "decision, row, source, kind, revision, label, positive, author, received_us, time_us, policy, route, backend, "
        "segment, outcome, score, flagged, review_pi, sampled"
    )
    connection.execute(f"INSERT INTO labels ({columns}) {said}")
    added = "ON CONFLICT DO UPDATE SET {0} = {0} + excluded.{0}"
    key = (
        "time_us / 3600000000, route, policy, backend, segment, outcome, flagged, "
        "CAST(score * 1000 AS INTEGER), review_pi"
    )
    connection.execute(
        f"INSERT INTO tally_labels SELECT {key}, 1, source, positive, count(*) FROM ({said}) WHERE true "
        f"GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12 {added.format('labels')}"
    )
    connection.execute(
        f"INSERT INTO tally_scores SELECT {key}, count(*) / review_pi, count(*) FROM ({said}) WHERE true "
        f"GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 {added.format('rows')}"
    )
    connection.execute("COMMIT")
    connection.close()


def roll(url: str, now_hour: int) -> None:
    """All that a gateway would have rolled by now."""
    engine = writer_engine(url)
    for tally in (schema.tally_scores, schema.tally_labels):
        more = True
        while more:
            with engine.begin() as connection:
                more = rolling.roll(connection, tally, 24, now_hour)
    engine.dispose()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    routes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    labels = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    made = settings(routes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        url = f"sqlite:///{file}"
        now_hour = 500_000
        ledger = Ledger(url, Limits(), lambda: now_hour * HOUR_US)
        ledger.open()
        fill(file, routes, labels, now_hour)
        roll(url, now_hour)
        print(
            f"{routes} routes x {SEGMENTS} segments, {routes * SEGMENTS * labels:,} labels in {HOURS} h, "
            f"{file.stat().st_size / 1e6:.0f} MB",
            flush=True,
        )
        watch, now_us, number = GateWatch(ledger), now_hour * HOUR_US, routes * SEGMENTS * labels
        first = timed(lambda: watch.evaluate(made, 1, now_us))
        rows = {"first": [first], "quiet": [], "all new": [], "hour turns": []}
        for turn in range(3):
            at = now_us + turn * 30_000_000
            rows["quiet"].append(timed(lambda at=at: watch.evaluate(made, 1, at + 10_000_000)))
            fill(file, routes, 1, now_hour, number)
            number += routes * SEGMENTS
            rows["all new"].append(timed(lambda at=at: watch.evaluate(made, 1, at + 20_000_000)))
        for turn in range(1, 4):
            at = now_us + turn * HOUR_US
            rows["hour turns"].append(timed(lambda at=at: watch.evaluate(made, 1, at)))
        said = [one.verdict.verdict for one in watch.last]
        for name, seconds in rows.items():
            print(f"{name:<12}{1000 * statistics.median(seconds):>8.0f} ms", flush=True)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(said):,} verdicts, {said.count('fail')} fail; {memory:.0f} MB")
        ledger.close()


if __name__ == "__main__":
    main()
