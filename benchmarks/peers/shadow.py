"""What bad shadows cost: every call is mirrored to a socket that takes connections and never reads (black-holed), to a
server that answers after half a second (slow), or with 64 KB of noise (garbage).

Method: as run.py, but with few calls at once, so that a call's time is its own and not that of a queue. Rounds are
interleaved; the table shows medians over rounds of each round's p50 and p99, and the process's resident memory after
the last round. First of all one call each must come back with the same bytes as without a shadow, but for its own id
and receipt.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

from benchmarks.peers.calls import write_request  # noqa: E402 - run as a file, from anywhere
from benchmarks.peers.proxies import Peer, backend, bad_shadow, gateway  # noqa: E402
from benchmarks.peers.run import load, machine  # noqa: E402

WARM_UP_CALLS = 2000


@dataclass
class Times:
    """One peer's rounds, microseconds."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def times_us(url: str, body: Path, calls: int, log: Path) -> list[float]:
    """Each call's time, by h2load's log."""
    log.unlink(missing_ok=True)
    command = [
        "h2load",
        "-n",
        str(calls),
        "-c",
        "4",
        "-m",
        "1",
        "-t",
        "1",
        "-d",
        str(body),
        "--log-file",
        str(log),
    ]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-user-id: u-17"]
    subprocess.run([*command, *headers, url], capture_output=True, check=True)
    return [float(line.split("\t")[2]) for line in log.read_text().splitlines()]


def answer(peer: Peer, body: Path) -> bytes:
    """What a call is answered, without what no two calls share."""
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}") as channel:
        framed: bytes = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
            body.read_bytes()[5:], timeout=10
        )
    return re.sub(
        rb"(gateway_(decision_id|receipt)\x12.{2,3}\x1a?.)[0-9A-Za-z_-]+", rb"\1", framed, flags=re.DOTALL
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000, help="a round")
    args = parser.parse_args()
    if not shutil.which("h2load"):
        print("h2load is not installed: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0), backlog=1024) as hole:
        folder = Path(name)
        body = folder / "request.bin"
        write_request(body, 0)
        with (
            backend(folder) as direct,
            bad_shadow("slow") as slow_port,
            bad_shadow("garbage") as garbage_port,
            gateway(direct.port) as plain,
            gateway(direct.port, hole.getsockname()[1]) as holed,
            gateway(direct.port, slow_port, "slow") as slow,
            gateway(direct.port, garbage_port, "garbage") as garbage,
        ):
            running: list[Peer] = [direct, plain, holed, slow, garbage]
            wanted = answer(plain, body)
            for peer in running[2:]:
                if answer(peer, body) != wanted:
                    print(f"{peer.name}: the answer is not the one without a shadow", file=sys.stderr)
                    return 1
            for peer in running:
                load(peer.url, body, WARM_UP_CALLS, 4, 1)
            measured = {peer.name: Times() for peer in running}
            for _ in range(args.rounds):
                for peer in running:
                    taken = statistics.quantiles(times_us(peer.url, body, args.calls, folder / "log"), n=100)
                    measured[peer.name].p50.append(taken[49])
                    measured[peer.name].p99.append(taken[98])
            resident = {peer.name: psutil.Process(peer.process.pid).memory_info().rss for peer in running}
    print(__doc__)
    print(f"Machine: {machine()}. {args.rounds} rounds of {args.calls} calls, 4 at once.")
    print("\n| | p50 us | p99 us | RSS MB |\n| --- | --- | --- | --- |")
    for name, one in measured.items():
        row = f"{statistics.median(one.p50):.0f} | {statistics.median(one.p99):.0f} | {resident[name] / 1e6:.0f}"
        print(f"| {name} | {row} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
