"""`gateway policy list | show | publish | roll-back`: what is in force, and what was before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import JsonOption
from gateway.cli.steering import AddressOption, CaOption, TokenOption, steered

if TYPE_CHECKING:
    from gateway.v1.policy_pb2 import Policy

__all__ = ["policy"]

policy = typer.Typer(
    help="Versions of the policy of a gateway or a fleet: look, publish, go back.",
    no_args_is_help=True,
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept with the version.")]


@policy.command("list")
def list_(
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The newest so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """The newest versions, newest first: who made each, when and why."""
    from gateway.cli.printing import print_json
    from gateway.v1.policy_pb2 import PolicyHistoryRequest

    found = steered(
        address, token_file, ca, lambda stub, how: stub.History(PolicyHistoryRequest(limit=limit), **how)
    )
    if json:
        print_json({"policies": [_told(one) for one in found.policies]})
        return
    for one in found.policies:
        stopped = f"  stopped: {', '.join(one.stopped)}" if one.stopped else ""
        print(f"{one.version:>6}  {_time(one.created_us)}  {one.author}  {one.reason}{stopped}")


@policy.command("show")
def show(
    version: Annotated[int, typer.Argument(min=0, help="0: the one in force.")] = 0,
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """The settings of a version; with `--json` also what the data plane runs."""
    from gateway.cli.printing import print_json
    from gateway.v1.policy_pb2 import GetPolicyRequest

    found = steered(
        address, token_file, ca, lambda stub, how: stub.Get(GetPolicyRequest(version=version), **how)
    )
    if json:
        from json import loads

        print_json(_told(found) | {"settings": found.settings, "document": loads(found.document)})
        return
    print(f"# policy {found.version}, {_time(found.created_us)}, {found.author}: {found.reason}")
    print(found.settings, end="" if found.settings.endswith("\n") else "\n")


@policy.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(help="A settings file; what it refers to is read at control.")],
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Make a settings file the policy; every fault is told, and then nothing has changed."""
    from gateway.cli.printing import wrong_use
    from gateway.config.load import file_text
    from gateway.v1.policy_pb2 import PublishPolicyRequest

    text = file_text(file)
    if not isinstance(text, str):
        raise wrong_use(str(text))
    asked = PublishPolicyRequest(settings=text, reason=reason)
    _done(steered(address, token_file, ca, lambda stub, how: stub.Publish(asked, **how)).version, json)


@policy.command("roll-back")
def roll_back(
    version: Annotated[int, typer.Argument(min=1, help="The version to go back to.")],
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Publish an older version once more, as a new one; routes that are stopped stay so."""
    from gateway.v1.policy_pb2 import RollBackPolicyRequest

    asked = RollBackPolicyRequest(version=version, reason=reason)
    _done(steered(address, token_file, ca, lambda stub, how: stub.RollBack(asked, **how)).version, json)


def _done(version: int, json: bool) -> None:
    from gateway.cli.printing import print_json

    if json:
        print_json({"version": version})
    else:
        print(f"policy {version} is in force")


def _told(one: Policy) -> dict[str, Any]:
    return {
        "version": one.version,
        "author": one.author,
        "reason": one.reason,
        "created": _time(one.created_us),
        "stopped": list(one.stopped),
    }


def _time(time_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
