"""A fleet's gates: judged from the labels of all sidecars at the control that leads, whoever that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.processes import ControlProc, SidecarProc
from tests.fleet.test_totals import ended
from tests.wire.gateway_process import run_gateway, until
from tests.wire.servers import ScriptedServer
from tests.wire.wrong_model import WINDOW, Caller, Model, quality_settings, reviewers

PASSES = 'gateway_gate{gate="precision-holds",route="spam",segment="",verdict="pass"}'


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_wrong_model_is_rolled_back_at_every_sidecar_by_the_next_leader(
    tmp_path: Path, postgres_url: str
) -> None:
    """The leader that saw the good history is killed; its successor goes on from what the gate remembered."""
    model = Model()
    with ScriptedServer(model) as main:
        controls = [ControlProc(tmp_path, f"c{at}", postgres_url, quality_settings(main)) for at in range(2)]
        addresses = [control.address for control in controls]
        sidecars = [SidecarProc(tmp_path, f"s{at}", addresses) for at in range(2)]
        with ended(*controls, *sidecars):
            for one in (*controls, *sidecars):
                one.start()
            callers = [Caller(sidecar.address) for sidecar in sidecars]
            with reviewers("ipv4:" + ",".join(addresses)) as done:
                for caller in callers:
                    assert {caller.call() for _ in range(WINDOW // 2)} == {"main"}
                until(lambda: sum(done) >= WINDOW or None, f"every call is labelled: {done}", timeout_s=60)
                leader = until(
                    lambda: next((one for one in controls if one.metric(PASSES) == 1), None),
                    "the gate passes at the leader",
                    timeout_s=60,
                )
                leader.kill()
                model.wrong = 0.3
                for _ in range(WINDOW // 2):
                    for caller in callers:
                        caller.call()
                for caller in callers:
                    until(lambda caller=caller: caller.call() == "ham" or None, "the fallback answers", 90)
            for caller in callers:
                caller.close()
            [left] = [one for one in controls if one is not leader]
            waiting = run_gateway("acts", "list", "--address", left.address, "--waiting")
            assert (waiting.returncode, waiting.stdout) == (0, "")
            listed = run_gateway("acts", "list", "--address", left.address)
            assert "ham answers in place of main" in listed.stdout
            undone = run_gateway("acts", "undo", "2", "--address", left.address, "--reason", "only a test")
            assert undone.returncode == 0, undone.stderr
            again = Caller(sidecars[1].address)
            until(lambda: again.call() == "main" or None, "the model answers again", 20)
            again.close()
