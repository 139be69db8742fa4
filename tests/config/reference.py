"""Writes the tables of docs/settings.md from the models: `python -m tests.config.reference`. A test compares."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic_core import PydanticUndefined

from gateway.config.fields import Block
from gateway.config.schema import every_block
from gateway.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
START, END = "<!-- tables: made from the models -->\n", "<!-- end of tables -->\n"


def tables() -> str:
    lines: list[str] = []
    for path, block in every_block(Settings, ()):
        if block.__name__ in ("From",):
            continue
        about = " ".join((inspect.getdoc(block) or "").split())
        lines += [
            f"### `{'.'.join(path)}`" if path else "### The file",
            "",
            about,
            "",
            "| setting | default | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _rows(block)]
        lines += [""]
    return "\n".join(lines)


def _rows(block: type[Block]) -> Iterator[tuple[str, str, str]]:
    for name, info in block.model_fields.items():
        meaning = info.description or _about(info.annotation)
        if info.is_required():
            default = "must be given"
        elif info.default is not PydanticUndefined and info.default not in (None, ()):
            value = str(info.default).lower() if isinstance(info.default, bool) else f"{info.default}"
            default = f"`{value}`"
        else:
            default = ""
        yield name, default, meaning.replace("|", "\\|").replace("<", "&lt;")


def _about(kind: Any) -> str:
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, Block):
            return (inspect.getdoc(part) or "").split("\n")[0]
        if get_origin(part) is not None and part is not kind:
            return _about(part)
    return ""


def page() -> str:
    """The page as it should be."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(START)
    return before + START + "\n" + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
