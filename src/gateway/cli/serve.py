"""`gateway serve FILE`: the gateway, all in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    file: Annotated[Path, typer.Argument(help="settings file")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="path=value, over the file's")] = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
) -> None:
    """Serve inference, control services and metrics until SIGTERM."""
    import asyncio
    import sys

    import uvloop

    from gateway.cli.process import Process
    from gateway.errors import GatewayError, SettingsError
    from gateway.telemetry import configure_logs

    configure_logs(log_level)
    process = Process(file, set_ or [])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(process.run())
    except SettingsError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        raise typer.Exit(78) from None
    except (GatewayError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
