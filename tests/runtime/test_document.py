"""Settings as the data plane reads them."""

from __future__ import annotations

import json
from typing import Any

from gateway._dataplane import Policy
from gateway.config import Settings, read_text
from gateway.runtime.document import FIRST_SHARES, ReviewShares, document, names, settings_path
from tests.config.examples import EVERYTHING, TEN_LINES


def made(text: str, **more: Any) -> dict[str, Any]:
    settings = read_text(text, env={}).settings
    assert isinstance(settings, Settings)
    return document(settings, version=7, salt_hex="ab" * 32, receipt_keys=[b"0123456789abcdef"], **more)


def test_data_plane_takes_what_the_checks_let_through() -> None:
    """A file that is called good compiles: both sides mean the same by every field."""
    for text in (TEN_LINES, EVERYTHING, "backends: {a: {grpc: 'h:1'}}\ndefault_backend: a\n"):
        assert Policy(json.dumps(made(text))).version == 7


def test_route_takes_the_model_of_its_name_unless_told_otherwise() -> None:
    """Ten lines suffice, and a route by method is not narrowed by accident."""
    text = """
backends: {a: {grpc: "h:1"}}
routes:
  plain: {chain: [a]}
  tenant: {match: {metadata: {x-tenant: t}}, chain: [a]}
  other: {match: {model: m}, chain: [a]}
  method: {match: {method: /p.S/M}, chain: [a]}
"""
    matches = [route["match"] for route in made(text)["routes"]]
    assert [(match["model"], match["method"]) for match in matches] == [
        ("plain", None),
        ("tenant", None),
        ("m", None),
        (None, "/p.S/M"),
    ]


def test_every_field_is_there_even_where_nothing_is_set() -> None:
    """The data plane has no defaults of its own."""
    policy = made(TEN_LINES)
    route = policy["routes"][0]
    assert set(policy) == {
        *("version", "salt", "receipt_keys", "default_backend", "identity", "lists", "limits", "trace_share"),
        *("dns", "descriptors", "backends", "routes", "allow"),
    }
    assert set(route) == {
        *(
            "name",
            "match",
            "chain",
            "deadline_ms",
            "prediction",
            "check",
            "confidence",
            "rules",
            "holdout",
            "explore",
            "mirror",
        ),
        *("review", "kill_switch", "loop_guard", "session", "stats", "hedge", "request", "on_miss"),
    }
    unset = {"range": None, "sum": None, "labels": None, "rows": None, "outputs": []}
    assert route["check"] == unset | {"sum_tolerance": 0.001, "unknown_outputs": "allow"}
    assert policy["limits"]["max_rows"] == 65_536
    assert policy["receipt_keys"] == [b"0123456789abcdef".hex()]
    assert policy["backends"][1] == {
        "name": "ham", "kind": "static", "label": "ham", "score": 0.0, "scores": None, "value": None
    }  # fmt: skip


def test_rules_become_one_kind_each() -> None:
    """`then` is a user's word in three forms; the data plane gets one."""
    rules = made(EVERYTHING)["routes"][0]["rules"]
    assert [rule["then"] for rule in rules] == [
        {"kind": "answer", "backend": "ham"},
        {"kind": "reject", "status": "INVALID_ARGUMENT", "message": "at most 64 rows"},
        {"kind": "next"},
        {"kind": "review"},
        {"kind": "to", "backend": "spam-lite"},
    ]
    assert [rule["name"] for rule in rules] == [
        "allow-list",
        "too-many-rows",
        "new-account",
        "rule-4",
        "lite",
    ]


def test_review_shares_follow_the_traffic_unless_they_are_given() -> None:
    """`per_hour` is worked out from traffic, `share` is the operator's word."""
    assert made(EVERYTHING)["routes"][0]["review"]["flagged"] == FIRST_SHARES.flagged
    learnt = {"spam": ReviewShares(0.5, 0.25)}
    review = made(EVERYTHING, review_shares=learnt)["routes"][0]["review"]
    assert (review["flagged"], review["unflagged"]) == (0.5, 0.25)
    given = made(EVERYTHING.replace("per_hour: 60", "share: 0.1"), review_shares=learnt)["routes"][0][
        "review"
    ]
    assert (given["flagged"], given["unflagged"]) == (0.1, 0.1)


def test_names_stand_at_their_indexes() -> None:
    """Records hold indexes; these are the names behind them."""
    known = names(made(EVERYTHING))
    assert known.routes == ("spam",)
    assert known.backend(4) == "ham"
    assert known.rule(0, 3) == "rule-4"


def test_paths_of_the_document_lead_back_to_the_file() -> None:
    """A fault that the data plane finds is shown where the user wrote it."""
    policy = made(EVERYTHING)
    assert settings_path(policy, ["routes", 0, "rules", 1, "when"]) == ("routes", "spam", "rules", 1, "when")
    assert settings_path(policy, ["backends", 1, "endpoints", 0]) == ("backends", "spam-v4", "grpc", 0)
    assert settings_path(policy, ["identity", "segments", 1, "from"]) == ("identity", "segments", "account")
    assert settings_path(policy, ["trace_share"]) == ("telemetry", "trace_share")
