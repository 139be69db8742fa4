"""Finding the ledger that a command is about: by the settings file, or by the folder of the state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import Settings

__all__ = ["WhereArgument", "find_ledger"]

WhereArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE_OR_STATE_DIR", help="The settings file, or the folder of the state."),
]


def find_ledger(where: Path, overrides: list[str]) -> tuple[str, Settings | None]:
    """The ledger's URL, and the settings where `where` is their file.

    Raises: SettingsError; LedgerError when there is no ledger's file.
    """
    from gateway.errors import LedgerError

    settings = None
    if where.is_dir():
        url = f"sqlite:///{where.absolute() / 'ledger.db'}"
    else:
        from gateway.config import load

        settings = load(where, overrides)
        url = settings.ledger_url
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not file.exists():
        # opening would make an empty one
        raise LedgerError(f"there is no ledger at {file}; `gateway serve` makes it when it starts")
    return url, settings
