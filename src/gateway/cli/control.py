"""`gateway control FILE`: steers a fleet of sidecars, and keeps what they saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["control"]


def control(
    file: Annotated[Path, typer.Argument(help="settings file")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="path=value, over the file's")] = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
) -> None:
    """Serve policies, records, feedback and review to a fleet of sidecars until SIGTERM."""
    import asyncio
    import sys

    import uvloop

    from gateway.cli.control_process import ControlProcess
    from gateway.errors import GatewayError, SettingsError
    from gateway.telemetry import configure_logs

    configure_logs(log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ControlProcess(file, set_ or []).run())
    except SettingsError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        raise typer.Exit(78) from None
    except (GatewayError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
