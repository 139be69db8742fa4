"""Two models of different quality behind one gateway: what callers report moves the calls to the better one."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa
from tritonclient.grpc import service_pb2 as oip

from gateway.client import FeedbackClient, label
from gateway.ledger import Reader, policies, schema, states
from gateway.types import Outcome
from tests.wire.clients import INFER
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer
from tests.wire.wrong_model import Model, asked

ROUND = 60
"""Calls between two looks at who gets how many."""


def settings(main: ScriptedServer, spare: ScriptedServer) -> dict[str, Any]:
    explore = {
        "arms": ["main", "spare"],
        "algorithm": "thompson",
        "cap": 1,
        "every_s": 0.5,
        "sticky": "call",
    }
    route = {
        **MAIN_SETTINGS,
        "chain": ["main", "ham"],
        "explore": explore,
        "holdout": {"share": 0.1, "answer": "ham"},
    }
    return {
        "autopilot": {"every_s": 0.2},
        "backends": {
            "main": {"grpc": main.address, "model": "main"},
            "spare": {"grpc": spare.address, "model": "spare"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": route},
    }


class People:
    """Callers who know the truth and say it, by the receipts of their calls."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._ask = self._channel.unary_unary(
            INFER, oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
        )
        self._feedback = FeedbackClient(address, source="users")
        self._numbers = itertools.count()

    def ask(self, calls: int) -> Counter[str]:
        """Who answered how many of some calls; each is told whether it was right."""
        items, answered = [], Counter[str]()
        for _ in range(calls):
            number = next(self._numbers)
            spam = number % 3 == 0
            _, call = self._ask.with_call(asked(number, spam), timeout=10)
            told = {str(key): str(value) for key, value in call.trailing_metadata()}
            answered[told["gateway-backend"]] += 1
            items.append(label(call, "spam" if spam else "ham"))
        assert {one.status for one in self._feedback.submit(items)} == {"accepted"}
        return answered

    def close(self) -> None:
        self._feedback.close()
        self._channel.close()


def propensities(gateway: GatewayProcess) -> dict[int, dict[str, float]]:
    """By policy version, what the ledger has for each arm; a holdout that met one would be a fault."""
    label_ = schema.labels
    query = sa.select(label_.c.policy, label_.c.arm, label_.c.propensity, label_.c.outcome).distinct()
    found: dict[int, dict[str, float]] = {}
    for policy, arm, propensity, outcome in read(gateway, lambda connection: connection.execute(query).all()):
        if outcome == Outcome.HOLDOUT:
            assert (arm, propensity) == (None, 1.0)
        else:
            assert arm not in found.setdefault(policy, {}), "one probability of an arm in a policy version"
            found[policy][arm] = propensity
    return found


def in_force(gateway: GatewayProcess, version: int) -> dict[str, float]:
    """The shares of a policy version, as it was kept."""
    kept = read(gateway, partial(policies.find, version=version, author=None))
    [route] = kept.document["routes"]
    return {one["backend"]: one["share"] for one in route["explore"]["arms"]}


def read(gateway: GatewayProcess, work: Any) -> Any:
    reader = Reader.open(f"sqlite:///{gateway.state_dir / 'ledger.db'}")
    try:
        return reader.snapshot(work)
    finally:
        reader.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    worse, better = Model(), Model()
    worse.wrong, better.wrong = 0.5, 0.05  # of what is ham: two thirds and nearly all answers are right
    with (
        ScriptedServer(worse) as main,
        ScriptedServer(better) as spare,
        GatewayProcess(tmp_path, settings(main, spare)) as process,
    ):
        yield process


def test_calls_move_to_the_better_model_and_the_worse_one_keeps_its_floor(gateway: GatewayProcess) -> None:
    """Labels by receipts are all that is known; every share that was in force stands with the labels made under it."""
    people = People(gateway.address)

    def told() -> dict[str, Any]:
        known = read(gateway, lambda connection: states.find(connection, "arms"))
        kept: dict[str, Any] = known.get(("spam", ""), {})
        return kept

    def decided() -> dict[str, Any] | None:
        people.ask(ROUND)
        now = told()
        return now if now.get("winner") and now["arms"]["spare"]["share"] == 0.95 else None

    found = until(decided, "the better model is found", timeout_s=120)
    assert found["winner"] == "spare"
    assert found["arms"]["main"]["share"] == 0.05
    assert found["arms"]["spare"]["snips"]["value"] > found["arms"]["main"]["snips"]["value"]
    assert found["frozen"] is None

    answered = people.ask(300)
    asked_of_models = answered["main"] + answered["spare"]
    assert 0.8 * 300 < asked_of_models < 300, "the holdout goes on"
    assert 0 < answered["main"] < 0.15 * asked_of_models, "the floor, and no more"
    stays = until(lambda: now if "stopped" in (now := told())["why"] else None, "it is told that it stopped")
    assert (stays["winner"], stays["arms"]["spare"]["share"]) == ("spare", 0.95)
    people.close()
    reported = gateway.report()["spam"]["exploration"]
    assert (reported["winner"], reported["decided"]) == ("spare", stays["decided"])
    assert reported["arms"]["main"]["labels"] >= stays["arms"]["main"]["labels"]

    by_version = propensities(gateway)
    assert len(by_version) > 1, "shares have moved"
    for version, arms in by_version.items():
        shares = in_force(gateway, version)
        assert arms == {name: float(np.float32(shares[name])) for name in arms}
    listed = run_gateway("acts", "list", "--address", gateway.address, "--json")
    assert listed.returncode == 0, listed.stderr
    acts = [one for one in json.loads(listed.stdout)["acts"] if one["cause"] == "exploration"]
    assert [one["act"] for one in acts].count("winner") == 1
    moves = [one for one in acts if one["act"] == "share_arms"]
    assert all(one["words"].startswith("arms: main ") for one in moves)
    assert len(moves) == len({one["policy_after"] for one in moves})
