"""`gateway init`: a settings file to start with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("gateway.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented settings file to start with."""
    from gateway.cli.printing import console, wrong_use

    text = files("gateway.config").joinpath("starter.yaml").read_text("utf-8")
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise wrong_use(f"{file} is there already; --force writes over it") from None
    except OSError as error:
        raise wrong_use(f"cannot write {file}: {error.strerror}") from None
    console().print(f"{file} is written. Put your model's address in it, then: gateway check {file}")
