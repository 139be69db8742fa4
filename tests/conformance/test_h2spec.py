"""The listener speaks HTTP/2 as h2spec wants it, strictly."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conformance import tools
from tests.wire.gateway_process import GatewayProcess

CASES = 146
"""Of h2spec 2.2.1 with --strict; fewer would mean that some were not run."""

pytestmark = pytest.mark.skipif(tools.missing() is not None, reason=str(tools.missing()))


@pytest.mark.timeout(1000)
def test_every_strict_case_passes(tmp_path: Path) -> None:
    """None is skipped either: the listener answers what is not gRPC with a body, so that flow control can be tried."""
    settings = {"backends": {"none": {"grpc": "127.0.0.1:1"}}, "default_backend": "none"}
    programs = tools.built()
    with GatewayProcess(tmp_path, settings) as gateway:
        host, port = gateway.address.split(":")
        command = [programs / "h2spec", "--strict", "-h", host, "-p", port, "-o", "5"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    counted = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", result.stdout)
    assert counted, result.stdout[-4000:] + result.stderr[-4000:]
    total, passed, skipped, failed = (int(number) for number in counted.groups())
    failures = result.stdout.partition("Failures:")[2]
    assert (total, passed, skipped, failed) == (CASES, CASES, 0, 0), failures
    assert result.returncode == 0
