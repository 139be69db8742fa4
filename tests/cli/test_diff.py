"""`gateway diff`: a change of settings in words, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import gateway
from tests.config.examples import EVERYTHING, TEN_LINES


def diff(folder: Path, before: str, after: str, *options: str) -> tuple[int, list[str]]:
    (folder / "a.yaml").write_text(before)
    (folder / "b.yaml").write_text(after)
    done = gateway("diff", str(folder / "a.yaml"), str(folder / "b.yaml"), *options)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_what_is_the_same_in_other_words_is_no_change(tmp_path: Path) -> None:
    """Comments, order of keys and defaults that are written out change nothing."""
    written = TEN_LINES.replace(
        "confidence: {floor: 0.8}", "confidence: {floor: 0.80, measure: max_probability}"
    )
    assert diff(tmp_path, TEN_LINES, "# ours\n" + written) == (0, ["nothing changes"])
    assert diff(tmp_path, EVERYTHING, EVERYTHING)[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("floor: 0.8", "floor: 0.85", "confidence.floor: 0.8 -> 0.85: more calls go on along the chain"),
        ("floor: 0.8", "floor: 0.75", "confidence.floor: 0.8 -> 0.75: fewer calls go on along the chain"),
        (
            "chain: [spam-v3, ham]",
            "chain: [ham]",
            "chain: [spam-v3, ham] -> [ham]: ham is asked first instead of spam-v3, spam-v3 is not asked any more",
        ),
        (
            "positive: spam",
            "positive: spam, threshold: 0.4",
            "prediction.threshold: 0.5 -> 0.4: more predictions are flagged",
        ),
        (
            "confidence: {floor: 0.8}",
            "objective: {precision: 0.9}",
            "objective: {precision: 0.9} is new",
        ),
        (
            "confidence: {floor: 0.8}",
            "kill_switch: true",
            "kill_switch: false -> true: no model is asked any more",
        ),
    ],
)
def test_change_of_a_route_says_what_follows(tmp_path: Path, old: str, new: str, line: str) -> None:
    """A number that moved is half of the news."""
    code, lines = diff(tmp_path, TEN_LINES, TEN_LINES.replace(old, new))
    assert code == 1
    assert f"routes.spam.{line}" in lines


def test_every_change_that_matters_says_what_follows(tmp_path: Path) -> None:
    """Above all where the effect is not where the change is."""
    base = TEN_LINES + "identity: {unit: 'metadata:x-user', segments: {}}\n"
    backend = '{grpc: "127.0.0.1:8001", model: spam}'
    expected = {
        base.replace("x-user", "x-account"): "identity.unit.name: x-user -> x-account: units are others than "
        "before: every sticky choice is drawn anew, held-out units meet the model",
        base.replace(
            "    confidence", "    on_miss: rows\n    confidence"
        ): "routes.spam.on_miss: call -> rows: only the rows of a batch that missed go on along the chain",
        base.replace(
            "    confidence", "    check: {range: [0, 1]}\n    confidence"
        ): "routes.spam.check.range: [0, 1] is new: more answers may be invalid",
        base.replace(
            backend, backend[:-1] + ", circuit: null}"
        ): "backends.spam-v3.circuit: as by default is gone: it is asked however often it fails",
        base.replace(
            backend, backend[:-1] + ", retry: {attempts: 1}}"
        ): "backends.spam-v3.retry.attempts: 2 -> 1: other "
        "failed calls are made again than before; the budget begins anew",
        base.replace(
            backend, backend[:-1] + ", max_in_flight: 9}"
        ): "backends.spam-v3.max_in_flight: 256 -> 9: fewer calls at once before the rest is a miss",
    }
    for after, line in expected.items():
        assert line in diff(tmp_path, base, after)[1], line


def test_hedging_is_told_in_words(tmp_path: Path) -> None:
    """Two models must stand in the chain."""
    two = TEN_LINES.replace("chain: [spam-v3, ham]", "chain: [spam-v3, lite, ham]").replace(
        "backends:\n", 'backends:\n  lite: {grpc: "127.0.0.1:8002"}\n'
    )
    on = two + "    hedge: {after_ms: 50}\n"
    assert diff(tmp_path, two, on)[1][0].endswith("the next model is asked as well when the first is late")
    assert diff(tmp_path, on, two)[1][0].endswith("a late model is waited for")
    later = on.replace("50", "80")
    assert diff(tmp_path, on, later)[1] == [
        "routes.spam.hedge.after_ms: 50 -> 80: the next model is asked later"
    ]


def test_larger_share_keeps_its_units_and_a_smaller_one_loses_some(tmp_path: Path) -> None:
    """Who compares before and after must know whose group changed."""
    small = TEN_LINES + "    holdout: {share: 0.02, answer: ham}\n"
    large = small.replace("0.02", "0.05")
    grown = "routes.spam.holdout.share: 0.02 -> 0.05: those chosen before stay, others join"
    assert diff(tmp_path, small, large) == (1, [grown])
    _, lines = diff(tmp_path, large, small)
    assert lines[0].endswith("some of those chosen before leave, none joins")


def test_what_a_reload_does_not_take_is_said(tmp_path: Path) -> None:
    """A change that waits for a restart looks like one that does not work."""
    lines = diff(tmp_path, TEN_LINES, TEN_LINES + "workers: 3\ntelemetry: {trace_share: 0.5}\n")[1]
    assert lines == ["workers: auto -> 3: takes a restart", "telemetry.trace_share: 0.01 -> 0.5"]


def test_rules_go_by_their_names_and_order_counts(tmp_path: Path) -> None:
    """A rule that is put in front of another is not two changed rules."""
    rules = [
        "{name: a, when: 'request.rows > 1', then: next}",
        "{name: b, when: 'request.rows > 2', then: next}",
    ]
    one = TEN_LINES + f"    rules: [{rules[0]}, {rules[1]}]\n"
    other = TEN_LINES + f"    rules: [{rules[1]}, {rules[0]}]\n"
    assert diff(tmp_path, one, other)[1] == [
        "routes.spam.rules: [a, b] -> [b, a]: the rules are tried in another order"
    ]
    only = TEN_LINES + f"    rules: [{rules[1]}]\n"
    assert diff(tmp_path, one, only)[1][0].startswith("routes.spam.rules.a: {name: a, when: request.rows > 1")


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """A diff lands in tickets."""
    lines = diff(
        tmp_path,
        TEN_LINES + "secrets: {salt: aaaaaaaaaaaaaaaaaaaa}\n",
        TEN_LINES + "secrets: {salt: bbbbbbbbbbbbbbbbbbbb}\n",
    )[1]
    effect = "every sticky choice is drawn anew: held-out units meet the model; takes a restart"
    assert lines == [f"secrets.salt: a secret -> a secret: {effect}"]


def test_json_has_the_values(tmp_path: Path) -> None:
    """For a pull request's bot."""
    _, lines = diff(tmp_path, TEN_LINES, TEN_LINES.replace("floor: 0.8", "floor: 0.9"), "--json")
    (change,) = json.loads("\n".join(lines))["changes"]
    assert (change["path"], change["kind"]) == ("routes.spam.confidence.floor", "changed")
    assert (change["before"], change["after"]) == (0.8, 0.9)


def test_faulty_file_is_told_by_its_lines(tmp_path: Path) -> None:
    """Nothing is compared with half a file."""
    (tmp_path / "a.yaml").write_text(TEN_LINES)
    (tmp_path / "b.yaml").write_text(TEN_LINES.replace("floor", "flor"))
    done = gateway("diff", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert done.returncode == 78
    assert "did you mean floor?" in done.stderr


def test_passwords_of_a_ledger_are_shown_to_nobody(tmp_path: Path) -> None:
    """A difference of settings is read by reviewers and kept in logs."""
    before, after = (f"ledger: 'postgresql://u:{word}@h/{name}'\n{TEN_LINES}" for word, name in ["ab", "cd"])
    code, lines = diff(tmp_path, before, after)
    assert code == 1
    assert lines[0].startswith("ledger: postgresql://u:***@h/b -> postgresql://u:***@h/d")
    _, printed = diff(tmp_path, before, after, "--json")
    assert "u:***@h/d" in "".join(printed)
    assert "u:c" not in "".join(printed)


def test_gates_go_by_their_names(tmp_path: Path) -> None:
    """One bound that changes is one line, which says what becomes of the labels so far."""
    before = TEN_LINES + (
        "    gates: [{name: a, metric: recall, at_least: 0.9}, {name: b, metric: precision, at_least: 0.8}]\n"
    )
    after = TEN_LINES + (
        "    gates: [{name: b, metric: precision, at_least: 0.85}, {name: a, metric: recall, at_least: 0.9}]\n"
    )
    assert diff(tmp_path, before, after)[1] == [
        "routes.spam.gates.b.at_least: 0.8 -> 0.85: labels seen so far count no more: the gate begins anew"
    ]
