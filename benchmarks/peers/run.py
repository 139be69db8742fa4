"""Calls a second of the gateway beside HAProxy, nghttpx and Envoy, in one interleaved run.

Method: one nghttpd with a static gRPC answer; each proxy on one thread, cleartext HTTP/2 on both sides; h2load over
4 connections x 16 streams with a 288-byte unary `ModelInfer`. The others pass through; the gateway decides (floor, two
rules, trailers, receipt, records drained). Rounds are interleaved, so that what else the machine does falls on all;
the table shows medians. CPU time is that of the proxy's own process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

from benchmarks.peers.calls import write_request  # noqa: E402 - run as a file, from anywhere
from benchmarks.peers.proxies import Peer, backend, peers  # noqa: E402

WARM_UP_CALLS = 2000


@dataclass
class Measured:
    """One peer's rounds."""

    calls_per_s: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def load(url: str, body: Path, calls: int, connections: int, streams: int) -> float:
    """Calls a second by h2load.

    Raises: RuntimeError, if a call failed: a proxy that refuses is fast.
    """
    command = [
        "h2load",
        "-n",
        str(calls),
        "-c",
        str(connections),
        "-m",
        str(streams),
        "-t",
        "1",
        "-d",
        str(body),
    ]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-user-id: u-17"]
    done = subprocess.run([*command, *headers, url], capture_output=True, text=True, check=True)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if rate is None or codes is None or int(codes[1]) != calls:
        raise RuntimeError(f"h2load against {url} did not succeed:\n{done.stdout}")
    return float(rate[1])


def measure(running: list[Peer], body: Path, args: argparse.Namespace) -> dict[str, Measured]:
    measured = {peer.name: Measured() for peer in running}
    for peer in running:
        load(peer.url, body, WARM_UP_CALLS, args.connections, args.streams)
    for _ in range(args.rounds):
        for peer in running:
            before = peer.cpu_s()
            rate = load(peer.url, body, args.calls, args.connections, args.streams)
            measured[peer.name].calls_per_s.append(rate)
            measured[peer.name].cpu_us.append((peer.cpu_s() - before) / args.calls * 1e6)
    return measured


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def table(measured: dict[str, Measured]) -> list[dict[str, object]]:
    base = measured.get("HAProxy")
    rows: list[dict[str, object]] = []
    for name, one in measured.items():
        ratio = None
        if base is not None:
            # Round by round, as rounds differ more than peers do.
            ratio = statistics.median(a / b for a, b in zip(one.calls_per_s, base.calls_per_s, strict=True))
        rows.append(
            {
                "peer": name,
                "calls_per_s": statistics.median(one.calls_per_s),
                "low": min(one.calls_per_s),
                "high": max(one.calls_per_s),
                "cpu_us": statistics.median(one.cpu_us),
                "against_haproxy": ratio,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100_000, help="a round")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--extra-bytes", type=int, default=0, help="more request bytes, in the tensor")
    parser.add_argument("--peers", default="haproxy,nghttpx,envoy")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not shutil.which("h2load"):
        print("h2load is not installed: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = folder / "request.bin"
        size = write_request(body, args.extra_bytes)
        with (
            backend(folder) as direct,
            peers(direct.port, folder, set(args.peers.split(","))) as (started, missing),
        ):
            rows = table(measure([direct, *started], body, args))
    if args.json:
        print(
            json.dumps(
                {
                    "machine": machine(),
                    "request_bytes": size,
                    "rounds": args.rounds,
                    "table": rows,
                    "missing": missing,
                }
            )
        )
        return 0
    print(__doc__)
    print(f"Machine: {machine()}. Request {size} bytes, {args.rounds} rounds of {args.calls} calls.")
    for absent in missing:
        print(f"{absent} is not installed, so it is not in the table.")
    print("\n| | calls/s | lowest-highest | CPU us/call | against HAProxy |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        ratio = "" if row["against_haproxy"] is None else f"{row['against_haproxy']:.2f}"
        spread = f"{row['low']:,.0f}-{row['high']:,.0f}"
        print(f"| {row['peer']} | {row['calls_per_s']:,.0f} | {spread} | {row['cpu_us']:.1f} | {ratio} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
