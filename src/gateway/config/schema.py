"""The shape of the settings, asked by path: which block stands there, what may stand in it. Also the JSON schema."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from gateway.config.faults import Path
from gateway.config.fields import Block
from gateway.config.settings import Settings

__all__ = ["block_at", "blocks_with", "every_block", "field_at", "json_schema"]


def block_at(path: Path, root: type[Block] = Settings) -> type[Block] | None:
    """The block that stands at the path below `root`, if it is one."""
    found = _kind_at(path, root)
    return found if isinstance(found, type) and issubclass(found, Block) else None


def field_at(path: Path, root: type[Block] = Settings) -> FieldInfo | None:
    """What the block around says of the setting at the path."""
    if not path or not isinstance(path[-1], str):
        return None
    block = block_at(path[:-1], root)
    return block.model_fields.get(path[-1]) if block else None


def blocks_with(name: str, root: type[Block] = Settings) -> Iterator[str]:
    """Where else a setting of that name may stand, as `routes.<name>.confidence`."""
    for path, block in every_block(root, ()):
        if name in block.model_fields:
            yield ".".join(path)


def json_schema() -> dict[str, Any]:
    """The settings as JSON schema (2020-12), for editors."""
    schema = Settings.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Settings of the model gateway",
        "description": "One YAML file. Every block may be left out; units stand in names; shares and scores are 0-1.",
    }


def _kind_at(path: Path, root: type[Block]) -> Any:
    kind: Any = root
    for part in path:
        if isinstance(kind, type) and issubclass(kind, Block):
            info = kind.model_fields.get(part) if isinstance(part, str) else None
            kind = _inner(info.annotation) if info else None
        elif get_origin(kind) in (dict, Mapping):
            kind = _inner(get_args(kind)[1])
        elif get_origin(kind) is tuple:
            kind = _inner(get_args(kind)[0])
        else:
            return None
    return kind


def _inner(kind: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        origin = get_origin(kind)
        if origin is typing.Annotated:
            kind = get_args(kind)[0]
        elif origin in (types.UnionType, typing.Union):
            kind = next((arm for arm in get_args(kind) if arm is not type(None)), None)
        elif origin is not None and origin.__name__ == "Mapping":
            return dict[get_args(kind)]  # type: ignore[misc]
        else:
            return kind


def every_block(block: type[Block], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[Block]]]:
    """The block and all inside it, with their paths; `<name>` stands for a name of the user's."""
    yield path, block
    for name, info in block.model_fields.items():
        kind = _inner(info.annotation)
        here = (*path, name)
        if get_origin(kind) is dict:
            kind, here = _inner(get_args(kind)[1]), (*here, "<name>")
        elif get_origin(kind) is tuple:
            kind = _inner(get_args(kind)[0])
        if isinstance(kind, type) and issubclass(kind, Block):
            yield from every_block(kind, here)
