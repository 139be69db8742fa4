"""`gateway kill ROUTE`: stop a route's model everywhere, within a second."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.check import JsonOption
from gateway.cli.steering import AddressOption, CaOption, TokenOption, steered

__all__ = ["kill"]


def kill(
    route: Annotated[str, typer.Argument(help="The route whose model is stopped.")],
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    off: Annotated[bool, typer.Option("--off", help="Let the model go on again.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the version.")] = "",
    json: JsonOption = False,
) -> None:
    """Stop a route's model: its calls get what the chain has behind it. It stays stopped, whatever
    settings are published, until `--off`.
    """
    from gateway.cli.printing import print_json
    from gateway.v1.policy_pb2 import KillRequest

    asked = KillRequest(route=route, revive=off, reason=reason)
    version = steered(address, token_file, ca, lambda stub, how: stub.Kill(asked, **how)).version
    if json:
        print_json({"version": version, "route": route, "stopped": not off})
    else:
        print(f"{route} {'goes on' if off else 'is stopped'}: policy {version} is in force")
