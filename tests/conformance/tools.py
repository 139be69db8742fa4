"""Programs of others that the gateway is held against, built from the versions that `go.mod` pins."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["built", "missing"]

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / ".make" / "conformance"
PROGRAMS = ("h2spec", "client", "server")
BUILD_S = 900.0


def missing() -> str | None:
    """Why nothing can be built, or None."""
    return None if shutil.which("go") else "Go is not installed"


def built() -> Path:
    """The folder with h2spec, client and server.

    Where they cannot be built (no way to the module proxy), `make conformance` and CI fail and other runs skip.
    """
    try:
        return _build()
    except RuntimeError as error:
        if os.environ.get("CONFORMANCE") == "required":
            raise
        pytest.skip(str(error))


def _build() -> Path:
    """What Go has built before is not built again.

    Raises: RuntimeError, with Go's own words, when it fails.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(
            ["go", "build", "-mod=readonly", "-o", f"{BUILT}/", "tool"],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
    absent = [name for name in PROGRAMS if not (BUILT / name).exists()]
    if result.returncode != 0 or absent:
        raise RuntimeError(
            f"go build in {HERE} failed ({result.returncode}), without {absent}:\n{result.stderr}"
        )
    return BUILT
