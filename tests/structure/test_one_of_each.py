"""What several commands need is there once: of two, one gets the mend and the other keeps the fault."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from gateway.cli.ledgers import logged_in
from tests.structure.tree import PACKAGE, parsed, python_files


def test_who_is_logged_in_is_asked_in_one_place() -> None:
    """`getpass.getuser` raises in containers that run as a number; commands must not end by that."""
    users = [
        str(path.relative_to(PACKAGE))
        for path in python_files(PACKAGE)
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Import) and any(name.name == "getpass" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "getpass")
    ]
    assert users == ["cli/ledgers.py"]


@pytest.mark.parametrize("error", [KeyError("uid not found: 65532"), OSError("no username")])
def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The audit trail has somebody in it all the same; Python 3.13 made the KeyError an OSError."""

    def nobody() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nobody)
    assert logged_in().startswith("uid ")


@pytest.mark.parametrize("name", ["falling", "plain_text", "SECRET_FIELDS"])
def test_a_helper_is_written_once(name: str) -> None:
    """Whatever is kept secret, ordered or shown on a terminal is so everywhere."""
    found: Counter[str] = Counter()
    for path in python_files(PACKAGE):
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name.lstrip("_")] += 1
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id.lstrip("_")] += 1
    assert found[name] == 1
