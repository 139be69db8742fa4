"""Python and Rust share two closed lists and one page of signatures; both sides are compared with the built module."""

from __future__ import annotations

import ast
import inspect

import gateway
from gateway import _dataplane
from gateway.types import Outcome, Reason, Stratum
from tests.structure.tree import PACKAGE


def test_outcomes_and_reasons_have_the_same_numbers_on_both_sides() -> None:
    """A record carries the number; a shift by one would rename every decision."""
    assert tuple(_dataplane.OUTCOMES) == tuple(outcome.text for outcome in sorted(Outcome))
    assert tuple(_dataplane.REASONS) == tuple(reason.text for reason in sorted(Reason))
    assert tuple(_dataplane.STRATA) == tuple(stratum.text for stratum in sorted(Stratum))
    assert [int(outcome) for outcome in sorted(Outcome)] == list(range(len(_dataplane.OUTCOMES)))
    assert [int(reason) for reason in sorted(Reason)] == list(range(len(_dataplane.REASONS)))


def test_the_extension_is_of_this_version() -> None:
    """A stale build beside new Python is the hardest fault to see."""
    assert _dataplane.__version__ == gateway.__version__


def stub() -> dict[str, set[str]]:
    """Public names of the stub; for classes with their public methods and attributes."""
    names: dict[str, set[str]] = {}
    for node in ast.parse((PACKAGE / "_dataplane.pyi").read_text()).body:
        match node:
            case ast.ClassDef(name=name, body=body):
                members = {part.name for part in body if isinstance(part, ast.FunctionDef)}
                members |= {
                    part.target.id
                    for part in body
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                }
                names[name] = {member for member in members if not member.startswith("_")}
            case ast.FunctionDef(name=name):
                names[name] = set()
            case ast.AnnAssign(target=ast.Name(id=name)) if name not in {"__all__"}:
                names[name] = set()
    return {
        name: members for name, members in names.items() if not name.startswith("_") or name == "__version__"
    }


def test_the_stub_shows_what_the_extension_has() -> None:
    """Type checkers and readers see the stub, callers meet the module."""
    built = {
        name: value
        for name, value in vars(_dataplane).items()
        if not name.startswith("_") or name == "__version__"
    }
    shown = stub()
    assert shown.keys() == built.keys()
    for name, members in shown.items():
        if inspect.isclass(built[name]) and not issubclass(built[name], BaseException):
            public = {member for member in vars(built[name]) if not member.startswith("_")}
            assert members == public, name
