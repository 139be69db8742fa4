"""What a sidecar does with a policy that it cannot use, and with rules in Python."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.fleet import KeptPolicy, digest
from gateway.v1 import fleet_pb2
from tests.fleet.processes import ROUTES, ControlProc, SidecarProc, call
from tests.fleet.test_totals import ended
from tests.wire.gateway_process import until

RULES = "def big(request, segment):\n    return request['rows'] >= {least}\n"


def with_rule(function: str, **more: Any) -> dict[str, Any]:
    rule = {
        "name": "big",
        "on": "request",
        "python": function,
        "timeout_ms": 5000,
        "otherwise": False,
        "then": {"answer": "no"},
    }
    return {
        **ROUTES,
        "backends": {**ROUTES["backends"], "no": {"answer": {"label": "spam", "score": 1.0}}},
        "routes": {"spam": {**ROUTES["routes"]["spam"], "rules": [rule]}},
        **more,
    }


def reason(sidecar: SidecarProc) -> str:
    return call(sidecar.address)[0]["gateway-reason"]


@pytest.fixture
def control(tmp_path: Path, sqlite_url: str) -> Iterator[ControlProc]:
    made = ControlProc(tmp_path, "c", sqlite_url)
    with ended(made):
        yield made


def test_a_kept_policy_that_cannot_be_used_is_told_of_and_waits_for_control(
    tmp_path: Path, control: ControlProc
) -> None:
    """An older gateway may have kept it, or a file that it names is gone: to end would not mend it."""
    sidecar = SidecarProc(tmp_path, "s", [control.address])
    serving = {"inference": sidecar.address, "admin": None, "workers": 1, "tls": None, "listening": {}}
    for document, words in (
        ("{}", "policy 7 cannot be used"),
        ('{"routes": [{}]}', "policy 8 cannot be used"),
    ):
        version = 7 if document == "{}" else 8
        text = json.dumps(serving | {"otlp": None})
        KeptPolicy(sidecar.state / "policy").write(
            fleet_pb2.FleetPolicy(
                version=version, hash=digest(document, text), document=document, serving=text
            )
        )
        with ended(sidecar):
            sidecar.start(ready=False)
            until(lambda words=words: words in sidecar.logged() or None, words, 30)
            assert sidecar.stop() == 0, "it can be stopped while it waits"
    with ended(sidecar):
        sidecar.start(ready=False)
        control.start()
        sidecar.wait_ready()
        assert reason(sidecar) == "ok"
        assert sidecar.logged().count("policy 8 cannot be used") == 2, (
            "once each start, not every few seconds"
        )
        control.kill()
        sidecar.kill()
        sidecar.start()  # the good one is kept
        assert reason(sidecar) == "ok"


def test_rules_in_python_run_from_the_sidecars_own_folder(tmp_path: Path, control: ControlProc) -> None:
    """Only where its operator named one; a policy that names what is not there leaves the old one in force."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "fleet_rules.py").write_text(RULES.format(least=1))
    control.write(with_rule("fleet_rules:big"))
    control.start()
    without = SidecarProc(tmp_path, "without", [control.address])
    sidecar = SidecarProc(tmp_path, "s", [control.address], "--rules", str(rules))
    with ended(without, sidecar):
        without.start(ready=False)
        sidecar.start()
        assert reason(sidecar) == "rule:big"
        until(lambda: "start it with --rules DIR" in without.logged() or None, "the refusal", 30)
        assert without.get("/readyz")[0] == 0

        (rules / "fleet_rules.py").write_text(RULES.format(least=2))
        assert reason(sidecar) == "rule:big", "the code that was loaded counts"
        os.kill(sidecar.pid, signal.SIGHUP)
        until(lambda: reason(sidecar) == "ok" or None, "the new code", 30)

        control.write(with_rule("fleet_rules:gone"))
        os.kill(control.pid, signal.SIGHUP)
        until(lambda: "cannot be loaded from" in sidecar.logged() or None, "the refusal", 30)
        assert reason(sidecar) == "ok"
        assert sidecar.metric("gateway_policy_version") == 1

        control.write(ROUTES)  # and a policy that needs none is taken by both
        until(lambda: sidecar.metric("gateway_policy_version") == 3 or None, "policy 3", 30)
        without.wait_ready()
        assert reason(without) == "ok"
        assert sidecar.stop() == 0
