"""Records, labels and leases a second of the ledger, on SQLite and on a PostgreSQL of its own.

Method. Records: batches of 4,096 as the data plane makes them (two routes, eight segments, a thousand bins of scores,
0.4 % sampled with their payload) are handed over as fast as the queue takes them; the clock stops when the last one is
committed, and a dropped one is an error. Labels: 256 requests of one label each are in flight, from 16 threads that
wait for the acknowledgements; also while 20,000 records a second come in. Leases: one request after the other, over a
million open tasks. PostgreSQL is local and waits for the disk (fsync); so does SQLite (synchronous=FULL). CPU is
that of the gateway's process and of the server's; where other work has the machine, what a second of CPU does tells
more than the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

import psutil  # noqa: E402 - run as a file, from anywhere

from benchmarks.ledger.traffic import ROWS, batches, fill_queue  # noqa: E402
from gateway.ledger import Facts, LabelRow, Lease, Ledger, Limits, Truth  # noqa: E402
from tests.postgres import Postgres, missing  # noqa: E402

START_US = 1_790_000_000_000_000
WAIT_S = 120.0
CALLERS, IN_FLIGHT = 16, 16
LIMITS = Limits(open_tasks=10**9)
FACTS = Facts(START_US, 1, "spam", "spam-v3", "device=phone", 0, 0.9, True, 0.01, True)


@contextmanager
def opened(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url, LIMITS)
    ledger.open()
    try:
        yield ledger
    finally:
        ledger.close(WAIT_S)


def cpu_s(server: psutil.Process | None) -> tuple[float, float]:
    """CPU seconds of this process, and of a server with its children."""
    theirs = 0.0
    if server is not None:
        for process in [server, *server.children(recursive=True)]:
            times = process.cpu_times()
            theirs += times.user + times.system
    return time.process_time(), theirs


def records(url: str, server: psutil.Process | None, seconds: float) -> dict[str, float]:
    """Records a second, sustained."""
    made = list(itertools.islice(batches(1, START_US, 50_000), 100))
    with opened(url) as ledger:
        before, started, sent = cpu_s(server), time.perf_counter(), 0
        for batch in itertools.cycle(made):
            if time.perf_counter() - started > seconds:
                break
            while ledger.counters()["queued.records"] > LIMITS.queued_records - 2 * ROWS:
                time.sleep(0.005)
            ledger.write_batch(batch)
            sent += ROWS
        assert ledger.flush(WAIT_S), "the last batches are not stored in time"
        took, after = time.perf_counter() - started, cpu_s(server)
        counters = ledger.counters()
    dropped = {name: count for name, count in counters.items() if name.startswith("dropped.records")}
    assert not dropped, f"a ledger that drops is fast: {dropped}"
    assert counters["stored.records"] == sent
    ours, theirs = (b - a for a, b in zip(before, after, strict=True))
    return {
        "records_per_s": sent / took,
        "records_per_cpu_s": sent / ours,
        "cpu_share": ours / took,
        "server_cpu_share": theirs / took,
    }


def one(caller: int, number: int) -> LabelRow:
    return LabelRow(
        decision=caller.to_bytes(8, "big") + (time.time_ns() + number).to_bytes(8, "big"),
        row=0,
        source="app",
        truth=Truth("spam", True),
        facts=FACTS,
        received_us=START_US,
    )


def labels(url: str, seconds: float, background: float = 0.0) -> dict[str, float]:
    """Acknowledged labels a second of callers that each wait for theirs; beside `background` records a second."""
    over = time.perf_counter() + seconds
    waits: list[float] = []
    before = time.process_time()
    with opened(url) as ledger:

        def call(caller: int) -> None:
            mine = []
            for number in itertools.count():
                if time.perf_counter() > over:
                    break
                began = time.perf_counter()
                sent = [
                    ledger.submit_labels([one(caller, number * IN_FLIGHT + at)]) for at in range(IN_FLIGHT)
                ]
                for future in sent:
                    future.result(WAIT_S)
                    mine.append(time.perf_counter() - began)
            waits.extend(mine)

        def traffic() -> None:
            made = list(itertools.islice(batches(2, START_US, 50_000), 50))
            began = time.perf_counter()
            for number, batch in enumerate(itertools.cycle(made)):
                at = began + number * ROWS / background
                if at > over:
                    break
                time.sleep(max(0.0, at - time.perf_counter()))
                ledger.write_batch(batch)

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
        threads += [threading.Thread(target=traffic)] if background else []
        run_all(threads)
    ours = time.process_time() - before
    found = {"labels_per_s": len(waits) / seconds, **percentiles(waits)}
    return found if background else {**found, "labels_per_cpu_s": len(waits) / ours}


def leases(url: str, tasks: int, requests: int) -> dict[str, float]:
    """How long a reviewer waits for a task where a million are open."""
    with opened(url) as ledger:
        fill_queue(ledger, tasks)
        waits, before = [], time.process_time()
        for at in range(requests):
            began = time.perf_counter()
            lease = ledger.lease("moderation", f"reviewer-{at % 20}", 600).result(WAIT_S)
            waits.append(time.perf_counter() - began)
            assert isinstance(lease, Lease), "the queue is not empty"
        ours = time.process_time() - before
    return {"open_tasks": tasks, **percentiles(waits), "cpu_ms": ours / requests * 1e3}


def percentiles(waits: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(waits, n=100)
    return {"p50_ms": cut[49] * 1e3, "p99_ms": cut[98] * 1e3}


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measured(
    kind: str, fresh: Callable[[str], str], server: psutil.Process | None, options: Any
) -> dict[str, dict[str, float]]:
    """All that is asked for, each on a database of its own."""
    found: dict[str, dict[str, float]] = {}
    works: dict[str, Callable[[str], dict[str, float]]] = {
        "records": lambda url: records(url, server, options.seconds),
        "labels": lambda url: labels(url, options.seconds),
        "labels beside 20,000 records/s": lambda url: labels(url, options.seconds, 20_000),
        "leases": lambda url: leases(url, options.tasks, 500),
    }
    for number, (name, work) in enumerate(works.items()):
        if not options.only or name.split()[0] in options.only:
            found[name] = work(fresh(f"bench_{number}"))
            print(f"{kind}, {name}: {spelled(found[name])}", file=sys.stderr)
    return found


def spelled(numbers: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.2f}" for name, value in numbers.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="that are open when leases are measured")
    parser.add_argument("--on", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--only", choices=["records", "labels", "leases"], action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    on = options.on or ["sqlite", "postgresql"]
    found = {}
    if "sqlite" in on:
        with tempfile.TemporaryDirectory() as folder:
            found["sqlite"] = measured("sqlite", lambda name: f"sqlite:///{folder}/{name}.db", None, options)
    if "postgresql" in on and (why := missing()):
        print(f"PostgreSQL is left out: {why}", file=sys.stderr)
    elif "postgresql" in on:
        usual = {"shared_buffers": "256MB", "max_wal_size": "2GB"}
        with Postgres.start(fsync=True, settings=usual) as server:

            def fresh(name: str) -> str:
                server.execute(f"CREATE DATABASE {name}")
                return server.url(name)

            found["postgresql"] = measured("postgresql", fresh, psutil.Process(server.pid), options)
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_1m": os.getloadavg()[0],
    }
    if options.json:
        print(json.dumps({"machine": machine, **found}, indent=2))
        return
    print("| what | " + " | ".join(found) + " |\n| --- |" + " --- |" * len(found))
    for name in next(iter(found.values()), {}):
        print(f"| {name} | " + " | ".join(spelled(one[name]) for one in found.values()) + " |")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    main()
