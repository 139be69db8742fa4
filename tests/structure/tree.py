"""The sources as syntax trees, and who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gateway"
CRATE = ROOT / "src" / "dataplane" / "src"
GENERATED = PACKAGE / "v1"


def python_files(under: Path) -> list[Path]:
    """All of ours; generated code is not."""
    return sorted(path for path in under.rglob("*.py") if GENERATED not in path.parents)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def room_of(path: Path) -> str:
    """The first name below the package: a folder, or a module beside the folders."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").removesuffix(".pyi")


def rooms() -> list[str]:
    """Folders that hold code of ours."""
    return sorted({room_of(path) for path in python_files(PACKAGE) if path.parent != PACKAGE})


def imports(tree: ast.AST, package: str = "gateway") -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import: lazy ones in functions, those for type checkers, and by string."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = module or ""
                if level:
                    parts = package.split(".")[: len(package.split(".")) - level + 1]
                    base = ".".join([*parts, *([module] if module else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name


def package_of(path: Path) -> str:
    """The package that a file's relative imports start from."""
    return ".".join(("gateway", *path.relative_to(PACKAGE).parent.parts))
