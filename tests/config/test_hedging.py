"""`hedge`: what it holds, what it becomes, and where it does nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway._dataplane import Policy
from gateway.config import Settings, read_text
from gateway.runtime.document import document

TEXT = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001", timeout_ms: 80}
  spam-lite: {grpc: "127.0.0.1:8002"}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: CHAIN
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    hedge: HEDGE
"""


def text(hedge: str, chain: str = "[spam-v3, spam-lite, ham]") -> str:
    return TEXT.replace("HEDGE", hedge).replace("CHAIN", chain)


@pytest.mark.parametrize(
    ("hedge", "made"),
    [
        ("{}", {"after_ms": None, "quantile": 0.95, "share": 0.05}),
        ("{after: p99, share: 0.02}", {"after_ms": None, "quantile": 0.99, "share": 0.02}),
        ("{after_ms: 30}", {"after_ms": 30, "quantile": None, "share": 0.05}),
    ],
)
def test_the_data_plane_takes_it(hedge: str, made: dict[str, Any]) -> None:
    """Defaults stand here, and both sides mean the same."""
    settings = read_text(text(hedge), env={}).settings
    assert isinstance(settings, Settings)
    policy = document(settings, version=1, salt_hex="ab" * 32, receipt_keys=[b"0123456789abcdef"])
    assert policy["routes"][0]["hedge"] == made
    Policy(json.dumps(policy))


@pytest.mark.parametrize(
    ("hedge", "fault"),
    [
        ("{after: p95, after_ms: 3}", "after and after_ms; wanted one of them"),
        ("{after: p42}", 'found "p42"; wanted p90, p95 or p99'),
        ("{share: 2}", "routes.spam.hedge.share"),
        ("{aftr_ms: 3}", "after_ms"),
    ],
)
def test_faults_say_what_is_wanted(hedge: str, fault: str) -> None:
    faults = read_text(text(hedge), env={}).faults
    assert len(faults) == 1
    assert fault in str(faults[0])
    assert faults[0].line == 9


def test_a_route_of_another_method_is_not_hedged() -> None:
    """It may be a stream."""
    changed = text("{}", "[spam-v3, spam-lite]").replace("    prediction", "    #")
    faults = read_text(changed.replace("    chain", "    match: {method: /p.S/M}\n    chain"), env={}).faults
    assert [fault.path for fault in faults] == [("routes", "spam", "hedge")]


@pytest.mark.parametrize(
    ("hedge", "chain", "words"),
    [
        ("{}", "[spam-v3, ham]", "the second of the chain is no model"),
        ("{}", "[spam-v3]", "the chain has one backend"),
        (
            "{after_ms: 80}",
            "[spam-v3, spam-lite]",
            "never late by then: the first backend's timeout_ms is 80",
        ),
        ("{share: 0}", "[spam-v3, spam-lite]", "hedges nothing"),
    ],
)
def test_a_hedge_that_never_happens_is_told(hedge: str, chain: str, words: str) -> None:
    read = read_text(text(hedge, chain), env={})
    assert read.faults == []
    assert any(words in str(warning) for warning in read.warnings), read.warnings
    sound = read_text(text("{}"), env={})
    assert not any("hedge" in str(warning) for warning in sound.warnings)
