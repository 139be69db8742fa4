"""Finding the ledger that a command is about: by the settings file, or by the folder of the state."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import Settings

__all__ = ["WhereArgument", "find_ledger", "logged_in", "moment"]

_AGO = re.compile(r"(\d{1,6})([hd])")

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


def logged_in() -> str:
    """Who runs the command, as the system knows them, for the audit trail."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number
        import os

        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"


def moment(option: str, text: str, now_us: int) -> int:
    """A time on the command line (24h and 7d ago, or ISO 8601, UTC) as microseconds since 1970.

    Raises: wrong use, which names the option.
    """
    from gateway.cli.printing import wrong_use

    if ago := _AGO.fullmatch(text):
        return now_us - int(ago[1]) * 3_600_000_000 * (24 if ago[2] == "d" else 1)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise wrong_use(
            f"{option}: found {text!r}, wanted 24h, 7d or a time such as 2026-11-29T12:00"
        ) from None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6)
