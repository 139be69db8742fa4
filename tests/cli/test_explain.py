"""`gateway explain`: what would happen to a call, by the code that decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import gateway
from tests.config.examples import EVERYTHING, TEN_LINES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(TEN_LINES)
    return path


def test_unsure_answer_falls_back_in_numbered_steps(file: Path) -> None:
    """The steps say why the model's answer was not given."""
    done = gateway("explain", str(file), "--model", "spam", "--score", "0.6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(" 1. ")
    assert "=> static (low_confidence), answered by ham" in done.stdout
    assert "attempts: spam-v3:low_confidence, ham:ok" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "outcome", "reason"),
    [
        (["--score", "0.99"], "model", "ok"),
        (["--scores", "0.1,0.9"], "model", "ok"),
        (["--error", "unavailable"], "static", "backend_error"),
        (["--error", "INVALID_ARGUMENT"], "error", "backend_error"),
        (["--timeout"], "static", "deadline"),
        (["--score", "0.99", "--answer", "spam-v3=error:UNAVAILABLE"], "static", "backend_error"),
        (["--score", "0.99", "--set", "routes.spam.kill_switch=true"], "static", "kill_switch"),
        (["--score", "0.99", "--set", "routes.spam.holdout={share: 1, answer: ham}"], "holdout", "holdout"),
    ],
)
def test_what_is_said_to_be_answered_decides(
    file: Path, arguments: list[str], outcome: str, reason: str
) -> None:
    """Every way in which a model can answer or fail can be tried."""
    done = gateway("explain", str(file), "--model", "spam", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    decision = json.loads(done.stdout)["decision"]
    assert (decision["outcome"], decision["reason"]) == (outcome, reason)


def test_metadata_and_parameters_reach_the_rules(tmp_path: Path) -> None:
    """A rule that looks at the caller can be tried without a caller."""
    file = tmp_path / "gateway.yaml"
    file.write_text(EVERYTHING)
    call = [
        "explain",
        str(file),
        "--model",
        "spam",
        "--metadata",
        "x-tenant=acme",
        "--score",
        "0.01",
        "--json",
    ]
    trusted = json.loads(gateway(*call, "--metadata", "x-sender=a@example.org").stdout)["decision"]
    assert (trusted["outcome"], trusted["reason"]) == ("static", "rule:allow-list")
    large = json.loads(gateway(*call, "--metadata", "x-sender=b", "--rows", "65").stdout)["decision"]
    assert (large["outcome"], large["reason"]) == ("rejected", "rule:too-many-rows")


def test_a_caller_can_be_thought_of(file: Path) -> None:
    """Who may call, and what rules see of a certificate, without one."""
    tls = "listen.tls={cert: a.crt, key: a.key, client_ca: ca.crt, allow: ['spiffe://acme/*']}"
    rule = "routes.spam.rules=[{name: batch, when: '\"batch.acme\" in caller.names', then: {answer: ham}}]"
    call = ["explain", str(file), "--model", "spam", "--score", "0.9", "--json", "--set", tls, "--set", rule]
    known = ["--caller", "spiffe://acme/batch", "--caller", "batch.acme"]
    decision = json.loads(gateway(*call, *known).stdout)["decision"]
    assert decision["reason"] == "rule:batch"
    explained = json.loads(gateway(*call, "--caller", "spiffe://evil/batch").stdout)
    assert explained["decision"]["status"] == "PERMISSION_DENIED"
    assert explained["steps"][0]["text"].startswith("spiffe://evil/batch is not among those that may call")
    assert "client certificate" in json.loads(gateway(*call).stdout)["decision"]["message"]


def test_call_without_route_says_which_there_are(file: Path) -> None:
    """A misspelt model name is the likeliest reason."""
    done = gateway("explain", str(file), "--model", "spma", "--score", "0.9")
    assert "there are spam" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--error", "UNAVAIL"], "UNAVAIL is no gRPC status; did you mean UNAVAILABLE?"),
        (["--score", "0.5", "--error", "UNAVAILABLE"], "choose one of"),
        (["--confidence", "0.5"], "--confidence goes with"),
        (["--scores", "a,b"], "a,b is no number"),
        (["--metadata", "x", "--score", "1"], "--metadata x: wanted KEY=VALUE"),
        (["--answer", "spam-v3", "--score", "1"], "wanted BACKEND=ANSWER"),
        (["--answer", "spam-v2=0.4"], "there is no backend spam-v2; did you mean spam-v3?"),
    ],
)
def test_arguments_that_make_no_sense_end_with_2(file: Path, arguments: list[str], wanted: str) -> None:
    """Wrong use is told in words, before anything is looked at."""
    done = gateway("explain", str(file), "--model", "spam", *arguments)
    assert done.returncode == 2
    assert wanted in done.stderr


def test_faulty_settings_end_with_78(file: Path) -> None:
    """Nothing is explained from half of a file."""
    done = gateway("explain", str(file), "--score", "0.5", "--set", "routes.spam.chain=[x]")
    assert done.returncode == 78
    assert 'there is no backend "x"' in done.stderr
    assert done.stdout == ""
