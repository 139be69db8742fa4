"""CEL in rules: faults with their place, and the same meaning as Google's own evaluator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cel_expr_python import cel

from gateway._dataplane import Policy, PolicyError
from tests.policy.making import LIMITS, decided, document, policy, rule


def faults(changed: dict[str, Any]) -> list[dict[str, Any]]:
    with pytest.raises(PolicyError) as raised:
        Policy(json.dumps(changed))
    found: list[dict[str, Any]] = raised.value.args[0]
    return found


@pytest.mark.parametrize(
    ("when", "line", "column", "words"),
    [
        ("request.rows >", 1, 15, "Syntax error"),
        ("request.rows > 64 &&\n  metadta['x'] == ''", 2, 3, "there is no `metadta`"),
        ("false && request.rows > '64'", 1, 23, "no matching overload"),
        ("request.rows", 1, 8, "wanted bool"),
        ("'x' in lists.untrusted", 1, 13, "there is no list"),
        ("prediction.score > 0.5", 1, 1, "known only to rules on a prediction"),
    ],
)
def test_faults_of_an_expression_have_line_and_column(when: str, line: int, column: int, words: str) -> None:
    """An editor can jump to it."""
    (fault,) = faults(document(rules=[rule(when)]))
    assert fault["path"] == ["routes", 0, "rules", 0, "when"]
    assert (fault["line"], fault["column"]) == (line, column)
    assert words in fault["message"]


def test_every_fault_of_a_document_is_reported_at_once() -> None:
    """One report, not one fault per attempt."""
    changed = document(chain=["spam-v9"], rules=[rule("nobody"), rule("1 +", name="s")], kill_switch="yes")
    paths = [".".join(map(str, fault["path"])) for fault in faults(changed)]
    wanted = ["routes.0.rules.0.when", "routes.0.rules.1.when", "routes.0.chain.0", "routes.0.kill_switch"]
    assert sorted(set(paths)) == sorted(wanted)


@pytest.mark.parametrize(
    "when",
    [
        f"'{'x' * 4096}' == ''",
        "(" * 100 + "true" + ")" * 100,
        "metadata.all(a, metadata.all(b, a == b))",
        "request.model.matches(metadata['x'])",
    ],
)
def test_the_cost_of_a_condition_is_bounded(when: str) -> None:
    """A rule is judged for every call: what could take long is refused when the policy is compiled."""
    assert faults(document(rules=[rule(when)]))


METADATA = {"x-sender": "a@example.org", "x-device": "phone", "x-number": "7", "x-empty": ""}
PARAMS = {"tier": "gold", "dry": True, "count": 3, "temperature": 0.5}
LISTS = {"trusted": ["a@example.org", "b@example.org"]}

EXPRESSIONS = [
    "request.model == 'spam'",
    "request.model != 'spam' || request.id == 'req-1'",
    "request.rows > 2 && request.rows <= 3",
    "request.rows in [1, 2, 3]",
    "metadata['x-sender'] in lists.trusted",
    "!(metadata['x-device'] in lists.trusted)",
    "metadata['x-device'] in ['phone', 'tablet']",
    "'x-empty' in metadata && metadata['x-empty'] == ''",
    "'absent' in metadata",
    "has(metadata.absent)",
    "segment.device == 'phone'",
    "has(segment.device)",
    "request.id.startsWith('req')",
    "request.id.endsWith('2') || request.id.contains('-')",
    "metadata['x-sender'].matches('^[a-z]+@example[.]org$')",
    "request.params.tier == 'gold'",
    "request.params['tier'] != 'gold'",
    "request.params.tier == 3",
    "request.params.dry",
    "request.params.count == 3 && request.params.temperature < 0.75",
    "request.params.temperature >= 0.5",
    "has(request.params.absent)",
    "request.params.absent == 1 || true",
    "false && request.params.absent == 1",
    "request.params.absent == 1",
    "request.params.tier > 3",
    "int(metadata['x-number']) * 2 + 1 == 15",
    "int(metadata['x-device']) == 1",
    "1 / (request.rows - 3) == 1",
    "size(metadata['x-sender']) == 13",
    "size(metadata) == 4",
    "size(lists.trusted) == 2",
    "lists.trusted.exists(one, one.endsWith('.org'))",
    "lists.trusted.all(one, one.startsWith('a'))",
    "lists.trusted.filter(one, one.startsWith('a')).size() == 1",
    "metadata.exists(name, name.startsWith('x-') && metadata[name] == '7')",
    "request.rows > 2 ? route == 'spam' : false",
    "double(request.rows) / 2.0 == 1.5",
    "string(request.rows) == '3'",
    "request.model + '-' + route == 'spam-spam'",
    "request.model < 'tail'",
    "-request.rows == -3",
    "[1, 2, 3].map(x, x * request.rows) == [3, 6, 9]",
    "{'a': 1}['a'] == 1",
    "'ä' + 'ö' == 'äö' && size('äö') == 2",
    "type(request.rows) == int",
    "true",
    "!true",
    "session.calls == 5 && session.calls - 1 == session.answered",
    "session.last_score > 0.5 && session.last_value <= 12.5",
    "session.last_label == 'spam' && session.repeats in [2, 3]",
    "session.last_label.startsWith('h')",
    "double(request.params.count) >= session.remembered.quantity",
    "request.params.temperature > session.remembered['quantity']",
    "has(session.remembered.quantity) && size(session.remembered) == 1",
    "session.remembered.exists(name, session.remembered[name] > 2.0)",
    "stats.flagged_share > 0.5 && stats.calls > 200",
    "stats.score_mean + 3.0 * stats.score_sd < 1.0",
    "stats.predictions > 0 ? stats.fallback_share == 0.0 : true",
]

PAST: dict[str, dict[str, Any]] = {
    "session": {
        "calls": 5,
        "answered": 4,
        "fallbacks": 1,
        "flagged": 2,
        "repeats": 3,
        "last_label": "spam",
        "last_score": 0.7,
        "last_confidence": 0.8,
        "last_value": 12.5,
        "remembered": {"quantity": 2.5},
    },
    "stats": {
        "calls": 300,
        "fallback_share": 0.0,
        "predictions": 290,
        "flagged_share": 0.6,
        "score_mean": 0.5,
        "score_sd": 0.1,
        "value_mean": 0.0,
        "value_sd": 0.0,
    },
}
SESSION = {"idle_s": 1800, "remember": [{"name": "quantity", "from": {"param": "count"}}]}
REMEMBERING = {"session": SESSION, "stats": {"within_s": 600}}


def by_google(text: str) -> bool | None:
    """True, False, or None where it cannot be evaluated."""
    kind = cel.Type
    texts = kind.Map(kind.STRING, kind.STRING)
    variables = {
        "request.model": kind.STRING,
        "request.id": kind.STRING,
        "request.rows": kind.INT,
        "request.params": kind.Map(kind.STRING, kind.DYN),
        "metadata": texts,
        "segment": texts,
        "lists": kind.Map(kind.STRING, kind.List(kind.STRING)),
        "route": kind.STRING,
    }
    types = {int: kind.INT, float: kind.DOUBLE, str: kind.STRING, dict: kind.Map(kind.STRING, kind.DOUBLE)}
    past = {f"{root}.{name}": value for root, fields in PAST.items() for name, value in fields.items()}
    variables |= {name: types[type(value)] for name, value in past.items()}
    data = past | {
        "request.model": "spam",
        "request.id": "req-1",
        "request.rows": 3,
        "request.params": PARAMS,
        "metadata": METADATA,
        "segment": {"device": "phone"},
        "lists": LISTS,
        "route": "spam",
    }
    value = cel.NewEnv(variables=variables).compile(text).eval(data=data).value()
    return value if isinstance(value, bool) else None


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_both_evaluators_agree(text: str) -> None:
    """Settings are checked by Google's CEL and run by ours: they must mean the same."""
    compiled = policy(rules=[rule(text, "answer", backend="ham")], **REMEMBERING)
    answer = {"score": 0.99}
    call = {"id": "req-1", "rows": 3, "metadata": METADATA, "params": PARAMS, "answer": answer, "past": PAST}
    decision = decided(compiled, **call)
    # a rule on the request that cannot be evaluated is skipped
    assert (decision["reason"] == "rule:r") == (by_google(text) is True)
    negated = policy(rules=[rule(f"!({text})", "answer", backend="ham")], **REMEMBERING)
    assert (decided(negated, **call)["reason"] == "rule:r") == (by_google(text) is False)


def test_absent_metadata_reads_as_an_empty_text() -> None:
    """Ours alone: a rule about an optional header cannot fail, where plain CEL has no such key."""
    for text in ("metadata['absent'] == ''", "metadata.absent == ''", "segment.device == ''"):
        compiled = policy(rules=[rule(text, "answer", backend="ham")])
        assert decided(compiled, answer={"score": 0.99})["reason"] == "rule:r"


@pytest.mark.parametrize(
    "text",
    [
        "session.calls == 0 && session.answered == 0 && session.last_label == ''",
        "session.last_score == 0.0 && session.remembered.quantity == 0.0",
        "stats.calls == 0 && stats.flagged_share == 0.0 && stats.value_sd == 0.0",
    ],
)
def test_a_past_of_which_nothing_is_known_is_nought(text: str) -> None:
    """A rule can name it from the first call on."""
    for changes in ({}, {"holdout": {"share": 0.0, "answer": "ham"}}):
        compiled = policy(rules=[rule(text, "answer", backend="ham")], **REMEMBERING, **changes)
        assert decided(compiled, answer={"score": 0.99})["reason"] == "rule:r"


def test_a_rule_that_names_what_is_not_remembered_is_a_fault() -> None:
    """Old documents have neither block: they must not be read as if all were nought."""
    (fault,) = faults(document(rules=[rule("session.calls > 3")]) | {"limits": LIMITS})
    assert fault["path"] == ["routes", 0, "rules", 0, "when"]
    assert "does not remember" in fault["message"]
    without_units = {name: value for name, value in LIMITS.items() if name != "units"}
    (fault,) = faults(document(rules=[rule("session.calls > 3")], **REMEMBERING) | {"limits": without_units})
    assert "limits.units" in fault["message"]


def test_a_past_that_no_unit_can_have_is_refused() -> None:
    """What is said and then not looked at would explain nothing."""
    compiled = policy(rules=[rule("session.calls > 3")], **REMEMBERING)
    for past, words in (
        ({"session": {"calls": 3}}, "names none"),
        ({"loop_guard": {"fallbacks": 3}}, "has no loop_guard"),
        ({"session": {"remembered": {"price": 3.0}}}, "does not remember"),
        ({"session": {"age": 3}}, "unknown field"),
    ):
        with pytest.raises(ValueError, match=words):
            decided(compiled, past=past)
