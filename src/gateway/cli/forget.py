"""`gateway forget`: takes away what can be found of one unit, and says what cannot; works beside a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.check import FileArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from gateway.ledger.forget import Forgotten

__all__ = ["forget"]


def forget(
    unit: Annotated[
        str, typer.Option("--unit", metavar="ID", help="The unit as calls name it, such as a user's id.")
    ],
    file: FileArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    actor: Annotated[
        str | None,
        typer.Option("--actor", help="Who asks for it, for the audit trail; else who is logged in."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Delete a unit's decisions, payloads, review tasks and labels from the ledger, in one audited transaction.

    Labels by receipt of decisions that were never kept name no unit, and tallies are sums over many: neither can be
    found, nor lead back to anybody.
    """
    from gateway.cli.ledgers import find_ledger, logged_in
    from gateway.cli.printing import console, print_json, wrong_use
    from gateway.errors import LedgerError
    from gateway.ledger import Ledger, Reader
    from gateway.runtime import kept_secrets
    from gateway.runtime.units import unit_hash

    if not unit:
        raise wrong_use("--unit: found nothing, wanted the unit as calls name it")
    url, settings = find_ledger(file, overrides)
    if settings is None:
        raise wrong_use(
            f"{file} is a folder, wanted the settings file: the salt that units are hashed by may be in it"
        )
    Reader.open(url).close()  # its schema is this version's, or nothing is touched
    if settings.secrets.salt is None and not (settings.state_dir / "salt").exists():
        raise LedgerError(
            f"there is no salt in {settings.state_dir} or the settings, so no unit can be found; put back the one "
            "that the ledger was filled with"
        )
    ledger = Ledger(url)
    ledger.open()
    try:
        done = ledger.forget(
            unit_hash(kept_secrets(settings, make=False).salt_hex, unit), unit, actor=actor or logged_in()
        )
    finally:
        ledger.close()
    if json:
        print_json({"removed": done.as_dict(), "not_found": list(NOT_FOUND)})
        return
    out = console()
    for line in _removed(done):
        out.print(line)
    out.print("Not to be found, nor to be led back to anybody:")
    for line in NOT_FOUND:
        out.print(f"- {line}")


NOT_FOUND = (
    "labels by receipt about decisions that were never kept: nothing in them says whose they are",
    "tallies: sums over many, in which this unit's calls stay counted",
    "the audit trail and the policies' authors: who did what to the gateway stays on record",
    "what a running gateway or a sidecar's spool has not written yet: run this again after a few minutes",
    "copies elsewhere: exports, backups, spans and captured payloads that were sent on",
)


def _removed(done: Forgotten) -> list[str]:
    from gateway.cli.printing import count

    if not any(done.as_dict().values()):
        return ["Nothing of this unit is in the ledger."]
    return [
        f"Removed: {count(done.decisions, 'decision')}, {count(done.captures, 'payload')}, "
        f"{count(done.open_tasks, 'open review task')}, {count(done.closed_tasks, 'closed one')}, "
        f"{count(done.labels, 'label')} (corrections counted)"
        + (f", {count(done.others, 'other row')}." if done.others else "."),
        *(
            [
                (
                    f"The name was taken out of {count(done.authored, 'label')} of its own, and of "
                    f"{count(done.renamed, 'other row')} (reviews, gold, what waits)."
                )
            ]
            if done.authored or done.renamed
            else []
        ),
    ]
