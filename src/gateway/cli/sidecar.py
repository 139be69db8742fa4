"""`gateway sidecar --control HOST:PORT`: the gateway beside a model server, steered by a control elsewhere.

Its arguments are read by argparse: typer brings pydantic along, 10 MB that each sidecar would hold for nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run", "sidecar"]

SMALL = {"OPENBLAS_NUM_THREADS": "1", "MIMALLOC_ARENA_EAGER_COMMIT": "0"}
"""Read when the libraries are loaded: no threads for a linear algebra that is never asked for, and no memory ahead of
need."""


def sidecar() -> None:
    """Serve inference by the policies of a control until SIGTERM; `gateway sidecar --help` tells more."""
    run(sys.argv[2:])


def run(arguments: Sequence[str]) -> None:
    """Serve until told to stop; ends the process with 1 where it cannot, with 2 on wrong use."""
    said = _parser().parse_args(arguments)
    if (said.cert is None) != (said.key is None):
        _parser().error("--cert and --key go together")
    if said.rules is not None and not said.rules.is_dir():
        _parser().error(f"--rules {said.rules} is no folder")
    for name, value in SMALL.items():
        os.environ.setdefault(name, value)

    import asyncio
    import socket

    from gateway.cli.sidecar_memory import few_arenas

    few_arenas()
    from gateway.cli.sidecar_process import SidecarOptions, SidecarProcess
    from gateway.errors import GatewayError
    from gateway.telemetry import configure_logs

    configure_logs(said.log_level)
    try:
        options = SidecarOptions(
            controls=tuple(one.strip() for part in said.control for one in part.split(",") if one.strip()),
            state_dir=said.state_dir.absolute(),
            name=said.name or socket.gethostname(),
            inference=said.inference,
            admin=said.admin,
            workers=said.workers,
            token=None if said.token_file is None else said.token_file.read_text("ascii").strip(),
            ca=None if said.ca is None else said.ca.read_bytes(),
            cert=None if said.cert is None else said.cert.read_bytes(),
            key=None if said.key is None else said.key.read_bytes(),
            spool_bytes=said.spool_mb * 1024 * 1024,
            rules=None if said.rules is None else said.rules.absolute(),
        )
        asyncio.run(SidecarProcess(options).run())
    except (GatewayError, OSError, UnicodeDecodeError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway sidecar", description="Serve inference by the policies of a control until SIGTERM."
    )
    add = parser.add_argument
    where = "HOST:PORT of a control; more than once, or with commas, for several"
    add("--control", required=True, action="append", metavar="HOST:PORT", help=where)
    kept = "folder of the last policy and of records while control is away (state)"
    add("--state-dir", type=Path, default=Path("state"), help=kept)
    add("--name", help="for people; the host's name if absent")
    add("--inference", metavar="HOST:PORT", help="or unix:/path, instead of the settings'")
    add("--admin", metavar="HOST:PORT", help="instead of the settings'; none for none")
    add("--workers", type=int, help="threads that forward calls, instead of the settings'")
    add("--token-file", type=Path, help="the token of a name with the role sidecar")
    add("--ca", type=Path, help="PEM: who signed control's certificate; plain text if absent")
    add("--cert", type=Path, help="PEM: the sidecar's certificate, where control wants one")
    add("--key", type=Path, help="PEM: its private key")
    add(
        "--spool-mb",
        type=int,
        default=256,
        help="records on disk while control is away; beyond, dropped (256)",
    )
    add(
        "--rules",
        type=Path,
        metavar="DIR",
        help="folder of the modules that rules in Python name; none run without",
    )
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    add("--log-level", default="INFO", choices=levels, help="INFO if absent")
    return parser
