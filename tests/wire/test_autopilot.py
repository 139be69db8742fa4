"""A model goes wrong at a known moment: people's labels show it, a gate fails, and callers get the fallback."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.ledger import Reader, verdicts
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer
from tests.wire.wrong_model import WINDOW, Caller, Model, quality_settings, reviewers


def verdict(gateway: GatewayProcess) -> str | None:
    """The last one of the gate, as the ledger has it."""
    reader = Reader.open(f"sqlite:///{gateway.state_dir / 'ledger.db'}")
    try:
        found = reader.snapshot(verdicts.latest)
    finally:
        reader.close()
    return found[-1].verdict if found else None


def test_a_model_that_goes_wrong_is_rolled_back_on_what_people_say(tmp_path: Path) -> None:
    """Nobody looks at a dashboard: within a cycle of the labels that show it, callers get the fallback."""
    model = Model()
    with ScriptedServer(model) as main, GatewayProcess(tmp_path, quality_settings(main)) as gateway:
        caller = Caller(gateway.address)
        with reviewers(gateway.address) as done:
            assert {caller.call() for _ in range(WINDOW)} == {"main"}
            until(lambda: sum(done) >= WINDOW or None, "every call is labelled", timeout_s=60)
            until(
                lambda: verdict(gateway) == "pass" or None,
                "a good model passes",
                timeout_s=30,
            )
            assert caller.call() == "main"
            model.wrong = 0.3
            for _ in range(WINDOW):
                caller.call()
            until(lambda: caller.call() == "ham" or None, "the fallback answers", timeout_s=60)
        caller.close()
        listed = run_gateway("acts", "list", "--address", gateway.address, "--json")
        assert listed.returncode == 0, listed.stderr
        told = gateway.report()["spam"]
    acts = json.loads(listed.stdout)["acts"]
    assert [(one["act"], one["state"]) for one in acts] == [("roll_back", "begun"), ("roll_back", "done")]
    assert acts[-1]["policy_after"] == acts[-1]["policy_before"] + 1
    assert "ham answers in place of main" in acts[-1]["words"]
    assert told["gates"]
    assert told["acts"]
