"""A review budget on the wire: shares follow the traffic, stand in metrics and ledger, and outlive a restart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from gateway.ledger import Reader
from gateway.ledger.review_budget import kept_budgets, last_policy
from tests.wire.clients import INFER, request, rows
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer, pb, scores

PER_HOUR = 3600.0


def settings(main: ScriptedServer, spare: ScriptedServer) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": main.address, "model": "spam_v3"},
            "spare": {"grpc": spare.address},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "review": {"queue": "q", "per_hour": PER_HOUR}}},
    }


def kept(process: GatewayProcess) -> dict[str, Any]:
    reader = Reader.open(f"sqlite:///{process.state_dir / 'ledger.db'}")
    try:
        return {"version": last_policy(reader), **kept_budgets(reader)}
    finally:
        reader.close()


def probabilities(process: GatewayProcess) -> dict[float, int]:
    """Predictions by the probability that they were drawn for review with."""
    reader = Reader.open(f"sqlite:///{process.state_dir / 'ledger.db'}")
    try:
        population = reader.population()
    finally:
        reader.close()
    found: dict[float, int] = {}
    for pi, count in zip(population.pi.tolist(), population.rows.tolist(), strict=True):
        found[pi] = found.get(pi, 0) + count
    return found


def share(process: GatewayProcess, stratum: str) -> float | None:
    page = process.get("/metrics")[1]
    found = re.search(rf'^gateway_review_share\w*\{{.*stratum="{stratum}".*\}} (\S+)$', page, re.MULTILINE)
    return None if found is None else float(found.group(1))


def version(process: GatewayProcess) -> str:
    page = process.get("/metrics")[1]
    found = re.search(r"^gateway_policy_version\S*(?:\{.*\})? (\S+)$", page, re.MULTILINE)
    assert found, page
    return found.group(1)


def test_shares_follow_the_traffic_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """2,000 low scores are too many for one review a second: the share falls, and is the first of a restart."""
    with ScriptedServer() as main, ScriptedServer() as spare:
        main.reset(scores(0.02))
        with GatewayProcess(tmp_path, settings(main, spare)) as process:
            assert share(process, "low") == 0.01
            first = version(process)
            with grpc.insecure_channel(process.address) as channel:
                ask = channel.unary_unary(
                    INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
                )
                for _ in range(100):
                    ask(request("spam", rows(20)), timeout=10)
            until(lambda: share(process, "low") not in (None, 0.01), "shares of the traffic", timeout_s=40)
            learnt = share(process, "low")
            assert learnt is not None
            until(lambda: kept(process)["spam"]["shares"]["low"] == learnt, "they are kept")
            until(lambda: version(process) != first, "they are in force")
            found, before = kept(process)["spam"], version(process)
            came = sum(map(sum, found["rates"]))
            assert came > 0
            with grpc.insecure_channel(process.address) as channel:
                ask = channel.unary_unary(
                    INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
                )
                ask(request("spam", rows(20)), timeout=10)
            drawn_with = np.float64(np.float32(learnt))
            until(lambda: probabilities(process).get(drawn_with), "20 rows with the share in force")
            assert probabilities(process)[drawn_with] == 20
            assert learnt * came <= 1.6 * PER_HOUR / 3600, "no more than the budget, and what is made up for"
            process.stop()
            process.start()
            assert share(process, "low") == learnt
            assert version(process) == before, "nothing has changed, so no other policy"
            report = process.report()["spam"]["review"]["budget"]
            assert (report["wanted_per_hour"], report["state"]) == (PER_HOUR, "unknown")
            planned = run_gateway("plan", str(process.file), "--within", "0.1", "--json")
            assert planned.returncode == 0, planned.stderr
            assert json.loads(planned.stdout)["routes"]["spam"]["per_hour"] == PER_HOUR
