"""Decisions on real messages."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.policy.making import policy, rule
from tests.policy.messages import answer, request


def decide(
    compiled: Any, message: bytes, answers: dict[str, bytes], *metadata: tuple[str, str], **more: Any
) -> dict[str, Any]:
    decision: dict[str, Any] = json.loads(compiled.decide(message, list(metadata), answers, **more))
    return decision


@pytest.mark.parametrize("raw", [True, False])
def test_the_prediction_is_read_from_either_kind_of_contents(raw: bool) -> None:
    """Clients and servers use both."""
    decision = decide(policy(), request(2), {"spam-v3": answer([0.9, 0.05], raw=raw)})
    assert (decision["outcome"], decision["backend"]) == ("model", "spam-v3")
    assert [row["flagged"] for row in decision["rows"]] == [True, False]
    assert [row["prediction"]["label"] for row in decision["rows"]] == ["spam", "ham"]
    assert [row["prediction"]["score"] for row in decision["rows"]] == pytest.approx([0.9, 0.05], abs=1e-6)


def test_a_chain_is_walked_over_messages() -> None:
    """NaN, then silence, then the static answer."""
    decision = decide(policy(), request(1), {"spam-v3": answer([math.nan])})
    assert decision["attempts"] == [
        ["spam-v3", "invalid_output"],
        ["spam-lite", "backend_error"],
        ["ham", "ok"],
    ]
    assert (decision["outcome"], decision["reason"]) == ("static", "invalid_output")


def test_what_is_no_answer_is_invalid_output() -> None:
    """A backend's garbage is a miss, not the caller's error."""
    for garbage in (b"\xff\xff\xff", b"", answer([0.9])[:-3]):
        decision = decide(policy(), request(1), {"spam-v3": garbage, "spam-lite": answer([0.9])})
        assert (decision["outcome"], decision["reason"]) == ("fallback", "invalid_output")


def test_rules_see_parameters_and_inputs_of_the_message() -> None:
    """What CEL sees is what was on the wire."""
    when = (
        "request.params.tier == 'gold' && request.inputs['features'].datatype == 'FP32'"
        " && request.inputs.features.shape == [2, 8] && metadata['x-sender'] in lists.trusted"
    )
    compiled = policy(rules=[rule(when, "answer", backend="ham")])
    sender = ("x-sender", "a@example.org")
    good = {"spam-v3": answer([0.9, 0.9])}
    assert decide(compiled, request(2, tier="gold"), good, sender)["reason"] == "rule:r"
    assert decide(compiled, request(2, tier="lead"), good, sender)["reason"] == "ok"
    assert decide(compiled, request(2, tier="gold"), good)["reason"] == "ok"


def test_the_same_call_is_decided_the_same_way() -> None:
    """Every choice is a hash: nothing depends on when or where it is made."""
    review = {"queue": "q", "flagged": 0.5, "unflagged": 0.5, "capture": [], "redact": []}
    mirror = [{"to": "spam-v4", "share": 0.5, "max_in_flight": 1, "max_bytes": 1, "timeout_ms": 1}]
    seen = set()
    for number in range(64):
        call = (request(1), {"spam-v3": answer([0.9])}, ("gateway-unit", f"user-{number}"))
        twice = [
            decide(policy(review=review, mirror=mirror), *call, decision_id=bytes([number] * 16))
            for _ in range(2)
        ]
        assert twice[0] == twice[1]
        seen.add((twice[0]["rows"][0]["sampled"], bool(twice[0]["mirrors"])))
    assert len(seen) == 4, "review and mirror choose independently"


def test_a_malformed_request_is_refused() -> None:
    """What cannot be read is not decided on."""
    with pytest.raises(ValueError, match=r"ends within|wire|field"):
        policy().decide(request(1)[:-1], [], {})
    with pytest.raises(ValueError, match="no route for the model"):
        policy().decide(request(1, model="other"), [], {})
