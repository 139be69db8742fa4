"""One call for each reason and each outcome: trailers, response parameters and the report say the same."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton

from tests.wire.clients import Reply, infer_by_grpcio, infer_by_tritonclient
from tests.wire.gateway_process import GatewayProcess, free_ports, until
from tests.wire.servers import Behaviour, ScriptedServer, Silent, fail, garbage, nan, scores

SURE = scores(0.97)
UNSURE = scores(0.60)
PREDICTION = {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"}


@dataclass(frozen=True)
class Case:
    """A route of its own, what its two model servers do, and what the caller must be told.

    `counts` is what the report shows: (outcome, reason) of every prediction of the case; as said, twice, if not given.
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


@dataclass
class Evidence:
    """What one case brought."""

    trailers: Reply
    parameters: Reply
    seen_by_main: int
    extra: Counter[tuple[str, str]]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    with ScriptedServer() as main, ScriptedServer() as spare:
        yield main, spare


@pytest.fixture(scope="module")
def gateway(
    servers: tuple[ScriptedServer, ScriptedServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    main, spare = (server.address for server in servers)
    usual = {
        "chain": ["main", "spare", "ham"],
        "prediction": PREDICTION,
        "check": {"range": [0, 1]},
        "confidence": {"floor": 0.8},
    }
    settings = {
        "lists": {"trusted": ["a@example.org"]},
        "backends": {
            "main": {"grpc": main, "model": "main"},
            "hasty": {"grpc": main, "model": "main", "timeout_ms": 100},
            "narrow": {"grpc": main, "model": "main", "max_in_flight": 1},
            "dead": {"grpc": f"127.0.0.1:{free_ports(1)[0]}", "model": "main"},
            "spare": {"grpc": spare, "model": "spare"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {name: {**usual, **case.route} for name, case in CASES.items()},
    }
    with GatewayProcess(tmp_path_factory.mktemp("reasons"), settings) as process:
        yield process


@pytest.fixture(scope="module")
def evidence(servers: tuple[ScriptedServer, ScriptedServer], gateway: GatewayProcess) -> dict[str, Evidence]:
    """Every case, by both clients, one after the other."""
    main, spare = servers
    found: dict[str, Evidence] = {}
    client = triton.InferenceServerClient(gateway.address)
    with grpc.insecure_channel(gateway.address) as channel:
        for name, case in CASES.items():
            main.reset(case.main)
            spare.reset(case.spare)
            extra: Counter[tuple[str, str]] = Counter()
            with held(channel, name, case, extra) if name == "overload" else contextlib.nullcontext():
                arguments = (name, case.rows, case.metadata, case.timeout_s)
                trailers = infer_by_grpcio(channel, *arguments)
                parameters = infer_by_tritonclient(client, *arguments)
            found[name] = Evidence(trailers, parameters, len(main.calls()), extra)
            if isinstance(case.main, Silent):
                case.main.release()
    client.close()
    return found


@contextlib.contextmanager
def held(channel: grpc.Channel, name: str, case: Case, extra: Counter[tuple[str, str]]) -> Iterator[None]:
    """One call under way at the backend that takes only one; it is answered when the others are done."""
    assert isinstance(case.main, Silent)
    replies: list[Reply] = []
    caller = threading.Thread(target=lambda: replies.append(infer_by_grpcio(channel, name)))
    caller.start()
    case.main.wait_for(1)
    try:
        yield
    finally:
        case.main.release()
        caller.join()
    extra.update((reply.said["outcome"], reply.said["reason"]) for reply in replies)


@pytest.fixture(scope="module")
def report(evidence: dict[str, Evidence], gateway: GatewayProcess) -> dict[str, Any]:
    """The report, once every call has reached the ledger."""
    wanted = {name: 2 + sum(found.extra.values()) for name, found in evidence.items()}

    def complete() -> dict[str, Any] | None:
        routes = gateway.report()
        counted = {name: route["calls"]["total"] for name, route in routes.items() if name in wanted}
        return routes if counted == wanted else None

    return until(complete, f"a report with {sum(wanted.values())} calls", timeout_s=40.0, every_s=0.5)


@pytest.mark.parametrize("name", CASES)
def test_trailers_say_who_answered_and_why(name: str, evidence: dict[str, Evidence]) -> None:
    """A gRPC client learns outcome, reason, backend and attempts, also of a call that fails."""
    case, reply = CASES[name], evidence[name].trailers
    assert (reply.status, reply.message if not case.message else case.message in reply.message) in (
        (case.status, ""),
        (case.status, True),
    )
    told = {word: reply.said.get(word, "") for word in ("outcome", "reason", "backend", "attempts")}
    assert told == {
        "outcome": case.outcome,
        "reason": case.reason,
        "backend": case.backend,
        "attempts": case.attempts,
    }
    assert len(reply.said["decision-id"]) == 36
    assert reply.said["policy"].isdecimal()
    # What was not answered has no prediction that a label could be about.
    assert ("receipt" in reply.said) == (case.status == "OK")


@pytest.mark.parametrize("name", CASES)
def test_response_parameters_say_the_same(name: str, evidence: dict[str, Evidence]) -> None:
    """tritonclient cannot see trailers: what it sees in the answer is what they say."""
    case, reply = CASES[name], evidence[name].parameters
    assert reply.status == case.status
    if case.status != "OK":
        return  # a failed call has no answer, so tritonclient has nothing but the status
    told = {word: reply.said.get(word, "") for word in ("outcome", "reason", "backend", "attempts")}
    wanted = evidence[name].trailers.said
    assert told == {word: wanted.get(word, "") for word in told}
    assert set(reply.said) == set(wanted)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.score is not None])
def test_answer_has_the_form_of_a_model(name: str, evidence: dict[str, Evidence]) -> None:
    """A caller's code cannot tell a static answer from a model's but by the outcome."""
    case, found = CASES[name], evidence[name]
    for reply in (found.trailers, found.parameters):
        assert reply.probabilities is not None
        assert reply.probabilities.shape == (case.rows, 2)
        assert reply.probabilities[0, 1] == pytest.approx(case.score)


@pytest.mark.parametrize("name", CASES)
def test_model_is_called_only_where_it_may_be(name: str, evidence: dict[str, Evidence]) -> None:
    """What a rule, the kill switch or the holdout answers never reaches the model; all else does, once a call."""
    # Of the three calls of `overload` only the one that is held gets through.
    calls = 1 if name == "overload" else 2 if CASES[name].meets_main else 0
    assert evidence[name].seen_by_main == calls


@pytest.mark.parametrize("name", CASES)
def test_report_counts_what_callers_were_told(
    name: str, evidence: dict[str, Evidence], report: dict[str, Any]
) -> None:
    """The ledger's numbers are those of the callers, by outcome and by reason."""
    case, found = CASES[name], evidence[name]
    outcome, reason = case.outcome.split(",")[0], case.reason.split(",")[0]
    outcomes, reasons = Counter({outcome: 2}), Counter({reason: 2})
    for one, why in found.extra.elements():
        outcomes[one] += 1
        reasons[why] += 1
    calls = report[name]["calls"]
    assert {word: count for word, count in calls["by_outcome"].items() if count} == outcomes
    assert {word: count for word, count in calls["by_reason"].items() if count} == reasons


def test_every_outcome_and_reason_has_a_case() -> None:
    """Nothing that this version can say goes without a test."""
    outcomes = {word for case in CASES.values() for word in case.outcome.split(",")}
    reasons = {word.partition(":")[0] for case in CASES.values() for word in case.reason.split(",")}
    assert outcomes == {"model", "fallback", "static", "holdout", "rejected", "error"}
    assert reasons == {
        "ok",
        "low_confidence",
        "rule",
        "invalid_output",
        "backend_error",
        "deadline",
        "overload",
        "kill_switch",
        "holdout",
    }
