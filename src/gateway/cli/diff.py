"""`gateway diff`: what changes between two settings files, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.check import JsonOption

__all__ = ["diff"]


def diff(
    before: Annotated[Path, typer.Argument(help="The settings file as it is.", metavar="A")],
    after: Annotated[Path, typer.Argument(help="The settings file as it will be.", metavar="B")],
    json: JsonOption = False,
) -> None:
    """Say in words what changes from one settings file to another, and what follows from it.

    Defaults count as if they were written. Ends with 0 if nothing changes, with 1 if something does, with 78 if a file
    is faulty.
    """
    from rich.text import Text

    from gateway.cli.printing import FAULTY, FOUND, console, print_faults, print_json
    from gateway.config.changes import changes
    from gateway.runtime.check import check as check_file

    loaded = [check_file(file, machine=False) for file in (before, after)]
    faults = [fault for one in loaded for fault in one.faults]
    first, second = (one.settings for one in loaded)
    if first is None or second is None:
        print_faults(faults, to_stderr=True)
        raise typer.Exit(FAULTY)
    found = changes(first, second)
    if json:
        print_json({"changes": [change.as_dict() for change in found]})
    else:
        out = console()
        colours = {"added": "green", "removed": "red", "changed": "yellow"}
        for change in found:
            out.print(Text(str(change), colours[change.kind]))
        if not found:
            out.print("nothing changes")
    if found:
        raise typer.Exit(FOUND)
