"""`--set path=value`: values given on the command line go before the file's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.config.faults import Fault, Path, show_path
from gateway.config.source import UNREADABLE, Place, Source, read_yaml

__all__ = ["apply_overrides"]

_PART = re.compile(r'\.?(?P<name>[^.\[\]"=\s]+)|\[(?P<index>[0-9]{1,6})\]|\.?\[?"(?P<quoted>[^"]*)"\]?')
_WANTED = "path=value, such as routes.spam.confidence.floor=0.9"


def apply_overrides(source: Source, overrides: Sequence[str], env: Mapping[str, str]) -> None:
    """Put each value in, in order; what cannot be put in becomes a fault that shows the `--set`."""
    for override in overrides:
        place = f"--set {override if len(override) <= 80 else override[:77] + '...'}"
        path_text, equals, value_text = override.partition("=")
        path = _path(path_text.strip())
        if not equals or not path:
            found = "this has no =" if not equals else "this starts with no path of a setting"
            source.faults.append(Fault(place, None, None, (), found, _WANTED))
            continue
        at = Place(place, None, None)
        value = read_yaml(place, value_text, env, at=path, place=at)
        source.faults.extend(value.faults)
        if not value.faults:
            value.places.setdefault(path, at)
            _put(source, path, value.tree, value.places, place)
        elif isinstance(source.tree, dict):
            _put(source, path, UNREADABLE, {path: at}, place)


def _path(text: str) -> Path:
    parts: list[str | int] = []
    end = 0
    while end < len(text):
        match = _PART.match(text, end)
        if match is None or match.end() == end:
            return ()
        if match["index"] is not None:
            parts.append(int(match["index"]))
        else:
            parts.append(match["name"] if match["name"] is not None else match["quoted"])
        end = match.end()
    return tuple(parts) if parts and isinstance(parts[0], str) else ()


def _put(source: Source, path: Path, value: Any, places: Mapping[Path, Place], place: str) -> None:
    if source.tree is None and not source.faults:
        source.tree = {}
    around = source.tree
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        here = path[:depth]
        if around is UNREADABLE:
            return
        if isinstance(part, int):
            if not isinstance(around, list) or part > len(around):
                size = f"a list of {len(around)}" if isinstance(around, list) else "no list"
                source.faults.append(
                    Fault(
                        place,
                        None,
                        None,
                        path,
                        f"{show_path(here)} is {size}",
                        "an index that is there, or the next",
                    )
                )
                return
            if part == len(around):
                around.append({})
        elif around is not None and not isinstance(around, dict):
            what = show_path(here) or "the file"
            source.faults.append(
                Fault(place, None, None, path, f"{what} is no block that {part} could stand in")
            )
            return
        if last:
            around[part] = value
        else:
            held = around[part] if isinstance(part, int) else around.get(part)
            if held is None:
                held = [] if isinstance(path[depth + 1], int) else {}
                around[part] = held
            around = held
    for stale in [known for known in source.places if known[: len(path)] == path]:
        del source.places[stale]
    source.places.update(places)
