"""Feedback acknowledged a second, each answer on the disk: `python -m benchmarks.ledger.feedback`.

Method: one `gateway serve` with an SQLite ledger (WAL, synchronous=FULL), four client processes with grpc.aio, each
with so many calls under way, through the gateway's port; every item is a label with a genuine receipt of its own.
Rounds of SECONDS each, medians shown. "a CPU second": of the gateway's, which depends less on who else uses the
machine. Then `gateway labels import` of a CSV file of LINES such labels, beside the gateway.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

import psutil

from gateway._dataplane import sign_receipt
from gateway.v1 import feedback_pb2 as pb
from tests.wire.gateway_process import COMMAND, GatewayProcess

SECONDS: Final = 5.0
ROUNDS: Final = 3
CLIENTS: Final = 4
LINES: Final = 50_000
SETTINGS: Final[dict[str, Any]] = {
    "feedback": {"per_caller_per_s": None},
    "backends": {"main": {"grpc": "127.0.0.1:1", "model": "spam"}},
    "routes": {
        "spam": {
            "chain": ["main"],
            "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
        }
    },
}


def receipt(key: bytes) -> str:
    """A genuine one of a decision of its own."""
    row = {"score": 0.9, "flagged": True, "sampled": False, "outcome": "model", "class": 1, "review_pi": 0.5}
    then_ms = time.time_ns() // 1_000_000
    identity = uuid.UUID(int=then_ms << 80 | 7 << 76 | 2 << 62 | int.from_bytes(os.urandom(7)))
    fields: dict[str, Any] = {
        "id": identity.bytes,
        "policy": 1,
        "route": "spam",
        "backend": "main",
        "segment": "",
    }
    return sign_receipt(fields | {"rows": [row]}, key)


async def sending(
    address: str, key: bytes, under_way: int, items: int, until: float
) -> tuple[int, list[float]]:
    """Items acknowledged until then, and seconds of each call."""
    import grpc

    from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub

    kept, took = 0, []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = FeedbackServiceStub(channel)

        async def one() -> None:
            nonlocal kept
            while time.time() < until:
                said = [pb.FeedbackItem(receipt=receipt(key), positive=True) for _ in range(items)]
                began = time.perf_counter()
                answer = await stub.Submit(pb.SubmitFeedbackRequest(items=said))
                took.append(time.perf_counter() - began)
                kept += sum(result.status == pb.FeedbackResult.ACCEPTED for result in answer.results)

        await asyncio.gather(*(one() for _ in range(under_way)))
    return kept, took


def client(address: str, key: bytes, under_way: int, items: int, until: float) -> tuple[int, list[float]]:
    return asyncio.run(sending(address, key, under_way, items, until))


def measure(gateway: GatewayProcess, key: bytes, under_way: int, items: int) -> list[float]:
    """Items a second, items a second of the gateway's CPU, and the calls' p50 and p99 in ms: medians of the rounds."""
    rates, costs, medians, highs = [], [], [], []
    process = psutil.Process(gateway.pid)
    with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool:
        pool.map(abs, range(CLIENTS))
        for _ in range(ROUNDS):
            until = time.time() + SECONDS
            before_s = sum(process.cpu_times()[:2])
            done = pool.starmap(client, [(gateway.address, key, under_way, items, until)] * CLIENTS)
            cpu_s = sum(process.cpu_times()[:2]) - before_s
            took = sorted(seconds for _, of_one in done for seconds in of_one)
            kept = sum(of_one for of_one, _ in done)
            rates.append(kept / SECONDS)
            costs.append(kept / cpu_s)
            medians.append(took[len(took) // 2] * 1000)
            highs.append(took[len(took) * 99 // 100] * 1000)
    return [statistics.median(numbers) for numbers in (rates, costs, medians, highs)]


def main() -> None:
    print(__doc__)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before\n"
    )
    with tempfile.TemporaryDirectory() as folder, GatewayProcess(Path(folder), SETTINGS) as gateway:
        key = bytes.fromhex((gateway.state_dir / "receipt-key").read_text())
        print("| calls under way | items a call | acknowledged/s | a CPU second | p50 ms | p99 ms |")
        print("| --- | --- | --- | --- | --- | --- |")
        for under_way, items in ((1, 1), (32, 1), (4, 100)):
            rate, cost, median, high = measure(gateway, key, under_way, items)
            calls = CLIENTS * under_way
            print(
                f"| {calls} | {items} | {rate:,.0f} | {cost:,.0f} | {median:.1f} | {high:.1f} |", flush=True
            )
        file = Path(folder) / "labels.csv"
        file.write_text("receipt,positive\n" + "".join(f"{receipt(key)},true\n" for _ in range(LINES)))
        began = time.perf_counter()
        imported = subprocess.run(
            [*COMMAND, "labels", "import", str(gateway.file), "--labels", str(file)],
            check=False,
            capture_output=True,
            text=True,
        )
        took_s = time.perf_counter() - began
        print(
            f"\nimport beside it: {LINES:,} lines in {took_s:.1f} s, {LINES / took_s:,.0f}/s\n{imported.stdout}"
        )
        sys.stderr.write(imported.stderr)


if __name__ == "__main__":
    main()
