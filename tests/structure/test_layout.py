"""What every file and every room owes its reader."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.structure.tree import GENERATED, PACKAGE, ROOT, parsed, python_files, rooms

LONGEST_FILE = 400


def test_no_source_file_is_longer_than_400_lines() -> None:
    """Longer ones hold two thoughts; generated code is exempt."""
    sources = [
        path
        for folder in ("src", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".pyi", ".rs", ".proto"} and not {"target", ".venvs"} & set(path.parts)
    ]
    ours = [path for path in sources if GENERATED not in path.parents]
    lengths = {str(path.relative_to(ROOT)): path.read_bytes().count(b"\n") for path in ours}
    assert len(lengths) > 50
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_every_module_says_why_it_exists() -> None:
    """The first lines of a file are its docstring."""
    files = python_files(PACKAGE) + python_files(ROOT / "tests")
    silent = [path for path in files if path.stat().st_size and not ast.get_docstring(parsed(path))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


@pytest.mark.parametrize("room", rooms())
def test_a_room_opens_with_its_page(room: str) -> None:
    """What comes in, what goes out, what it never does; and what it exports is there."""
    module = importlib.import_module(f"gateway.{room}")
    page = module.__doc__ or ""
    assert all(f"{word}:" in page for word in ("In", "Out", "Never")), (
        "a room's page has In:, Out: and Never:"
    )
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []


def test_the_modules_beside_the_rooms_export_what_they_say() -> None:
    """errors and types are the words of the design; a star import must give exactly them."""
    for name in ("gateway", "gateway.errors", "gateway.types"):
        module = importlib.import_module(name)
        assert [word for word in module.__all__ if not hasattr(module, word)] == []
