"""Arms and the control group on real sockets: who is asked, and what the record says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.wire.clients import INFER, infer_by_grpcio, request, rows
from tests.wire.plane import document, model, route, running, static
from tests.wire.servers import ScriptedServer, Silent, fail, scores

Servers = dict[str, ScriptedServer]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ScriptedServer() as v3, ScriptedServer() as v4, ScriptedServer() as rules:
        yield {"v3": v3, "v4": v4, "rules": rules}


def policy(servers: Servers, **changes: Any) -> dict[str, Any]:
    for name, server in servers.items():
        server.reset(scores(0.1 if name == "rules" else 0.9))
    backends = [model(name, server.address) for name, server in servers.items()]
    return document([*backends, static()], [route(["v3", "ham"], **changes)])


def arms(sticky: str = "unit", **shares: float) -> dict[str, Any]:
    return {"arms": [{"backend": name, "share": share} for name, share in shares.items()], "sticky": sticky}


def test_units_keep_their_arm_and_the_record_says_which_and_how_likely(servers: Servers) -> None:
    """The numbers by which a later estimate is weighted are those that the draw was made with."""
    with running(policy(servers, explore=arms(v3=0.75, v4=0.25))) as (plane, channel):
        said = []
        for unit in range(40):
            metadata = [("gateway-unit", f"user-{unit}")]
            replies = [infer_by_grpcio(channel, "spam", metadata=metadata) for _ in range(2)]
            assert replies[0].said["backend"] == replies[1].said["backend"]
            said.append(replies[0].said)
        records = plane.records(80)
    by_arm = {name: [one for one in said if one["backend"] == name] for name in ("v3", "v4")}
    assert all((one["outcome"], one["reason"]) == ("model", "explore") for one in by_arm["v4"])
    assert all((one["outcome"], one["reason"]) == ("model", "ok") for one in by_arm["v3"])
    assert 1 <= len(by_arm["v4"]) <= 25
    assert {(row["arm"], row["propensity"], row["backend"]) for row in records} == {
        (0, 0.75, 0),
        (1, 0.25, 1),
    }


def test_an_arm_at_its_cap_stays_on_record_while_another_answers(servers: Servers) -> None:
    """What was drawn is what an estimate needs; whether it could be taken is told by who answered."""
    made = policy(servers, explore=arms(v3=0.0, v4=1.0))
    made["backends"][1]["max_in_flight"] = 1
    silent = Silent(scores(0.9))
    servers["v4"].behaviour = silent
    with running(made) as (plane, channel):
        ask = channel.unary_unary(INFER)
        held = ask.future(request("spam", rows()).SerializeToString(), timeout=20)
        silent.wait_for(1)
        reply = infer_by_grpcio(channel, "spam")
        silent.release()
        held.result()
        first, second = plane.records(2)
    assert reply.said["attempts"] == "v4:overload,v3:ok"
    assert (reply.said["outcome"], reply.said["reason"]) == ("fallback", "overload")
    assert {(row["arm"], row["propensity"]) for row in (first, second)} == {(1, 1.0)}


def test_the_holdout_is_answered_by_the_backend_that_is_named_and_meets_no_model(servers: Servers) -> None:
    """That is what the model is compared with: not even a failing rules server leads to it."""
    holdout = {"share": 1.0, "answer": ["rules", "ham"]}
    shadow = [{"to": "v4", "share": 1.0, "max_in_flight": 9, "max_bytes": 9999, "timeout_ms": 1000}]
    made = policy(servers, holdout=holdout, explore=arms(v3=0.5, v4=0.5), mirror=shadow)
    with running(made) as (plane, channel):
        replies = [infer_by_grpcio(channel, "spam") for _ in range(10)]
        servers["rules"].behaviour = fail(grpc.StatusCode.UNAVAILABLE)
        replies.append(infer_by_grpcio(channel, "spam"))
        records = plane.records(11)
    assert {(one.said["outcome"], one.said["reason"]) for one in replies} == {("holdout", "holdout")}
    assert [one.said["backend"] for one in replies] == ["rules"] * 10 + ["ham"]
    assert {(row["arm"], row["propensity"]) for row in records} == {(65535, 1.0)}
    assert servers["v3"].calls() == servers["v4"].calls() == []


def test_each_call_draws_anew_where_arms_are_not_sticky(servers: Servers) -> None:
    """One unit meets both arms, each in its share."""
    with running(policy(servers, explore=arms(sticky="call", v3=0.5, v4=0.5))) as (plane, channel):
        metadata = [("gateway-unit", "ada")]
        said = [infer_by_grpcio(channel, "spam", metadata=metadata).said["backend"] for _ in range(60)]
        records = plane.records(60)
    assert 15 <= said.count("v4") <= 45  # three standard deviations and more
    assert {row["propensity"] for row in records} == {0.5}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_rule_puts_a_call_before_people_unless_its_caller_wants_none(
    servers: Servers, wanted: bool
) -> None:
    """`then: review` and `gateway-no-review`: with certainty, and not at all; both on record."""
    review = {"queue": "q", "flagged": 0.0, "unflagged": 0.0, "capture": ["inputs"], "redact": []}
    rule = {"name": "look", "on": "prediction", "when": "prediction.score > 0.5", "then": {"kind": "review"}}
    with running(policy(servers, review=review, rules=[rule])) as (plane, channel):
        metadata = [] if wanted else [("gateway-no-review", "1")]
        assert infer_by_grpcio(channel, "spam", metadata=metadata).said["attempts"] == "v3:ok"
        [record] = plane.records(1)
        if wanted:
            [capture] = plane.until(lambda drained: len(drained.captures) >= 1).captures
            assert capture["rows"] == [0]
    assert (record["sampled"], record["review_pi"]) == ((1, 1.0) if wanted else (0, 0.0))
