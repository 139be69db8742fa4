"""`gateway test`: cases of a policy, as promtool has them for alerts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import gateway
from tests.config.examples import TEN_LINES

SETTINGS = (
    TEN_LINES
    + """\
    holdout: {share: 0.02, answer: ham}
    rules:
      - {name: too-many, on: request, when: 'request.rows > 64', then: {reject: INVALID_ARGUMENT, message: at most 64}}
"""
)

GOOD = """\
cases:
  - name: a sure answer is the model's
    call: {model: spam}
    answers: {spam-v3: 0.97}
    expect: {route: spam, outcome: model, reason: ok, backend: spam-v3, label: spam, score: 0.97, flagged: true}
  - name: an unsure answer becomes ham
    call: {model: spam}
    answers: {spam-v3: [0.4, 0.6]}
    expect: {outcome: static, reason: low_confidence, attempts: [spam-v3, "ham:ok"], status: OK}
  - name: a model that is down is not the caller's trouble
    call: {model: spam}
    answers: {spam-v3: UNAVAILABLE}
    expect: {outcome: static, reason: backend_error, backend: ham}
  - name: a model of which nothing is said is down
    call: {model: spam}
    expect: {reason: backend_error}
  - name: who is held out never meets the model
    call: {model: spam, metadata: {gateway-unit: ada}}
    others: 0.97
    given: {holdout: true}
    expect: {outcome: holdout, attempts: [ham]}
  - name: a large batch is refused
    call: {model: spam, rows: 65}
    expect: {outcome: rejected, reason: "rule:too-many", status: INVALID_ARGUMENT, message: at most}
  - name: the kill switch stops the model
    call: {model: spam}
    others: 0.97
    settings: routes.spam.kill_switch=true
    expect: {outcome: static, reason: kill_switch}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, Path]:
    settings = tmp_path / "gateway.yaml"
    settings.write_text(SETTINGS)
    return str(settings), tmp_path / "cases.yaml"


def test_cases_that_come_as_expected_pass_whatever_chance_would_say(files: tuple[str, Path]) -> None:
    """A holdout of 2 % must not fail one case in fifty."""
    settings, cases = files
    cases.write_text(GOOD)
    for _ in range(3):
        done = gateway("test", settings, str(cases))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == "7 cases passed\n"


def test_failed_case_says_where_what_and_why(files: tuple[str, Path]) -> None:
    """Line of the expectation, what was found, and the steps that led there."""
    settings, cases = files
    cases.write_text(
        GOOD.replace("outcome: static, reason: low_confidence", "outcome: model, reason: low_confidence")
    )
    done = gateway("test", settings, str(cases))
    assert done.returncode == 1
    assert f"{cases}:6:5: failed: an unsure answer becomes ham" in done.stdout
    assert f"outcome: found static; wanted model  ({cases}:9:23)" in done.stdout
    assert "the confidence 0.6 is under the floor 0.8" in done.stdout
    assert done.stdout.endswith("1 of 7 cases failed\n")


@pytest.mark.parametrize(
    ("expect", "found"),
    [
        ("{backend: ham}", "found spam-v3; wanted ham"),
        ("{attempts: [ham]}", "found spam-v3:ok; wanted ham"),
        ("{attempts: ['spam-v3:deadline']}", "found spam-v3:ok; wanted spam-v3:deadline"),
        ("{flagged: false}", "found true; wanted false"),
        ("{score: 0.96}", "found 0.97; wanted 0.96"),
        ("{label: ham}", "found spam; wanted ham"),
        ("{status: UNAVAILABLE}", "found OK; wanted UNAVAILABLE"),
        ("{message: no}", "found none; wanted no"),
        ("{outcomes: [fallback]}", "found model; wanted fallback"),
        ("{segment: device=phone}", "wanted device=phone"),
        ("{review_probability: 0.5}", "found 0; wanted 0.5"),
    ],
)
def test_every_expectation_can_fail(files: tuple[str, Path], expect: str, found: str) -> None:
    """An expectation that nothing can break is worse than none."""
    settings, cases = files
    cases.write_text(
        f"cases: [{{name: one, call: {{model: spam}}, answers: {{spam-v3: 0.97}}, expect: {expect}}}]\n"
    )
    done = gateway("test", settings, str(cases))
    assert done.returncode == 1, done.stdout + done.stderr
    assert found in done.stdout


def test_rules_that_no_case_makes_hold_are_named(files: tuple[str, Path]) -> None:
    """What no case has seen hold, nobody knows to work."""
    settings, cases = files
    cases.write_text("cases: [{name: one, call: {model: spam}, others: 0.97, expect: {outcome: model}}]\n")
    done = gateway("test", settings, str(cases))
    assert done.returncode == 0
    assert "no case makes the rule too-many of the route spam hold" in done.stdout
    found = json.loads(gateway("test", settings, str(cases), "--json").stdout)
    assert found["untried_rules"] == [{"route": "spam", "rule": "too-many"}]
    assert (found["passed"], found["failed"]) == (1, 0)
    assert found["cases"][0]["decision"]["backend"] == "spam-v3"


def test_faults_of_a_file_of_cases_are_shown_all_at_once(files: tuple[str, Path]) -> None:
    """A case with a misspelt name must not pass, nor fail as if the policy were wrong."""
    settings, cases = files
    cases.write_text(
        """\
cases:
  - name: one
    call: {modle: spam}
    answers: {ham: UNAVAILBLE}
    expect: {outcome: model}
  - call: {model: spam}
"""
    )
    done = gateway("test", settings, str(cases))
    wanted = (
        "wanted a score, a list of scores, a gRPC status, timeout, or a block such as {label: spam} "
        "(did you mean UNAVAILABLE?)"
    )
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"{cases}:3:12: cases[0].call.modle: there is no setting modle here (did you mean model?)",
        f'{cases}:4:20: cases[0].answers.ham: "UNAVAILBLE"; {wanted}',
        f"{cases}:6:5: cases[1].name: name is missing; wanted what the case is about, in words",
        f"{cases}:6:5: cases[1].expect: expect is missing",
    ]


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ("{name: a, answers: {spam-v4: 1}, expect: {outcome: model}}", "there is no backend spam-v4"),
        ("{name: a, expect: {backend: spam-v4}}", "did you mean spam-v3?"),
        ("{name: a, expect: {route: spma}}", "did you mean spam?"),
        ("{name: a, expect: {reason: 'rule:too-mny'}}", "did you mean too-many?"),
        ("{name: a, expect: {reason: low_confidnce}}", "did you mean low_confidence?"),
        ("{name: a, expect: {attempts: ['spam-v3:okay']}}", '"okay" is no reason'),
        ("{name: a, expect: {outcome: modal}}", "did you mean model?"),
        ("{name: a, expect: {}}", "nothing is expected"),
        ("{name: a, answers: {spam-v3: {}}, expect: {outcome: model}}", "an answer without anything in it"),
        (
            "{name: a, answers: {spam-v3: {rows: [timeout]}}, expect: {outcome: model}}",
            "a row that fails by itself",
        ),
        ("{name: a, expect: {outcomes: [modal]}}", "did you mean model?"),
        (
            "{name: a, answers: {spam-v3: {score: 1, timeout: true}}, expect: {outcome: model}}",
            "score and timeout; wanted one of them",
        ),
        ("{name: a, call: {params: {n: [1]}}, expect: {outcome: model}}", "a parameter that is a list"),
    ],
)
def test_what_cases_refer_to_must_be_there(files: tuple[str, Path], case: str, fault: str) -> None:
    """Names, reasons and answers are checked before anything is tried."""
    settings, cases = files
    cases.write_text(f"cases: [{case}]\n")
    done = gateway("test", settings, str(cases))
    assert done.returncode == 78, done.stdout
    assert fault in done.stderr


def test_rows_of_a_batch_are_answered_and_expected_one_by_one(files: tuple[str, Path]) -> None:
    """Where rows go different ways, a case must be able to say which."""
    settings, cases = files
    cases.write_text(
        """\
cases:
  - name: rows
    call: {model: spam, rows: 3}
    answers: {spam-v3: {rows: [0.97, 0.6, {score: 0.01}]}}
    settings: [routes.spam.on_miss=rows]
    expect: {outcomes: [model, static, model], attempts: ["spam-v3:low_confidence", "ham:ok"]}
  - name: whole
    call: {model: spam, rows: 3}
    answers: {spam-v3: {rows: [0.97, 0.6, 0.01]}}
    expect: {outcomes: [static, static, static]}
"""
    )
    done = gateway("test", settings, str(cases))
    assert done.returncode == 0, done.stdout + done.stderr


def test_faulty_settings_of_a_case_fail_that_case(files: tuple[str, Path]) -> None:
    """`settings:` goes through the same checks as the file."""
    settings, cases = files
    cases.write_text(
        "cases: [{name: one, settings: routes.spam.kil_switch=true, expect: {outcome: model}}]\n"
    )
    done = gateway("test", settings, str(cases))
    assert done.returncode == 1
    assert "did you mean kill_switch?" in done.stdout


def test_only_some_cases(files: tuple[str, Path]) -> None:
    """While one is being mended, the others need not be read."""
    settings, cases = files
    cases.write_text(GOOD)
    done = gateway("test", settings, str(cases), "--only", "LARGE", "-v")
    assert done.returncode == 0
    assert f"{cases}:22:5: passed: a large batch is refused" in done.stdout
    assert gateway("test", settings, str(cases), "--only", "nobody").returncode == 2
