"""How the commands that steer speak to a running control: its address, trust and token."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.v1.policy_pb2_grpc import PolicyServiceStub

__all__ = ["AddressOption", "CaOption", "TokenOption", "steered"]

AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="GATEWAY_ADDRESS",
        help="A gateway's inference port, a control, or a sidecar that hands on to it.",
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="The token; or in the environment as GATEWAY_TOKEN. None on loopback."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", help="PEM: who signed its certificate; plain text if absent.")
]

WAIT_S = 30.0


def steered(
    address: str,
    token_file: Path | None,
    ca: Path | None,
    act: Callable[[PolicyServiceStub, dict[str, Any]], Any],
) -> Any:
    """What `act` returns, given the stub and what each call is to be given.

    Raises: GatewayError with control's own words, where it refuses or is not there.
    """
    import grpc

    from gateway.errors import GatewayError
    from gateway.v1.policy_pb2_grpc import PolicyServiceStub

    try:
        token = (
            os.environ.get("GATEWAY_TOKEN") if token_file is None else token_file.read_text("ascii").strip()
        )
        trust = None if ca is None else grpc.ssl_channel_credentials(ca.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(f"{error}") from error
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    made = grpc.insecure_channel(address) if trust is None else grpc.secure_channel(address, trust)
    with made as channel:
        try:
            return act(PolicyServiceStub(channel), {"metadata": metadata, "timeout": WAIT_S})
        except grpc.RpcError as error:
            raise GatewayError(f"{address}: {error.details()} ({error.code().name})") from None
