"""What a control says when another policy is in force."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.cli.control_process import ControlProcess
from gateway.config import read_text
from gateway.ledger import Ledger
from gateway.services.changes import Changes
from gateway.services.policies import InForce

SETTINGS = """\
listen: {control: "127.0.0.1:8081"}
backends: {m: {grpc: "127.0.0.1:1"}}
routes: {spam: {match: {model: spam}, chain: [m], deadline_ms: 250}}
"""


def test_what_a_published_policy_changes_is_told_and_what_wants_a_restart_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As `gateway serve` tells it: who publishes another control port must not take it for done."""
    first, second = (
        read_text(text, folder=tmp_path).settings
        for text in (SETTINGS, SETTINGS.replace("8081", "8082").replace("250", "300"))
    )
    assert first is not None
    assert second is not None
    process = ControlProcess(tmp_path / "g.yaml", ())
    process._settings, process._ledger = first, Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    process._policies, process._versions = Changes(), Changes()
    with caplog.at_level(logging.INFO, "gateway.cli.control_process"):
        process._takes_over(InForce(2, second, "", frozenset(), {}, {}, {"routes": []}))
        told = {record.getMessage().partition(":")[0]: record.levelno for record in caplog.records}
        assert told["listen.control"] == logging.WARNING
        assert told["routes.spam.deadline_ms"] == logging.INFO
        caplog.clear()
        process._takes_over(InForce(3, second, "", frozenset(), {}, {}, {"routes": []}))
    assert [record.getMessage() for record in caplog.records] == ["policy in force"]
