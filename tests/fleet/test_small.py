"""A sidecar stands beside every model server: it carries nothing that thinks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gateway

HEAVY = (
    "scipy",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "pydantic",
    "ruamel",
    "cel_expr_python",
    "jinja2",
    "starlette",
    "pyarrow",
    "rich",
    "typer",
    "uvicorn",
    "opentelemetry",
    "prometheus_client",
    "gateway.ledger",
    "gateway.config",
    "gateway.quality",
    "gateway.console",
    "gateway.autopilot",
)


def test_a_sidecar_imports_none_of_what_thinks() -> None:
    """64 MB are for the calls; one import in the wrong place costs a third of them."""
    script = (
        "import sys; import gateway.cli, gateway.cli.sidecar, gateway.cli.sidecar_process;"
        "from gateway.telemetry import configure_logs;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(Path(gateway.__file__).parents[1])},
    )
    assert done.stdout.strip() == "[]"
