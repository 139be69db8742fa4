"""Imports point one way, in Python and in Rust; a wrong one is a design change and should look like it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.structure.tree import CRATE, PACKAGE, imports, package_of, parsed, python_files, room_of, rooms

RANKS = {
    "errors": 0,
    "types": 1,
    "config": 2,
    "quality": 3,
    **dict.fromkeys(("runtime", "ledger"), 4),
    "fleet": 5,
    **dict.fromkeys(("console", "services", "autopilot", "telemetry"), 6),
    "connectors": 7,
    "datasets": 7,
    "cli": 8,
}
"""A room may import what has a lower number, and itself."""

ALONE = {"client": {"types", "errors", "v1"}}
"""The SDK stands apart: what it imports, every caller carries."""

GENERATED_FOR = {"fleet", "services", "console", "cli", "client"}
"""Who speaks the services' messages."""

RUST_RANKS = {
    "error": 0,
    "policy": 1,
    "wire": 2,
    **dict.fromkeys(("mirror", "records", "desk", "units", "fuzz"), 3),
    "forward": 4,
    "listen": 5,
    "python": 6,
    "fuzz": 7,
}


def complaint(room: str, target: str) -> str | None:
    """Why `room` may not import `gateway.<target>`; None if it may."""
    if room == target or target in {"__version__", "__init__"}:
        return None
    if target == "_dataplane":
        return None if room == "runtime" else "only runtime imports the data plane"
    if room in ALONE:
        return None if target in ALONE[room] else f"only {sorted(ALONE[room])} may be imported"
    if target == "v1":
        return None if room in GENERATED_FOR else f"only {sorted(GENERATED_FOR)} speak the services' messages"
    if RANKS[target] < RANKS[room]:
        return None
    return "imports point from cli down to errors"


@pytest.mark.parametrize(
    ("room", "target", "allowed"),
    [
        ("cli", "runtime", True),
        ("telemetry", "runtime", True),
        ("runtime", "_dataplane", True),
        ("services", "_dataplane", False),
        ("runtime", "telemetry", False),
        ("ledger", "runtime", False),
        ("telemetry", "services", False),
        ("config", "quality", False),
        ("errors", "types", False),
        ("types", "errors", True),
        ("client", "config", False),
        ("client", "v1", True),
        ("ledger", "v1", False),
    ],
)
def test_the_rule_itself_tells_right_from_wrong(room: str, target: str, allowed: bool) -> None:
    """A rule that let everything through would pass the test below."""
    assert (complaint(room, target) is None) is allowed


def test_lazy_relative_and_type_checking_imports_are_seen() -> None:
    """The walk must not be fooled by where an import stands."""
    source = (
        "if TYPE_CHECKING:\n    from gateway.cli import main\n"
        "def f():\n    from . import b\n    import gateway.ledger.schema\n    from ..types import X\n"
        "    importlib.import_module('gateway.console')\n"
    )
    assert [name for _, name in imports(ast.parse(source), "gateway.runtime")] == [
        "gateway.cli.main",
        "gateway.runtime.b",
        "gateway.ledger.schema",
        "gateway.types.X",
        "gateway.console",
    ]


def test_python_imports_point_one_way() -> None:
    """cli -> datasets -> {console, services, ...} -> {runtime, ledger} -> quality -> config -> types -> errors."""
    known = RANKS.keys() | ALONE.keys()
    assert {room for room in rooms() if room not in known} == set(), "a new room needs a rank here"
    wrong, seen = [], 0
    for path in python_files(PACKAGE):
        room = room_of(path)
        if room == "__init__":
            continue
        for line, name in imports(parsed(path), package_of(path)):
            first, _, rest = name.partition(".")
            if first != "gateway" or not rest:
                continue
            seen += 1
            why = complaint(room, rest.partition(".")[0])
            if why is not None:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: imports {name}: {why}")
    assert seen > 20
    assert wrong == []


def test_the_root_imports_nothing() -> None:
    """`import gateway` must stay free for the SDK."""
    assert [
        name for _, name in imports(parsed(PACKAGE / "__init__.py")) if name != "__future__.annotations"
    ] == []


CLOCKS_AND_IO = re.compile(
    r"^(os|io|sys|pathlib|time|datetime|random|secrets|socket|ssl|select|asyncio|threading|multiprocessing|subprocess"
    r"|shutil|tempfile|glob|sqlite3|urllib|http|logging|grpc|sqlalchemy|pandas)(\.|$)"
)
FILE_CALLS = {"open", "print", "input", "exec", "eval"}
ARRAY_FILE_CALLS = {
    "load",
    "save",
    "savez",
    "savetxt",
    "loadtxt",
    "genfromtxt",
    "fromfile",
    "memmap",
    "tofile",
}


def quality_faults(tree: ast.AST) -> list[str]:
    """Whatever in a tree reaches beyond its arguments."""
    faults = [f"{line}: imports {name}" for line, name in imports(tree) if CLOCKS_AND_IO.match(name)]
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in FILE_CALLS:
                faults.append(f"{node.lineno}: calls {name}")
            case ast.Call(func=ast.Attribute(attr=name)) if name in ARRAY_FILE_CALLS:
                faults.append(f"{node.lineno}: calls {name}")
            case ast.Attribute(value=ast.Attribute(attr="random"), attr=name) if name != "Generator":
                faults.append(f"{node.lineno}: draws from {name} instead of the generator it was given")
    return faults


def test_quality_is_arithmetic_only() -> None:
    """Arrays in, numbers out: no I/O, no clock, no randomness but a given generator."""
    bad = "import time\nfrom os import path\nnp.random.default_rng()\nopen('x')\nnp.load('y')\n"
    assert len(quality_faults(ast.parse(bad))) == 5
    assert quality_faults(ast.parse("def f(g: np.random.Generator): return g.random(3)")) == []
    files = python_files(PACKAGE / "quality")
    assert files
    assert [f"{path.name}:{fault}" for path in files for fault in quality_faults(parsed(path))] == []


def rust_faults(module: str, text: str) -> list[str]:
    """Paths into the crate that point the wrong way."""
    code = re.sub(r"//[^\n]*", "", text)
    # `use crate::{a, b::c}` names several modules at once.
    grouped = [
        name for group in re.findall(r"crate::\{([^;]*)\}", code) for name in re.findall(r"\b(\w+)", group)
    ]
    named = re.findall(r"\bcrate::(\w+)", code) + [name for name in grouped if name in RUST_RANKS]
    return [
        f"{module} names crate::{name}"
        for name in named
        if name != module and name in RUST_RANKS and RUST_RANKS[name] >= RUST_RANKS[module]
    ]


def test_rust_modules_point_one_way() -> None:
    """python -> listen -> forward -> {mirror, records, desk, units} -> wire -> policy -> error."""
    assert rust_faults("policy", "use crate::wire::frame;") == ["policy names crate::wire"]
    assert rust_faults("mirror", "use crate::{records::Sink, wire};") == ["mirror names crate::records"]
    assert rust_faults("forward", "use crate::mirror; // crate::listen\nuse crate::error::Fault;") == []
    sources = [path for path in sorted(CRATE.rglob("*.rs")) if path.name != "lib.rs"]
    modules = {path.relative_to(CRATE).parts[0].removesuffix(".rs") for path in sources}
    assert modules - RUST_RANKS.keys() == set(), "a new module needs a rank here"
    wrong = [
        f"{path.relative_to(CRATE)}: {fault}"
        for path in sources
        for fault in rust_faults(path.relative_to(CRATE).parts[0].removesuffix(".rs"), path.read_text())
    ]
    assert wrong == []
