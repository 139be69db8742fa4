"""Plain data -> settings and faults in the words of a user.

Where parts are faulty, they are left out and the rest is read, so that what the rest refers to is checked in the same
run. Nobody gets those incomplete settings: they serve the checks only.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.faults import Fault, Path, did_you_mean, listed, nearest, quoted
from gateway.config.fields import Block
from gateway.config.schema import block_at, blocks_with, field_at
from gateway.config.source import UNREADABLE, Source

__all__ = ["Checked", "validate"]

_ROUNDS = 64


Root = TypeVar("Root", bound=Block)


class Checked(Generic[Root]):
    """Settings, perhaps without their faulty parts, and the faults.

    `moved`: where items of a list were left out, the indexes that the rest had in the file.
    """

    def __init__(self) -> None:
        self.settings: Root | None = None
        self.faults: list[Fault] = []
        self.moved: dict[Path, list[int]] = {}

    def original(self, path: Path) -> Path:
        """A path in `settings` as a path in the file."""
        made: Path = ()
        for part in path:
            if isinstance(part, int) and made in self.moved and part < len(self.moved[made]):
                part = self.moved[made][part]
            made = (*made, part)
        return made


def validate(source: Source, root: type[Root]) -> Checked[Root]:
    """Check the data against the models below `root`; every fault is found, none is raised."""
    checked: Checked[Root] = Checked()
    if source.tree is None and source.faults:
        return checked
    tree = {} if source.tree is None else source.tree
    if not isinstance(tree, dict):
        if tree is not UNREADABLE:
            whole = source.fault(
                (),
                f"the file holds {_shown(tree)}",
                f"`name: value`, such as {root.usual}",
            )
            checked.faults.append(whole)
        return checked
    tree = copy.copy(tree) if not source.faults else _copied(tree)
    seen: set[tuple[Path, str]] = set()
    touched: set[Path] = set()
    for round_ in range(_ROUNDS):
        try:
            checked.settings = root.model_validate(tree)
        except ValidationError as error:
            details = _own(error.errors(include_url=False))
            if round_ == 0:
                tree = _copied(tree)
            for detail in details if round_ == 0 else _further(details, source, touched):
                made = _fault(source, detail, root)
                if made is not None and (made.path, made.found) not in seen:
                    seen.add((made.path, made.found))
                    checked.faults.append(made)
            touched |= {_clean(detail["loc"]) for detail in details if detail["type"] != "extra_forbidden"}
            gone = {_removable(tree, detail) for detail in details if not _mended(tree, detail)}
            for path in sorted(gone, key=lambda path: tuple(map(_order, path)), reverse=True):
                _remove(tree, checked, path)
        else:
            break
    return checked


def _own(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that are too short only because what stands in them is faulty: those faults say so themselves."""

    def follows(detail: ErrorDetails) -> bool:
        path = detail["loc"]
        return detail["type"] == "too_short" and any(
            len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in details
        )

    return [detail for detail in details if not follows(detail)]


def _further(details: list[ErrorDetails], source: Source, touched: set[Path]) -> Iterator[ErrorDetails]:
    """Faults that show only now, since a block is looked at as a whole when it has no unknown settings any more.

    What could follow from values that were left out is not among them.
    """
    for detail in details:
        path = detail["loc"]
        inside = (*path, *detail["ctx"]["at"]) if detail["type"] == "wrong" else ()
        precise = len(inside) > len(path) and inside in source.places
        if precise and not any(other[: len(path)] == path for other in touched):
            yield detail


def _order(part: str | int) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, part)


def _copied(value: Any) -> Any:
    """Dicts and lists anew, scalars as they are (a deep copy would lose how numbers were written)."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _at(tree: Any, path: Path) -> Any:
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _clean(path: tuple[Any, ...]) -> Path:
    """pydantic marks a faulty key of a mapping by a last part `[key]`."""
    return path[:-1] if path and path[-1] == "[key]" else path


def _mended(tree: Any, detail: ErrorDetails) -> bool:
    """A number out of bounds is put on the bound, so that the block around it can still be looked at."""
    name = {"less_than_equal": "le", "greater_than_equal": "ge"}.get(detail["type"])
    path = detail["loc"]
    around = _at(tree, path[:-1])
    if name is None or not isinstance(around, dict) or path[-1] not in around:
        return False
    around[path[-1]] = detail["ctx"][name]
    return True


def _removable(tree: Any, detail: ErrorDetails) -> Path:
    """The deepest part of an error's path that the tree has: that is left out."""
    path = _clean(detail["loc"])
    if detail["type"] == "missing":
        path = path[:-1]
    for length in range(len(path), 0, -1):
        parent = _at(tree, path[: length - 1])
        part = path[length - 1]
        if (isinstance(parent, dict) and part in parent) or (
            isinstance(parent, list) and isinstance(part, int) and part < len(parent)
        ):
            return path[:length]
    return ()


def _remove(tree: Any, checked: Checked[Any], path: Path) -> None:
    if not path:
        tree.clear()
        return
    parent = _at(tree, path[:-1])
    part = path[-1]
    if isinstance(parent, dict):
        parent.pop(part, None)
    elif isinstance(parent, list) and isinstance(part, int) and part < len(parent):
        where = checked.original(path[:-1])
        indexes = checked.moved.setdefault(where, list(range(len(parent))))
        del indexes[part]
        del parent[part]


def _shown(value: Any) -> str:
    """A value for a reader."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (int, float)):
        return str(getattr(value, "text", value))[:60]
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a block" if value else "an empty block"


_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a block of `name: value`",
    "mapping": "a block of `name: value`",
    "path": "a path",
}


def _fault(source: Source, detail: ErrorDetails, root: type[Block]) -> Fault | None:
    """One error of pydantic in our words; None where the value could not even be read (that has its fault)."""
    path, kind, value = _clean(detail["loc"]), detail["type"], detail["input"]
    context = detail.get("ctx") or {}
    if _at(source.tree, path) is UNREADABLE or value is UNREADABLE:
        return None
    if len(path) > 1 and path[0] in ("routes", "backends") and _is_setting_of(path, root):
        what = str(path[0]).removesuffix("s")
        found = f"{path[1]} stands where the name of a {what} is wanted"
        return source.fault(path[:2], found, mend=f"indent it under its {what}", key=True)
    if kind == "missing":
        info = field_at(path, root)
        wanted = (info.description or "") if info else ""
        return source.fault(path, f"{path[-1]} is missing", wanted, key=False)
    if kind == "extra_forbidden":
        return _unknown(source, path, root)
    at = source.existing(path)
    key = detail["loc"][-1:] == ("[key]",)
    if kind == "wrong":
        inside = source.existing((*path, *context["at"]))
        return source.fault(
            max(at, inside, key=len), context["found"], context["wanted"], context["mend"], key=key
        )
    wanted, mend = _wanted(kind, path, value, context, root)
    return source.fault(at, f"found {_shown(value)}", wanted, mend, key=key)


def _is_setting_of(path: Path, root: type[Block]) -> bool:
    """Whether a setting of a route or backend stands one level too far to the left."""
    block = block_at(path[:2], root)
    return block is not None and path[1] in block.model_fields


def _wanted(kind: str, path: Path, value: Any, context: dict[str, Any], root: type[Block]) -> tuple[str, str]:
    stem = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_attributes")
    if kind.startswith(("model", "dataclass")):
        block = block_at(path, root)
        usual = block.usual if block else ""
        return f"a block{' such as ' + usual if usual else ''}", ""
    if kind in ("int_from_float", "int_parsing_size"):
        return "a whole number", ""
    if stem in _KINDS:
        mend = ""
        percent = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", value) if isinstance(value, str) else None
        if stem == "float" and percent:
            mend = f"write {float(percent[1]) / 100:g}"
        elif stem == "string" and isinstance(value, bool):
            mend = "put it in quotes"
        elif stem in ("tuple", "list") and isinstance(value, dict):
            mend = "put it in brackets, [{...}], or start each item with a dash"
        elif value is None and len(path) > 0:
            mend = "put a value behind the colon, or take the line out"
        return _KINDS[stem], mend
    if kind == "literal_error":
        names = [
            name
            for name in str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
            if name
        ]
        return listed(names), did_you_mean(str(value), names)
    if kind in ("less_than_equal", "greater_than_equal", "greater_than", "less_than"):
        return _bounds(path, value, kind, context)
    if kind == "finite_number":
        return "a finite number", ""
    if kind == "too_short":
        return f"at least {context['min_length']} {'entry' if context['min_length'] == 1 else 'entries'}", ""
    if kind == "too_long":
        return f"at most {context['max_length']} entries", ""
    if kind == "string_too_short":
        return "a text that is not empty", ""
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters", ""
    if kind == "string_pattern_mismatch":
        info = field_at(path, root)
        return (info.description if info and info.description else "another form"), ""
    return "something else", ""


def _bounds(path: Path, value: Any, kind: str, context: dict[str, Any]) -> tuple[str, str]:
    bound = next(iter(context.values()))
    if bound == 1 and kind == "less_than_equal":
        mend = (
            f"write {value / 100:g} for {value:g} %"
            if isinstance(value, (int, float)) and 1 < value <= 100
            else ""
        )
        return "a number from 0 to 1", mend
    words = {
        "less_than_equal": "at most",
        "greater_than_equal": "at least",
        "greater_than": "more than",
        "less_than": "less than",
    }
    return f"{words[kind]} {bound}", ""


def _unknown(source: Source, path: Path, root: type[Block]) -> Fault:
    name = str(path[-1])
    block = block_at(path[:-1], root)
    if block is None:
        return source.fault(path, f"there is no setting {name} here", key=True)
    names = list(block.model_fields)
    guess = nearest(name, names)
    if guess:
        return source.fault(path, f"there is no setting {name} here", mend=f"did you mean {guess}?", key=True)
    elsewhere = [place or "the top of the file" for place in blocks_with(name, root)]
    mend = f"{name} belongs into {listed(elsewhere)}" if elsewhere else ""
    return source.fault(path, f"there is no setting {name} here", listed(names, 20), mend, key=True)
