"""What commands print with: colour and tables on a terminal only, JSON that programs can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FAULTY",
    "FOUND",
    "WRONG_USE",
    "console",
    "count",
    "percent",
    "plain_text",
    "print_faults",
    "print_json",
    "wrong_use",
]

FOUND: Final = 1
"""Exit: the command found what it looks for, such as a failed gate."""
WRONG_USE: Final = 2
"""Exit: arguments that make no sense."""
FAULTY: Final = 78
"""Exit: faulty settings (EX_CONFIG)."""


def console(*, to_stderr: bool = False) -> Console:
    """A console that neither wraps (paths stay clickable, lines stay greppable) nor guesses colours."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_faults(faults: Sequence[Any], *, to_stderr: bool = False, word: str = "") -> None:
    """One fault a line, with the place in front as compilers have it."""
    from rich.text import Text

    from gateway.config.faults import Fault, show_path

    out = console(to_stderr=to_stderr)
    for fault in faults:
        if not isinstance(fault, Fault):
            out.print(str(fault))
            continue
        line = Text()
        line.append(f"{fault.where}: ", "dim")
        line.append(word, "yellow")
        path = show_path(fault.path)
        line.append(f"{path}: " if path else "", "bold")
        line.append(fault.found, "yellow" if word else "red")
        line.append(fault.text[len(fault.found) :])
        out.print(line)


def wrong_use(words: str) -> Exception:
    """What to raise for arguments that make no sense: shown with the command's usage, exit 2."""
    import typer

    return typer.BadParameter(words)


def count(number: int, word: str, words: str = "") -> str:
    """`1 route`, `2 routes`."""
    return f"{number} {word if number == 1 else words or word + 's'}"


def plain_text(text: str) -> str:
    """What somebody else wrote, without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def percent(share: float) -> str:
    """A share as people say it: `2 %`."""
    return f"{100 * share:.3g} %"
