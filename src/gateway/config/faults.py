"""A fault of the settings: where, what was found, what was wanted, and the mend.

A fault is made for somebody who meets the setting for the first time: it names the place as an editor understands it
(`FILE:LINE:COL`), says what stands there and what could stand there instead, and guesses the name that was meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Fault", "Path", "did_you_mean", "listed", "nearest", "quoted", "show_path"]

Path = tuple[str | int, ...]
"""Where a setting stands: keys, and indexes of lists."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, or (as a warning) probably not meant.

    `place` is the file, or the `--set` that brought the value; `line` and `column` count from 1 and are None where
    there is no such place. `found` is a whole clause, `wanted` completes "wanted ...", `mend` is what to do; both may
    be empty.
    """

    place: str
    line: int | None
    column: int | None
    path: Path
    found: str
    wanted: str = ""
    mend: str = ""

    @property
    def where(self) -> str:
        """The place as editors and terminals understand it."""
        if self.line is None:
            return self.place
        return f"{self.place}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        """Everything but the place and the path."""
        words = self.found
        if self.wanted:
            words += f"; wanted {self.wanted}"
        if self.mend:
            words += f" ({self.mend})"
        return words

    def __str__(self) -> str:
        path = show_path(self.path)
        return f"{self.where}: {path}: {self.text}" if path else f"{self.where}: {self.text}"

    def as_dict(self) -> dict[str, str | int | None]:
        """The fault for `--json`."""
        return {
            "place": self.place,
            "line": self.line,
            "column": self.column,
            "path": show_path(self.path),
            "found": self.found,
            "wanted": self.wanted,
            "mend": self.mend,
        }


def show_path(path: Sequence[str | int]) -> str:
    """`routes.spam.chain[1]`; keys that are no plain words stand in quotes: `lists["a b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.match(part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text


def quoted(value: str, limit: int = 60) -> str:
    """A text in double quotes, cut short where it is long, without line breaks."""
    flat = value.encode("unicode_escape").decode("ascii") if not value.isprintable() else value
    return f'"{flat[: limit - 3]}..."' if len(flat) > limit else f'"{flat}"'


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Names for a reader: `a, b or c`; many are cut short."""
    every = list(names)
    if len(every) > limit:
        return ", ".join(every[:limit]) + f" or one of {len(every) - limit} more"
    return " or ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if any is near."""
    every = list(names)
    folded = {known.lower().replace("-", "_"): known for known in reversed(every)}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A mend that names the nearest right name; empty if none is near."""
    guess = nearest(name, names)
    return f"did you mean {guess}?" if guess else ""
