"""`gateway sidecar --control HOST:PORT`: the gateway beside a model server, steered by a control elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sidecar"]


def sidecar(
    control: Annotated[
        list[str], typer.Option(help="HOST:PORT of a control; more than once, or with commas, for several")
    ],
    state_dir: Annotated[
        Path, typer.Option(help="folder of the last policy and of records while control is away")
    ] = Path("state"),
    name: Annotated[str, typer.Option(help="for people; the host's name if absent")] = "",
    inference: Annotated[str, typer.Option(help="HOST:PORT or unix:/path, instead of the settings'")] = "",
    admin: Annotated[str, typer.Option(help="HOST:PORT instead of the settings'; none for none")] = "",
    workers: Annotated[int, typer.Option(help="threads that forward calls, instead of the settings'")] = 0,
    token_file: Annotated[Path | None, typer.Option(help="the token of a name with the role sidecar")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="PEM: who signed control's certificate; plain text if absent")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="PEM: the sidecar's certificate, where control wants one")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM: its private key")] = None,
    spool_mb: Annotated[
        int, typer.Option(help="records on disk while control is away; beyond, dropped")
    ] = 256,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
) -> None:
    """Serve inference by the policies of a control until SIGTERM."""
    import asyncio
    import socket
    import sys

    import uvloop

    from gateway.cli.sidecar_process import SidecarOptions, SidecarProcess
    from gateway.errors import GatewayError
    from gateway.telemetry import configure_logs

    configure_logs(log_level)
    if (cert is None) != (key is None):
        print("gateway: --cert and --key go together", file=sys.stderr)
        raise typer.Exit(2)
    try:
        options = SidecarOptions(
            controls=tuple(one.strip() for part in control for one in part.split(",") if one.strip()),
            state_dir=state_dir.absolute(),
            name=name or socket.gethostname(),
            inference=inference or None,
            admin=admin or None,
            workers=workers or None,
            token=None if token_file is None else token_file.read_text("ascii").strip(),
            ca=None if ca is None else ca.read_bytes(),
            cert=None if cert is None else cert.read_bytes(),
            key=None if key is None else key.read_bytes(),
            spool_bytes=spool_mb * 1024 * 1024,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(SidecarProcess(options).run())
    except (GatewayError, OSError, UnicodeDecodeError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
