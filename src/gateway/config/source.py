"""YAML text -> plain data, and where each of it stands.

Why not ruamel's own constructor: it stops at the first doubled key, knows no place for a scalar inside a flow list,
and types a scalar before the environment was put in. So only its composer is used (nodes with marks), and the plain
data is made here: YAML 1.2's core schema, no tags, every fault collected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.expand import expand, has_variable
from gateway.config.faults import Fault, Path, quoted

__all__ = ["MOST_NODES", "NumberText", "Place", "Source", "WholeText", "read_yaml", "scalars"]

MOST_NODES = 200_000
"""Nodes a file may unfold to: aliases of aliases grow without bound."""

_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_STR = "tag:yaml.org,2002:str"
_STANDARD = "tag:yaml.org,2002:"


class WholeText(int):
    """A whole number that remembers how it was written, since `version: 007` is a text in the end."""

    text: str


class NumberText(float):
    """The same for `version: 1.10`."""

    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value and its key stand, counted from 1; `start` and `end` are the value's characters in `text`."""

    place: str
    line: int | None
    column: int | None
    key_line: int | None = None
    key_column: int | None = None
    start: int = 0
    end: int = 0
    style: str | None = None
    expanded: bool = False


@dataclass(slots=True)
class Source:
    """A file as plain data (`tree`), with the place of each path and the faults met so far."""

    name: str
    text: str = ""
    tree: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def block(self, *path: str) -> dict[str, Any]:
        """The block at a path as it stands in the file; empty if there is none."""
        tree = self.tree
        for part in path:
            tree = tree.get(part) if isinstance(tree, dict) else None
        return tree if isinstance(tree, dict) else {}

    def place(self, path: Path) -> Place:
        """The place of a path, or of the nearest thing around it that stands in the file."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return Place(self.name, 1 if self.text else None, 1)

    def existing(self, path: Path) -> Path:
        """As much of the path as stands in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return path[:length]
        return ()

    def fault(self, path: Path, found: str, wanted: str = "", mend: str = "", *, key: bool = False) -> Fault:
        """A fault at a path's value, or at its key."""
        at = self.place(path)
        line, column = at.line, at.column
        if key and path in self.places and at.key_line is not None:
            line, column = at.key_line, at.key_column
        return Fault(at.place, line, column, path, found, wanted, mend)


def typed(text: str) -> Any:
    """A plain scalar's value by YAML 1.2's core schema."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) <= 400 and _INT.match(text):
        whole = WholeText(text, 0 if text[:2] in ("0o", "0x") else 10)
        whole.text = text
        return whole
    if _FLOAT.match(text) or _SPECIAL.match(text):
        number = NumberText(text.replace(".", "") if _SPECIAL.match(text) else text)
        number.text = text
        return number
    return text


def scalars(tree: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every scalar of plain data with its path, as text."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from scalars(value, (*path, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from scalars(value, (*path, index))
    elif tree is not None:
        yield path, str(getattr(tree, "text", tree))


def read_yaml(
    name: str, text: str, env: Mapping[str, str], *, at: Path = (), place: Place | None = None
) -> Source:
    """Read one YAML document.

    `at` is the path its root stands at; `place`, where given, stands for every place in it (a value of `--set` has no
    line). Never raises for any text: what cannot be read is among the faults.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    source = Source(name, text)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        source.faults.append(_syntax_fault(name, error, place))
        return source
    except RecursionError:
        source.faults.append(_plain_fault(name, place, "nested too deeply to be read"))
        return source
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        source.faults.append(_plain_fault(name, place, f"this is not YAML: {words[:200]}"))
        return source
    if root is not None:
        builder = _Builder(source, env, place)
        try:
            source.tree = builder.value(root, at, key=None)
        except RecursionError:
            source.faults.append(_plain_fault(name, place, "nested too deeply to be read"))
    return source


def _plain_fault(name: str, place: Place | None, found: str) -> Fault:
    at = place or Place(name, 1, 1)
    return Fault(at.place, at.line, at.column, (), found)


def _syntax_fault(name: str, error: Any, place: Place | None) -> Fault:
    mark = error.problem_mark or error.context_mark
    found = "this is not YAML: " + " ".join(str(error.problem or error.context or "it breaks off").split())
    if error.context and error.problem:
        found += f" ({' '.join(str(error.context).split())}"
        start = error.context_mark
        found += (
            f" that starts in line {start.line + 1})" if start and mark and start.line != mark.line else ")"
        )
    mend = ""
    if "\\t" in found:
        mend = "indent with spaces"
    elif "mapping values are not allowed" in found:
        mend = "put the value in quotes if it holds a colon, and look at the indentation"
    if place is not None or mark is None:
        at = place or Place(name, 1, 1)
        return Fault(at.place, at.line, at.column, (), found, mend=mend)
    return Fault(name, mark.line + 1, mark.column + 1, (), found, mend=mend)


class _Builder:
    """Walks the nodes once per path."""

    def __init__(self, source: Source, env: Mapping[str, str], place: Place | None) -> None:
        self.source = source
        self.env = env
        self.fixed = place
        self.nodes = 0
        self.open: set[int] = set()

    def value(self, node: Any, path: Path, key: Any) -> Any:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            if self.nodes == MOST_NODES + 1:
                self._note(path, f"aliases make this more than {MOST_NODES} values", "write fewer of them")
            return UNREADABLE
        self.source.places[path] = self._place(node, key)
        if id(node) in self.open:
            self._note(path, f"the alias *{node.anchor} holds itself", "write the value out")
            return UNREADABLE
        kind = type(node).__name__
        if not str(node.tag).startswith(_STANDARD):
            self._note(path, f"a tag {quoted(str(node.tag))}", "take it out: settings have no tags")
            return UNREADABLE
        if kind == "ScalarNode":
            return self._scalar(node, path)
        self.open.add(id(node))
        try:
            if kind == "SequenceNode":
                return [self.value(item, (*path, index), None) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        first: dict[str, Any] = {}
        merged: list[tuple[Any, Any]] = []
        for key, value in node.value:
            if type(key).__name__ != "ScalarNode":
                self._note(path, "a key that is a list or a block", "write a plain name as the key", key)
                continue
            if key.tag == f"{_STANDARD}merge":
                merged.append((key, value))
                continue
            name = str(key.value)
            if name in first:
                line = first[name].start_mark.line + 1
                self._note(
                    (*path, name),
                    f"the key stands here a second time, first in line {line}",
                    "keep one of them",
                    key,
                )
                continue
            first[name] = key
            made[name] = self.value(value, (*path, name), key)
        for key, value in merged:
            for name, item in self._merge(key, value, path).items():
                made.setdefault(name, item)
        return made

    def _merge(self, key: Any, node: Any, path: Path) -> dict[str, Any]:
        """`<<: *defaults`, or a list of such; what stands in the block itself goes before."""
        blocks = node.value if type(node).__name__ == "SequenceNode" else [node]
        made: dict[str, Any] = {}
        for block in blocks:
            if type(block).__name__ != "MappingNode" or id(block) in self.open:
                self._note(
                    path, "<< that merges something else than a block", "write <<: *name of a block", key
                )
                continue
            held = dict(self.source.places)
            self.open.add(id(block))
            for name, item in self._mapping(block, path).items():
                made.setdefault(name, item)
            self.open.discard(id(block))
            self.source.places.update(held)
        return made

    def _scalar(self, node: Any, path: Path) -> Any:
        text = str(node.value)
        expanded = False
        if has_variable(text):
            text, faults = expand(text, self.env)
            expanded = True
            for found, mend in faults:
                self._note(path, found, mend)
            if faults:
                return UNREADABLE
        if node.style is not None:
            return text
        value = typed(text)
        if not expanded and node.tag == _STR and not isinstance(value, str):
            return str(text)  # `!!str 3`
        return value

    def _place(self, node: Any, key: Any) -> Place:
        if self.fixed is not None:
            return self.fixed
        start, end = node.start_mark, node.end_mark
        if start.index == end.index and key is not None:
            # nothing behind the colon: the composer puts it where the next thing starts
            start = end = key.start_mark
        style = getattr(node, "style", None)
        text = str(node.value) if isinstance(node.value, str) else ""
        return Place(
            self.source.name,
            start.line + 1,
            start.column + 1,
            key.start_mark.line + 1 if key is not None else None,
            key.start_mark.column + 1 if key is not None else None,
            start.index,
            end.index,
            style,
            has_variable(text),
        )

    def _note(self, path: Path, found: str, mend: str, node: Any = None) -> None:
        if node is not None and self.fixed is None:
            mark = node.start_mark
            fault = Fault(self.source.name, mark.line + 1, mark.column + 1, path, found, mend=mend)
        else:
            fault = self.source.fault(path, found, mend=mend)
        self.source.faults.append(fault)


class _Unreadable:
    """Stands where a value could not be read: a fault is noted already, so no further one is wanted for it."""

    def __repr__(self) -> str:
        return "UNREADABLE"


UNREADABLE = _Unreadable()
