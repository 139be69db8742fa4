"""The tree of errors: drawn as it is, stable in its codes, and every class met by a test and raised by somebody."""

from __future__ import annotations

import ast
import inspect
import re

import grpc
import pytest

from gateway import errors
from gateway.errors import GatewayError
from tests.structure.tree import PACKAGE, ROOT, parsed, python_files

CODES = {
    "GatewayError": ("internal", grpc.StatusCode.INTERNAL),
    "SettingsError": ("faulty_settings", grpc.StatusCode.INVALID_ARGUMENT),
    "ReceiptError": ("bad_receipt", grpc.StatusCode.INVALID_ARGUMENT),
    "LabelError": ("bad_label", grpc.StatusCode.INVALID_ARGUMENT),
    "LabelToolError": ("label_tool", grpc.StatusCode.FAILED_PRECONDITION),
    "LedgerError": ("ledger", grpc.StatusCode.FAILED_PRECONDITION),
    "LedgerUnavailable": ("ledger_unavailable", grpc.StatusCode.UNAVAILABLE),
    "LeaseLost": ("lease_lost", grpc.StatusCode.FAILED_PRECONDITION),
    "TooLate": ("too_late", grpc.StatusCode.FAILED_PRECONDITION),
    "NotAllowed": ("not_allowed", grpc.StatusCode.PERMISSION_DENIED),
    "NotFound": ("not_found", grpc.StatusCode.NOT_FOUND),
    "PolicyConflict": ("policy_conflict", grpc.StatusCode.ABORTED),
    "Forbidden": ("forbidden", grpc.StatusCode.PERMISSION_DENIED),
    "FeedbackUnsent": ("feedback_unsent", grpc.StatusCode.UNAVAILABLE),
    "RateLimited": ("rate_limited", grpc.StatusCode.RESOURCE_EXHAUSTED),
    "QualityError": ("quality", grpc.StatusCode.INVALID_ARGUMENT),
    "DataSetError": ("data_set", grpc.StatusCode.FAILED_PRECONDITION),
}
"""Dashboards match on the codes: a change here breaks somebody's alert."""


def tree() -> dict[str, type[GatewayError]]:
    found = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    return {name: value for name, value in found.items() if issubclass(value, GatewayError)}


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def test_codes_and_statuses_are_those_promised() -> None:
    """A new class must be entered here, an old one must not change."""
    found = {name: (error.code, error.grpc_status) for name, error in tree().items()}
    assert found == {name: (code, status.value[0]) for name, (code, status) in CODES.items()}
    assert len({code for code, _ in found.values()}) == len(found)
    assert sorted(errors.__all__) == sorted(found)


def test_the_drawing_shows_the_tree() -> None:
    """The docstring is what people read; it must show every class under its parent."""
    drawn: dict[str, str | None] = {"GatewayError": None}
    depths = {0: "GatewayError"}
    for indent, name in re.findall(r"^ {4}([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4 + 1
        drawn[name], depths[depth] = depths[depth - 1], name
    assert drawn == {
        name: error.__base__.__name__ if error is not GatewayError and error.__base__ else None
        for name, error in tree().items()
    }


@pytest.mark.parametrize("name", sorted(tree().keys() - {"GatewayError"}))
def test_every_error_has_a_case(name: str) -> None:
    """Some test of its room expects it with `pytest.raises`; otherwise nobody knows that its text helps."""
    cases = [
        path
        for path in python_files(ROOT / "tests")
        if "structure" not in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and names_in(node.func) & {"raises"} and name in names_in(node)
    ]
    assert cases, f"no test expects {name}"


@pytest.mark.parametrize("name", sorted(tree().keys() - {"GatewayError"}))
def test_every_error_is_raised_by_somebody(name: str) -> None:
    """A class that nothing raises is a promise that nothing keeps."""
    raisers = [
        path
        for path in python_files(PACKAGE)
        if path.name != "errors.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and name in names_in(node.func)
    ]
    assert raisers, f"nothing makes a {name}"
