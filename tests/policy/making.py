"""Policy documents that tests start from, and calls thought of against them."""

from __future__ import annotations

import copy
import json
from typing import Any

from gateway._dataplane import Policy

LIMITS = {
    "buffer_bytes": 65536,
    "replay_bytes": 4194304,
    "answer_bytes": 16777216,
    "request_head_bytes": 65536,
    "max_rows": 1024,
    "units": 1000,
}

DOCUMENT: dict[str, Any] = {
    "version": 7,
    "salt": "00112233445566778899aabbccddeeff",
    "receipt_keys": ["aabb"],
    "default_backend": None,
    "identity": {
        "unit": {"metadata": "x-user-id"},
        "segments": [{"name": "device", "from": {"metadata": "x-device"}}],
    },
    "lists": {"trusted": ["a@example.org", "b@example.org"]},
    "limits": LIMITS,
    "trace_share": 0.01,
    "backends": [
        {
            "name": name,
            "kind": "grpc",
            "endpoints": ["127.0.0.1:8001"],
            "model": "spam",
            "version": None,
            "timeout_ms": None,
            "max_in_flight": 256,
            "connect_timeout_ms": 300,
        }
        for name in ("spam-v3", "spam-lite", "spam-v4")
    ]
    + [{"name": "ham", "kind": "static", "label": "ham", "score": 0.0, "scores": None, "value": None}],
    "routes": [
        {
            "name": "spam",
            "match": {"model": "spam", "method": None, "metadata": {}},
            "chain": ["spam-v3", "spam-lite", "ham"],
            "deadline_ms": None,
            "prediction": {
                "scores": "probabilities",
                "label": None,
                "confidence": None,
                "value": None,
                "classes": ["ham", "spam"],
                "positive": "spam",
                "threshold": 0.5,
                "datatype": "FP32",
            },
            "check": {"range": [0, 1], "sum": 1.0, "sum_tolerance": 0.001, "labels": None},
            "confidence": {
                "measure": "max_probability",
                "floor": 0.8,
                "per_label": {},
                "per_segment": {},
            },
            "rules": [],
            "holdout": None,
            "mirror": [],
            "review": None,
            "kill_switch": False,
        }
    ],
}


def document(**route: Any) -> dict[str, Any]:
    """The document, its route changed."""
    changed = copy.deepcopy(DOCUMENT)
    changed["routes"][0].update(route)
    return changed


def policy(**route: Any) -> Policy:
    return Policy(json.dumps(document(**route)))


def rule(
    when: str, kind: str = "next", *, on: str = "request", name: str = "r", **then: Any
) -> dict[str, Any]:
    return {"name": name, "on": on, "when": when, "then": {"kind": kind, **then}}


def explained(compiled: Policy, **call: Any) -> dict[str, Any]:
    """Steps and decision of a call to the model `spam`."""
    found: dict[str, Any] = json.loads(compiled.explain(json.dumps({"model": "spam", **call})))
    return found


def decided(compiled: Policy, **call: Any) -> dict[str, Any]:
    decision: dict[str, Any] = explained(compiled, **call)["decision"]
    return decision
