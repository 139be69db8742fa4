"""One call for each reason and each outcome: trailers, response parameters and the report say the same."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton

from gateway.types import Outcome, Reason
from tests.wire.clients import Reply, infer_by_grpcio, infer_by_tritonclient
from tests.wire.gateway_process import GatewayProcess, free_ports, until
from tests.wire.reason_cases import CASES, PREDICTION, SURE, Case
from tests.wire.servers import ScriptedServer, Silent


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
        "identity": {"unit": "metadata:x-user-id"},
        "routes": {
            **{name: {**usual, **case.route} for name, case in CASES.items()},
            "half": {**usual, "holdout": {"share": 0.5, "answer": "ham"}},
        },
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


def test_metrics_count_what_the_report_counts(
    report: dict[str, Any], evidence: dict[str, Evidence], gateway: GatewayProcess
) -> None:
    """Prometheus and the ledger are filled from the same records, and say the same by route and outcome."""

    def counted() -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for line in gateway.get("/metrics")[1].splitlines():
            if line.startswith("gateway_decisions_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["route"] in evidence:
                    found[labels["route"], labels["outcome"]] += int(float(line.rpartition(" ")[2]))
        return found

    calls = {name: report[name]["calls"]["by_outcome"] for name in evidence}
    wanted = {
        # A prediction is a decision of its own; a call that was refused or failed is one without any prediction.
        (name, outcome): count * (CASES[name].rows if CASES[name].status == "OK" else 1)
        for name, by_outcome in calls.items()
        for outcome, count in by_outcome.items()
    }
    with contextlib.suppress(AssertionError):
        until(lambda: counted() == wanted or None, "metrics with every call")
    assert counted() == wanted


def test_holdout_follows_the_unit(gateway: GatewayProcess, servers: tuple[ScriptedServer, ...]) -> None:
    """A user is in the control group or is not, whatever is asked and however often."""
    servers[0].reset(SURE)
    with grpc.insecure_channel(gateway.address) as channel:
        outcomes = {
            user: {
                infer_by_grpcio(channel, "half", metadata=(("x-user-id", f"user-{user}"),)).said["outcome"]
                for _ in range(3)
            }
            for user in range(40)
        }
    assert all(len(of_user) == 1 for of_user in outcomes.values())
    held_out = sum(of_user == {"holdout"} for of_user in outcomes.values())
    assert 8 <= held_out <= 32  # of 40 at one half: outside with a probability under 1 in 10,000


def test_every_outcome_and_reason_has_a_case() -> None:
    """Here, or in a file of its own where it takes more than one call."""
    elsewhere = {
        "human": "test_people.py",
        "circuit_open": "test_forward_circuit.py",
        "loop_guard": "test_loop_guard.py",
        "explore": "test_forward_choices.py",
    }
    outcomes = {word for case in CASES.values() for word in case.outcome.split(",")}
    reasons = {word.partition(":")[0] for case in CASES.values() for word in case.reason.split(",")}
    assert outcomes | elsewhere.keys() >= {outcome.text for outcome in Outcome}
    assert reasons | elsewhere.keys() >= {reason.text for reason in Reason}
    for word, file in elsewhere.items():
        assert word in (Path(__file__).parent / file).read_text(), f"{file} says nothing of {word}"
