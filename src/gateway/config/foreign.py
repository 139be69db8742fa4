"""Settings that somebody sent, and what they may ask of this machine: nothing that its own settings file does not.

A list `file:keys/salt` or `${HOME}` in a route would be read here and shown to whoever may look at the policy. Secrets
may be referred to freely: what they are is told to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.config.faults import Fault, Path, quoted
from gateway.config.source import Source, read_yaml

__all__ = ["SECRETS", "foreign_faults", "is_secret"]

SECRETS: Final[tuple[tuple[str, ...], ...]] = (
    ("secrets", "salt"),
    ("secrets", "receipt_keys"),
    ("access", "*", "token"),
    ("alerts", "secret"),
    ("label_studio", "token"),
    ("label_studio", "webhook_secret"),
    ("telemetry", "events", "token"),
)
"""Every secret of the settings; `*` stands for a name, and what is inside of one is one too."""

_MARK: Final = "\0"
"""Around a variable's name: nothing that settings can mean holds it."""


class _Marked(dict[str, str]):
    """An environment that has every variable, and tells which it was."""

    def get(self, name: str, default: Any = None) -> str:
        return f"{_MARK}{name}{_MARK}"


def is_secret(path: Path) -> bool:
    """Whether a secret stands at this path."""
    return any(
        len(path) >= len(secret)
        and all(want in ("*", part) for want, part in zip(secret, path, strict=False))
        for secret in SECRETS
    )


def foreign_faults(text: str, own: str, name: str) -> list[Fault]:
    """What of `text` refers to this machine otherwise than its settings file `own` does, each with its line.

    Looked at before anything is expanded, as faults of what comes out would tell it.
    """
    source = read_yaml(name, text, _Marked())
    known = {reference for _, reference in _references(read_yaml(name, own, _Marked()))}
    return [
        source.fault(
            path,
            f"{quoted(_shown(reference))} would be looked up on control's machine",
            "what stands so in control's settings file, or the value itself",
        )
        for path, reference in _references(source)
        if reference not in known
    ]


def _references(source: Source) -> Iterator[tuple[Path, str]]:
    for path, value in _texts(source.tree, ()):
        in_list = path[:1] == ("lists",) and value.startswith("file:")
        if in_list or path[:1] == ("descriptors",) or (_MARK in value and not is_secret(path)):
            yield path, value


def _texts(tree: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, (*path, index))


def _shown(reference: str) -> str:
    parts = reference.split(_MARK)
    return "".join(f"${{{part}}}" if index % 2 else part for index, part in enumerate(parts))
