"""`gateway acts list | approve | refuse | undo`: what the gateway did by itself, and what people make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import JsonOption
from gateway.cli.steering import AddressOption, CaOption, TokenOption, steered

if TYPE_CHECKING:
    from gateway.v1.policy_pb2 import Act

__all__ = ["acts"]

acts = typer.Typer(
    help="What the gateway did by itself about failed gates: look, approve, refuse, undo.",
    no_args_is_help=True,
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept with the act.")]
EntryArgument = Annotated[
    int, typer.Argument(min=1, help="The act's number, as `gateway acts list` shows it.")
]


@acts.command("list")
def list_(
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    route: Annotated[str, typer.Option("--route", metavar="NAME", help="One route only.")] = "",
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what waits for an answer.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The newest so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """The newest acts, oldest of them first: what, why, by whom, and which policy it made. Exit 1 with `--waiting` when
    something waits.
    """
    from gateway.cli.printing import print_json
    from gateway.v1.policy_pb2 import ActsRequest

    asked = ActsRequest(route=route, waiting=waiting, limit=limit)
    found = steered(address, token_file, ca, lambda stub, how: stub.Acts(asked, **how)).acts
    if json:
        print_json({"acts": [_told(one) for one in found]})
    else:
        for one in found:
            print(_line(one))
    if waiting and found:
        raise typer.Exit(1)


@acts.command("approve")
def approve(
    entry: EntryArgument,
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Do what was proposed."""
    _answer(entry, "APPROVE", "", address, token_file, ca, json)


@acts.command("refuse")
def refuse(
    entry: EntryArgument,
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Leave what was proposed; it is not proposed again for the same failure."""
    _answer(entry, "REFUSE", reason, address, token_file, ca, json)


@acts.command("undo")
def undo(
    entry: EntryArgument,
    address: AddressOption = "127.0.0.1:8080",
    token_file: TokenOption = None,
    ca: CaOption = None,
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Take back what was done: the route is as it was before, but for what has changed since."""
    _answer(entry, "UNDO", reason, address, token_file, ca, json)


def _answer(entry: int, answer: str, reason: str, address: str, token_file: Any, ca: Any, json: bool) -> None:
    from gateway.cli.printing import print_json
    from gateway.v1.policy_pb2 import AnswerActRequest

    asked = AnswerActRequest(id=entry, answer=AnswerActRequest.Answer.Value(answer), reason=reason)
    made = steered(address, token_file, ca, lambda stub, how: stub.AnswerAct(asked, **how))
    if json:
        print_json(_told(made))
    else:
        print(_line(made))
    if made.state == "failed":
        raise typer.Exit(1)


def _line(one: Act) -> str:
    policy = f"  policy {one.policy_before} -> {one.policy_after}" if one.policy_after else ""
    of = f" (of {one.of})" if one.of else ""
    said = f"{one.route}  {one.act} {one.state}{of}  {one.actor}{policy}"
    return f"{one.id:>6}  {_time(one.time_us)}  {said}\n        {one.words}"


def _told(one: Act) -> dict[str, Any]:
    return {
        "id": one.id,
        "time": _time(one.time_us),
        "route": one.route,
        "cause": one.cause,
        "act": one.act,
        "state": one.state,
        "words": one.words,
        "actor": one.actor,
        "policy_before": one.policy_before or None,
        "policy_after": one.policy_after or None,
        "of": one.of or None,
    }


def _time(time_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
