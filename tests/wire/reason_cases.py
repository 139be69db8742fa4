"""The cases of `test_reasons`: a route for each way in which a call can end, and what its caller must be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.wire.servers import Behaviour, Silent, fail, garbage, nan, scores

__all__ = ["CASES", "PREDICTION", "SURE", "Case"]

SURE = scores(0.97)
UNSURE = scores(0.60)
PREDICTION = {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"}


@dataclass(frozen=True)
class Case:
    """A route of its own (`route` over the usual one), what its two model servers do, and what the caller is told.

    `score`: of the answer's first row, where it matters. `meets_main`: whether the first model may be called.
    """

    outcome: str
    reason: str
    backend: str
    attempts: str
    main: Behaviour = SURE
    spare: Behaviour = SURE
    rows: int = 1
    status: str = "OK"
    message: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    route: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 10.0
    score: float | None = None
    meets_main: bool = True


RULE = {"name": "allow-list", "when": 'metadata["x-sender"] in lists.trusted', "then": {"answer": "ham"}}
TRUSTED = (("x-sender", "a@example.org"),)

CASES: dict[str, Case] = {
    "model-ok": Case("model", "ok", "main", "main:ok", score=0.97),
    "fallback-low-confidence": Case(
        "fallback",
        "low_confidence",
        "spare",
        "main:low_confidence,spare:ok",
        main=UNSURE,
        spare=scores(0.02),
        score=0.02,
    ),
    "static-low-confidence": Case(
        "static",
        "low_confidence",
        "ham",
        "main:low_confidence,spare:low_confidence,ham:ok",
        main=UNSURE,
        spare=UNSURE,
        score=0.0,
    ),
    "batch-low-confidence": Case(
        "fallback,fallback,fallback",
        "low_confidence,low_confidence,low_confidence",
        "spare",
        "main:low_confidence,spare:ok",
        main=scores(0.97, 0.60, 0.97),
        rows=3,
    ),
    "batch-ok": Case("model,model,model", "ok,ok,ok", "main", "main:ok", rows=3),
    "rule-answers": Case(
        "static",
        "rule:allow-list",
        "ham",
        "ham:ok",
        metadata=TRUSTED,
        route={"rules": [RULE]},
        score=0.0,
        meets_main=False,
    ),
    "rule-not-hit": Case(
        "model", "ok", "main", "main:ok", metadata=(("x-sender", "b@example.org"),), route={"rules": [RULE]}
    ),
    "rule-goes-on": Case(
        "fallback",
        "rule:always",
        "spare",
        "main:rule:always,spare:ok",
        route={
            "rules": [{"name": "always", "on": "prediction", "when": 'backend == "main"', "then": "next"}]
        },
    ),
    "rule-reroutes": Case(
        "fallback",
        "rule:elsewhere",
        "spare",
        "spare:ok",
        route={"rules": [{"name": "elsewhere", "when": "request.rows == 1", "then": {"to": "spare"}}]},
        meets_main=False,
    ),
    "rule-overrules-prediction": Case(
        "static",
        "rule:no-spam",
        "ham",
        "main:rule:no-spam,ham:ok",
        route={
            "rules": [
                {
                    "name": "no-spam",
                    "on": "prediction",
                    "when": 'prediction.label == "spam" && prediction.score > 0.9',
                    "then": {"answer": "ham"},
                }
            ]
        },
        score=0.0,
    ),
    "rule-rejects": Case(
        "rejected",
        "rule:too-many",
        "",
        "",
        rows=3,
        status="INVALID_ARGUMENT",
        message="at most 2 rows",
        route={
            "rules": [
                {
                    "name": "too-many",
                    "when": "request.rows > 2",
                    "then": {"reject": "INVALID_ARGUMENT", "message": "at most 2 rows"},
                }
            ]
        },
        meets_main=False,
    ),
    "invalid-nan": Case("fallback", "invalid_output", "spare", "main:invalid_output,spare:ok", main=nan()),
    "invalid-garbage": Case(
        "fallback", "invalid_output", "spare", "main:invalid_output,spare:ok", main=garbage()
    ),
    "invalid-range": Case(
        "fallback", "invalid_output", "spare", "main:invalid_output,spare:ok", main=scores(1.7)
    ),
    "backend-error": Case(
        "fallback",
        "backend_error",
        "spare",
        "main:backend_error,spare:ok",
        main=fail(grpc.StatusCode.INTERNAL),
    ),
    "backend-dead": Case(
        "fallback",
        "backend_error",
        "spare",
        "dead:backend_error,spare:ok",
        route={"chain": ["dead", "spare", "ham"]},
        meets_main=False,
    ),
    "deadline": Case(
        "fallback",
        "deadline",
        "spare",
        "hasty:deadline,spare:ok",
        main=Silent(),
        route={"chain": ["hasty", "spare", "ham"]},
    ),
    "caller-deadline": Case(
        "static",
        "deadline",
        "ham",
        "main:deadline,ham:ok",
        main=Silent(),
        route={"chain": ["main", "ham"]},
        timeout_s=0.6,
    ),
    "overload": Case(
        "fallback",
        "overload",
        "spare",
        "narrow:overload,spare:ok",
        main=Silent(then=SURE),
        route={"chain": ["narrow", "spare", "ham"]},
    ),
    "kill-switch": Case(
        "static",
        "kill_switch",
        "ham",
        "main:kill_switch,spare:kill_switch,ham:ok",
        route={"kill_switch": True},
        score=0.0,
        meets_main=False,
    ),
    "holdout": Case(
        "holdout",
        "holdout",
        "ham",
        "ham:ok",
        route={"holdout": {"share": 1.0, "answer": "ham"}},
        score=0.0,
        meets_main=False,
    ),
    "error": Case(
        "error",
        "backend_error",
        "",
        "main:backend_error",
        main=fail(grpc.StatusCode.DATA_LOSS, "the weights are gone"),
        route={"chain": ["main"]},
        status="DATA_LOSS",
        message="the weights are gone",
    ),
    "error-of-caller": Case(
        "error",
        "backend_error",
        "main",
        "main:backend_error",
        main=fail(grpc.StatusCode.INVALID_ARGUMENT, "the shape is wrong"),
        status="INVALID_ARGUMENT",
        message="the shape is wrong",
    ),
    "error-of-chain": Case(
        "error",
        "backend_error",
        "",
        "main:backend_error,spare:low_confidence",
        main=fail(grpc.StatusCode.INTERNAL),
        spare=UNSURE,
        route={"chain": ["main", "spare"]},
        status="INTERNAL",
        message="main",
    ),
}
