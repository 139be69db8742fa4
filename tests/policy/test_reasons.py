"""How a call ends, and why: each outcome and reason that a decision can have."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import _dataplane
from gateway.types import Outcome, Reason
from tests.policy.making import decided, explained, policy, rule

SURE, UNSURE = {"score": 0.97}, {"score": 0.6}
REJECT = rule("true", "reject", status="INVALID_ARGUMENT", message="no")


def test_rust_and_python_number_outcomes_and_reasons_alike() -> None:
    """Records hold numbers: both sides must read the same words."""
    assert tuple(outcome.text for outcome in Outcome) == _dataplane.OUTCOMES
    assert tuple(reason.text for reason in Reason) == _dataplane.REASONS


@pytest.mark.parametrize(
    ("route", "call", "outcome", "reason", "backend"),
    [
        ({}, {"answer": SURE}, "model", "ok", "spam-v3"),
        ({}, {"answers": {"spam-v3": UNSURE}, "answer": SURE}, "fallback", "low_confidence", "spam-lite"),
        ({}, {"answer": UNSURE}, "static", "low_confidence", "ham"),
        ({}, {"answer": {"scores": [0.9, 0.9]}}, "static", "invalid_output", "ham"),
        ({}, {"answer": {"label": "eggs"}}, "static", "invalid_output", "ham"),
        ({}, {"answer": {"error": "UNAVAILABLE"}}, "static", "backend_error", "ham"),
        ({}, {"answer": {"error": "INVALID_ARGUMENT"}}, "error", "backend_error", "spam-v3"),
        ({}, {"answer": {"timeout": True}}, "static", "deadline", "ham"),
        ({"kill_switch": True}, {}, "static", "kill_switch", "ham"),
        ({"holdout": {"share": 1.0, "answer": "ham"}}, {}, "holdout", "holdout", "ham"),
        ({"rules": [REJECT]}, {}, "rejected", "rule:r", None),
        ({"rules": [rule("true")]}, {"answer": SURE}, "fallback", "rule:r", "spam-lite"),
        (
            {"rules": [rule("true", "to", backend="spam-v4")]},
            {"answer": SURE},
            "fallback",
            "rule:r",
            "spam-v4",
        ),
        ({"rules": [rule("true", "answer", backend="ham")]}, {}, "static", "rule:r", "ham"),
        ({"chain": ["spam-v3"]}, {"answer": UNSURE}, "error", "low_confidence", None),
    ],
)
def test_each_ending(
    route: dict[str, Any], call: dict[str, Any], outcome: str, reason: str, backend: str | None
) -> None:
    """The words that callers and dashboards go by."""
    decision = decided(policy(**route), **call)
    assert (decision["outcome"], decision["reason"], decision["backend"]) == (outcome, reason, backend)


def test_every_attempt_has_its_own_reason() -> None:
    """The call's reason is why the first choice was not given; the others stand beside it."""
    answers = {"spam-v3": {"timeout": True}, "spam-lite": {"error": "RESOURCE_EXHAUSTED"}}
    decision = decided(policy(), answers=answers)
    assert decision["reason"] == "deadline"
    assert decision["attempts"] == [["spam-v3", "deadline"], ["spam-lite", "backend_error"], ["ham", "ok"]]


def test_a_failed_chain_is_named() -> None:
    """Who gets an error must see what was tried."""
    decision = decided(policy(chain=["spam-v3", "spam-lite"]), answer={"error": "ABORTED"})
    assert decision["status"] == "ABORTED"
    assert decision["message"] == (
        "no backend of the route spam answered: spam-v3 backend_error (ABORTED), spam-lite backend_error (ABORTED)"
    )


def test_a_batch_takes_the_reason_of_the_row_that_missed() -> None:
    """A batch falls back whole: every row says why."""
    decision = decided(policy(), rows=3, answers={"spam-v3": UNSURE}, answer=SURE)
    assert [row["reason"] for row in decision["rows"]] == ["low_confidence"] * 3
    assert [row["prediction"]["score"] for row in decision["rows"]] == [0.97] * 3


def test_a_call_without_a_route_goes_to_the_default_or_nowhere() -> None:
    """What matches no route is not guessed at."""
    decision = decided(policy(), model="other")
    assert (decision["route"], decision["outcome"], decision["status"]) == (None, "error", "NOT_FOUND")
    decision = decided(policy(), model=None, method="/a.B/C")
    assert (decision["route"], decision["status"]) == (None, "UNIMPLEMENTED")


def test_steps_say_in_order_what_happened() -> None:
    """`explain` is read by people, from top to bottom."""
    review = {"queue": "q", "flagged": 0.3, "unflagged": 0.05, "capture": [], "redact": []}
    found = explained(
        policy(review=review), answers={"spam-v3": UNSURE}, answer=SURE, metadata={"x-user-id": "ann"}
    )
    assert [step["step"] for step in found["steps"]] == [
        *["match", "unit", "attempt", "check", "confidence"],
        *["attempt", "check", "confidence", "answer", "review"],
    ]
    assert found["steps"][1]["text"] == 'the unit is "ann"'
    assert found["steps"][4]["text"] == "the confidence 0.6 is under the floor 0.8"
    assert found["decision"]["review_probability"] == pytest.approx(0.3)
    assert found["decision"]["flagged"] is True


@pytest.mark.parametrize(
    "call",
    [
        '{"rows": 0}',
        '{"colour": "red"}',
        "[",
        '{"params": {"a": []}}',
        '{"model": "spam", "answer": {"error": "NO"}}',
    ],
)
def test_a_call_that_makes_no_sense_is_refused_in_words(call: str) -> None:
    """Nothing is explained of what was not understood."""
    with pytest.raises(ValueError, match=r"the call:|the answer of spam-v3:"):
        policy().explain(call)
