"""`gateway descriptors`: a server's own descriptors, for routes that read its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["descriptors"]


def descriptors(
    address: Annotated[
        str, typer.Argument(help='Where the server listens: "HOST:PORT" or "unix:/path".', metavar="ADDRESS")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.", metavar="FILE")],
    service: Annotated[
        list[str],
        typer.Option("--service", metavar="PACKAGE.SERVICE", help="Only this one; may be repeated."),
    ] = [],  # noqa: B006  typer copies it
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Speak TLS, and trust these certificates (PEM)."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="For everything together.")] = 10.0,
) -> None:
    """Ask a server for its descriptors by reflection, and write them to a file.

    The file stands in the settings under `descriptors`: routes read the server's messages by it. A server without
    reflection: protoc --include_imports --descriptor_set_out=FILE makes the same of its .proto files.
    """
    import grpc

    from gateway.cli.printing import console, wrong_use
    from gateway.config.fields import endpoint_fault
    from gateway.services.reflection import ask_descriptors

    if address.startswith("dns:") or endpoint_fault(address) is not None:
        raise wrong_use(f'{address} is no address; wanted "HOST:PORT" or "unix:/path"')
    try:
        roots = None if ca is None else ca.read_bytes()
    except OSError as error:
        raise wrong_use(f"cannot read {ca}: {error.strerror}") from None
    if roots is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(roots))
    with channel:
        made, names = ask_descriptors(channel, service, timeout_s)
    try:
        out.write_bytes(made)
    except OSError as error:
        raise wrong_use(f"cannot write {out}: {error.strerror}") from None
    console().print(f"{out} is written, with {', '.join(names)}. In the settings: descriptors: [{out}]")
