"""Memory of a sidecar at rest and under load, beside a model that answers at once.

Method: one control on SQLite, one sidecar on one thread, one nghttpd with a static gRPC answer behind it; h2load over 4
connections x 16 streams of 288 bytes, held at a rate (`--rate`, calls/s; what the machine does not give is shown).
Every 0.25 s the kernel is asked for the sidecar's resident memory: all of it, and what is the process's own (private),
as libraries are shared with other processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

from benchmarks.peers.calls import PATH, write_request  # noqa: E402 - run as a file, from anywhere
from benchmarks.peers.proxies import backend  # noqa: E402
from tests.fleet.processes import ControlProc, SidecarProc  # noqa: E402

SAMPLE_S = 0.25


@dataclass(frozen=True)
class Memory:
    """MB: resident, and of it the process's own."""

    resident: float
    own: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = {
            name: int(value) / 1024 for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)
        }
        return cls(found["Rss"], found["Private_Clean"] + found["Private_Dirty"])


class Watch:
    """Samples the memory of a process from `__enter__` to `__exit__`."""

    def __init__(self, pid: int) -> None:
        self._pid, self.samples = pid, [Memory.of(pid)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append(Memory.of(self._pid))

    def told(self) -> str:
        resident = [one.resident for one in self.samples]
        own = [one.own for one in self.samples]
        return (
            f"resident {statistics.median(resident):.1f} MB, at most {max(resident):.1f}; "
            f"its own {statistics.median(own):.1f} MB, at most {max(own):.1f}"
        )


def settings(model: int) -> dict[str, Any]:
    return {
        "backends": {
            "model": {"grpc": f"127.0.0.1:{model}", "model": "spam"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {
            "spam": {
                "chain": ["model", "ham"],
                "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
                "confidence": {"floor": 0.8},
                "review": {"queue": "q", "share": {"flagged": 0.001, "low": 0.001}},
            }
        },
    }


def load(address: str, body: Path, rate: int, seconds: int) -> float:
    """Calls a second that were answered."""
    command = [
        "h2load",
        "-D",
        str(seconds),
        "-c",
        "4",
        "-m",
        "16",
        "-t",
        "1",
        f"--rps={rate // 4}",
        "-d",
        str(body),
    ]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-user-id: u-17"]
    done = subprocess.run(
        [*command, *headers, f"http://{address}{PATH}"], capture_output=True, text=True, check=True
    )
    found = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    failed = re.search(r"(\d+) failed", done.stdout)
    if found is None or failed is None or int(failed[1]):
        raise RuntimeError(f"h2load did not succeed:\n{done.stdout}")
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=10_000, help="calls/s")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", file=sys.stderr
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = folder / "call"
        write_request(body)
        with backend(folder) as model:
            control = ControlProc(
                folder, "control", f"sqlite:///{folder / 'ledger.db'}", settings(model.port)
            )
            sidecar = SidecarProc(folder, "sidecar", [control.address])
            try:
                control.start()
                sidecar.start()
                time.sleep(3)
                with Watch(sidecar.pid) as rest:
                    time.sleep(2)
                with Watch(sidecar.pid) as busy:
                    rate = load(sidecar.address, body, args.rate, args.seconds)
                with Watch(sidecar.pid) as after:
                    time.sleep(5)
                waiting = sidecar.waiting()
            finally:
                sidecar.kill()
                control.kill()
    if args.json:
        tables = {"rest": rest, "busy": busy, "after": after}
        peaks = {name: max(one.resident for one in watch.samples) for name, watch in tables.items()}
        print(json.dumps({"calls_per_s": rate, "peak_mb": peaks}))
        return
    print(
        f"{rate:,.0f} calls/s of {args.rate:,} asked for; {waiting:.0f} records wait for control afterwards"
    )
    for name, watch in (("at rest", rest), ("under load", busy), ("afterwards", after)):
        print(f"{name + ':':<12} {watch.told()}")


if __name__ == "__main__":
    main()
