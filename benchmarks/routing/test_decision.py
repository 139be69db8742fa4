"""The decision path: what the gateway's own thinking costs per call.

Each round runs one part `TIMES` over inside Rust, so that the step from Python is not measured: a round's milliseconds
are microseconds of one call. The call has 300 bytes and meets two rules, one before and one after the backend. Wanted:
under 2 us for all of it, and no more for a 1 MB tensor.
"""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.policy.making import policy, rule
from tests.policy.messages import answer, request

TIMES = 1000
METADATA = [
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python/1.76.0"),
    ("x-sender", "someone@example.org"),
    ("x-user-id", "user-1234567"),
    ("x-device", "phone"),
]
RULES = [
    rule('metadata["x-sender"] in lists.trusted', "answer", name="allow-list", backend="ham"),
    rule('prediction.label == "spam" && segment.device == "tablet"', on="prediction", name="tablet"),
]
INTERPRETED = [
    rule('size(metadata["x-sender"]) > 64', "answer", name="long-sender", backend="ham"),
    rule("prediction.score * 2.0 > 1.99", on="prediction", name="doubled"),
]


def measure(benchmark: BenchmarkFixture, part: str, message: bytes, answered: bytes, **route: Any) -> None:
    compiled = policy(**route)
    benchmark.pedantic(
        compiled.bench, args=(part, message, METADATA, answered, TIMES), rounds=50, warmup_rounds=5
    )
    benchmark.extra_info["request_bytes"] = len(message)
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_call"] = round(benchmark.stats.stats.median / TIMES * 1e6, 3)


SMALL = request(1, tensor_bytes=240)


@pytest.mark.parametrize("tensor_bytes", [240, 1 << 20], ids=["300 B", "1 MB"])
def test_match(benchmark: BenchmarkFixture, tensor_bytes: int) -> None:
    """Scan the request's head and find the route."""
    measure(benchmark, "match", request(1, tensor_bytes=tensor_bytes), b"", rules=RULES)


@pytest.mark.parametrize("rules", [[], RULES, INTERPRETED], ids=["none", "two", "two interpreted"])
def test_rules(benchmark: BenchmarkFixture, rules: list[dict[str, Any]]) -> None:
    """Everything of a decision but reading messages."""
    measure(benchmark, "rules", SMALL, answer([0.97]), rules=rules)


@pytest.mark.parametrize("rows", [1, 64])
def test_read(benchmark: BenchmarkFixture, rows: int) -> None:
    """Read the prediction out of an answer."""
    measure(benchmark, "read", request(rows), answer([0.97] * rows))


@pytest.mark.parametrize(
    ("rows", "tensor_bytes"),
    [(1, 240), (64, 16384), (1, 1 << 20)],
    ids=["1 row 300 B", "64 rows", "1 row 1 MB"],
)
def test_decide(benchmark: BenchmarkFixture, rows: int, tensor_bytes: int) -> None:
    """From the request's bytes to the decision."""
    measure(benchmark, "decide", request(rows, tensor_bytes=tensor_bytes), answer([0.97] * rows), rules=RULES)
