"""`python -m examples.demo`: half a minute, no network, exit 0."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .data import Call, Images, draw_calls, train
from .people import Reviewer, Users
from .show import Findings, differences, next_steps, numbers, tables
from .traffic import PHASES, Exchange, Traffic, added_latency
from .world import ROOT, World

HOME = ROOT / "state" / "demo"
TIMED_CALLS = 150
REPORT_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description="A real model behind the gateway."
    )
    parser.add_argument("--calls", type=int, default=3000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=8, help="of images, noise and users (default: %(default)s)"
    )
    parser.add_argument(
        "--dir", type=Path, help=f"an empty folder to work in (default: {HOME.relative_to(ROOT)})"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of tables")
    parser.add_argument("--stay", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    if arguments.calls < 300:
        parser.error("--calls: at least 300, or there is nothing to estimate from")

    # A demo that is told to end takes its processes with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(stderr=arguments.json)
    started = time.monotonic()
    directory = folder(arguments.dir, console)
    with Bar(console) as bar, World(directory) as world:
        world.start_gateway()
        generator = np.random.default_rng(arguments.seed)
        bar.phase("training three models")
        images = Images(arguments.seed)
        with threadpool_limits(1):  # matrices this small gain nothing from threads that wait for each other
            train(images, directory, generator)
        calls = draw_calls(images, arguments.calls + TIMED_CALLS, generator)
        bar.phase("starting two model servers and the gateway")
        world.start_models()
        found = run(world, calls, generator, bar, started)
        bar.stop()
        if arguments.json:
            print(json.dumps(numbers(found), indent=2))
        else:
            tables(console, found)
            console.print(f"\nDone in {found.seconds:.0f} s.", highlight=False)
            next_steps(console, shown(world.settings), world.admin, running=arguments.stay)
        if arguments.stay:
            console.print(f"\nThe gateway listens on {world.address}; Ctrl-C ends it all.", highlight=False)
            wait_for_interrupt()
    return 1 if differences(found) else 0


def run(
    world: World, calls: list[Call], generator: np.random.Generator, bar: Bar, started: float
) -> Findings:
    """Send everything, let people do their part, and read the report."""
    exchanges: list[Exchange] = []
    reviewer, users = Reviewer(world.address, calls), Users(world.address, generator)

    def see(exchange: Exchange) -> None:
        exchanges.append(exchange)
        users.see(exchange)
        bar.advance()

    traffic = Traffic(world, see)
    reviewer.start()
    users.start()
    total, at = len(calls), 0
    bar.total(total)
    for phase in PHASES:
        count = round(phase.share * (total - TIMED_CALLS))
        bar.phase(phase.name)
        traffic.run(phase, calls[at : at + count])
        at += count
    bar.phase("one caller, timed")
    through, past = added_latency(world, calls[at:], see)
    bar.phase("waiting for the reviewer")
    users.finish()
    reviewed = reviewer.finish()
    bar.phase("asking for the report")
    report = world.report()
    deadline = time.monotonic() + REPORT_S
    while report["calls"]["total"] < len(exchanges) and time.monotonic() < deadline:
        time.sleep(0.5)  # records reach the ledger in batches
        report = world.report()
    return Findings(
        exchanges, report, through, past, reviewed, users.kept, users.repeated, time.monotonic() - started
    )


class Bar:
    """The progress bar: what is being done, and how many calls were made."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<46}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    def phase(self, name: str) -> None:
        self._progress.update(self._task, description=name)

    def total(self, calls: int) -> None:
        self._progress.update(self._task, total=calls)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def stop(self) -> None:
        self._progress.stop()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def folder(wanted: Path | None, console: Console) -> Path:
    """Where the demo keeps its files: the same place every time, so that commands can be typed again."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise SystemExit(f"--dir: {wanted} is not empty")
        return wanted.resolve()
    HOME.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(HOME.parent / "demo.lock", os.O_CREAT | os.O_RDWR)  # held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
        console.print(f"Another demo is at work in {shown(HOME)}; this one goes to {other}.", highlight=False)
        return other
    shutil.rmtree(HOME, ignore_errors=True)  # of an earlier demo
    HOME.mkdir()
    return HOME


def shown(path: Path) -> Path:
    """As short as it can be typed from the repository's root."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as failure:  # a process that did not start: its own words say more than our stack
        sys.exit(f"demo: {failure}")
