"""Captured requests as columns: one of each input's values and one of its shapes; other services' as JSON.

Which inputs there are is known only once all captures were looked at, so they are read twice. A payload was redacted
before it was kept, by the settings of its day; what today's settings redact is taken out here once more.
"""

from __future__ import annotations

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import Settings
from gateway.config.described import OIP
from gateway.datasets.source import Policy, Row
from gateway.datasets.tensors import DTYPES, Tensor, Unreadable, heads, tensors
from gateway.services.readable import Messages

__all__ = ["MOST_INPUTS", "Column", "Payloads", "Redaction", "cut"]

MOST_INPUTS: Final = 256
"""Inputs (by name and datatype) that get columns, the most frequent first: callers name them, and may name anything."""

MOST_NAME: Final = 128
"""Characters of an input's name."""

_COUNTED: Final = 10_000  # distinct inputs that are counted at all
_POLICIES: Final = 8  # whose descriptors are held ready

_PART: Final = re.compile(r'([A-Za-z_]\w*)(?:\[(?:\]|(-?\d+)\]|"((?:[^"\\]|\\.)*)"\]))?(?:\.|$)')


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an input: its values stand in `name`, its shapes in `shape`."""

    input: str
    datatype: str
    name: str
    shape: str


@dataclass(frozen=True, slots=True)
class Redaction:
    """What today's settings take out: by route, and by the backend of people that answered."""

    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Redaction:
        return cls(
            {
                name: route.review.redact
                for name, route in settings.routes.items()
                if route.review is not None
            },
            {name: one.people.redact for name, one in settings.backends.items() if one.people is not None},
        )

    def names(self, route: str, backend: str) -> tuple[str, ...]:
        """`inputs.<name>`, or `request.<path>`."""
        return (*self.routes.get(route, ()), *self.people.get(backend, ()))


@dataclass(slots=True)
class _Read:
    """What a request holds for one row."""

    inputs: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    json: str | None = None


class Payloads:
    """Reads captured requests.

    Args:
        policies: those that made the decisions; their descriptors say what a described service's messages hold.
    """

    def __init__(self, policies: Iterable[Policy], redaction: Redaction) -> None:
        self._documents = {policy.version: policy.document for policy in policies}
        self._ready: OrderedDict[int, tuple[Messages, Mapping[str, str | None]]] = OrderedDict()
        self._redaction = redaction
        self._seen: Counter[tuple[str, str]] = Counter()
        self.columns: tuple[Column, ...] = ()
        """Of inputs, by name; set by `look`."""
        self.has_json = False
        self.is_captured = False
        """Whether any request was captured; set by `look`."""
        self.unread: Counter[str] = Counter()
        """Rows whose request was captured and is not in the data set, or not wholly, by reason."""

    def look(self, captured: Iterable[Row]) -> None:
        """Find out which inputs there are."""
        for row in captured:
            self.is_captured = True
            if row.policy not in self._documents:
                continue
            if self._is_described(row.policy, row.route):
                self.has_json = True
                continue
            hidden = self._hidden(row)
            try:
                found = heads(bytes(row.request))
            except Unreadable:
                continue
            for key in found:
                if (
                    key[0] in hidden
                    or not _fit(key)
                    or (len(self._seen) >= _COUNTED and key not in self._seen)
                ):
                    continue
                self._seen[key] += 1
        kept = sorted(key for key, _ in self._seen.most_common(MOST_INPUTS))
        kinds = Counter(name for name, _ in kept)
        self.columns = tuple(
            Column(name, datatype, f"input.{word}", f"input_shape.{word}")
            for name, datatype in kept
            for word in [name if kinds[name] == 1 else f"{name}:{datatype}"]
        )

    def read(self, rows: Sequence[Row], requests: Mapping[bytes, bytes]) -> dict[str, list[Any]]:
        """Columns of the rows, None where nothing was captured: flat arrays, shapes as lists, JSON as text."""
        made: dict[str, list[Any]] = {}
        for column in self.columns:
            made[column.name], made[column.shape] = [], []
        if self.has_json:
            made["request"] = []
        for row in rows:
            request = requests.get(bytes(row.decision))
            read = _Read() if request is None else self._read(row, request)
            for column in self.columns:
                tensor = read.inputs.get((column.input, column.datatype))
                made[column.name].append(None if tensor is None else tensor.values)
                made[column.shape].append(None if tensor is None else list(tensor.shape))
            if self.has_json:
                made["request"].append(read.json)
        return made

    def _read(self, row: Row, request: bytes) -> _Read:
        if row.policy not in self._documents:
            # By which messages it is to be read went with the policy.
            self.unread["policy_not_kept"] += 1
            return _Read()
        if self._is_described(row.policy, row.route):
            text = self._messages(row.policy).request(row.route, request).json
            if not text:
                self.unread["request_unreadable"] += 1
                return _Read()
            names = self._redaction.names(row.route, row.backend)
            left = cut(text, [name[8:] for name in names if name.startswith("request.")])
            if left is None:
                self.unread["request_withheld"] += 1
            return _Read(json=left)
        hidden = self._hidden(row)
        try:
            found = [one for one in tensors(request, row.row) if one.name not in hidden]
        except Unreadable:
            self.unread["inputs_unreadable"] += 1
            return _Read()
        inputs = {(one.name, one.datatype): one for one in found}
        if not inputs.keys() <= {(column.input, column.datatype) for column in self.columns}:
            self.unread["more_inputs"] += 1
        return _Read(inputs)

    def _hidden(self, row: Row) -> set[str]:
        names = self._redaction.names(row.route, row.backend)
        return {name[7:] for name in names if name.startswith("inputs.")}

    def _is_described(self, version: int, route: str) -> bool:
        method = self._policy(version)[1].get(route)
        return method is not None and method not in (f"{OIP}ModelInfer", f"{OIP}*")

    def _messages(self, version: int) -> Messages:
        return self._policy(version)[0]

    def _policy(self, version: int) -> tuple[Messages, Mapping[str, str | None]]:
        ready = self._ready.get(version)
        if ready is None:
            document = json.loads(self._documents[version])
            methods = {route["name"]: route["match"]["method"] for route in document["routes"]}
            ready = self._ready[version] = (Messages(document), methods)
            if len(self._ready) > _POLICIES:
                self._ready.popitem(last=False)
        self._ready.move_to_end(version)
        return ready


def cut(text: str, paths: Sequence[str]) -> str | None:
    """A message as JSON without what stands at the paths (`customer.email`, `items[].text`, `labels["name"]`).

    None where a path is not understood: then nobody can say what it should have taken out.
    """
    if not paths:
        return text
    value = json.loads(text)
    for path in paths:
        parts, at = [], 0
        while at < len(path):
            found = _PART.match(path, at)
            if found is None:
                return None
            parts.append((found[1], found[2] or _unquoted(found[3])))
            at = found.end()
        _cut(value, parts)
    return json.dumps(value, ensure_ascii=False)


def _cut(value: Any, parts: Sequence[tuple[str, str | None]]) -> None:
    (name, key), rest = parts[0], parts[1:]
    if not isinstance(value, dict) or name not in value:
        return
    inner = value[name]
    if key is not None and isinstance(inner, dict):
        if not rest:
            inner.pop(key, None)
        elif key in inner:
            _cut(inner[key], rest)
    elif not rest or key is not None:
        del value[name]
    else:
        for each in inner if isinstance(inner, list) else [inner]:
            _cut(each, rest)
            # JSON does not say whether this is a message or a map of messages: then it is cut as both.
            if isinstance(each, dict) and all(isinstance(one, dict) for one in each.values()):
                for one in each.values():
                    _cut(one, rest)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\\(.)", r"\1", text)


def _fit(key: tuple[str, str]) -> bool:
    name, datatype = key
    return 1 <= len(name) <= MOST_NAME and name.isprintable() and datatype in DTYPES
