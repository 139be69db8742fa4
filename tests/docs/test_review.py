"""What docs/review.md shows is what happens, with reviewers as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grpc
from ruamel.yaml import YAML

from gateway.v1 import review_pb2 as pb
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.docs.test_readme import ENVIRONMENT, ROOT, gateway
from tests.wire.clients import infer_by_grpcio
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer

PAGE = (ROOT / "docs" / "review.md").read_text()
SETTINGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
REVIEWER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]


def test_settings_of_the_page_are_good(tmp_path: Path) -> None:
    """Without a fault and without a warning."""
    file = tmp_path / "gateway.yaml"
    file.write_text(SETTINGS)
    checked = gateway("check", str(file), "--offline")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "warning" not in checked.stdout + checked.stderr


def test_reviewers_of_the_page_disagree_and_lea_settles_it(tmp_path: Path) -> None:
    """Two reviewers, then whoever settles what they disagree on; each ends when nothing is left for them."""
    script = tmp_path / "reviewer.py"
    script.write_text(REVIEWER)
    settings = YAML(typ="safe").load(SETTINGS)
    with ScriptedServer() as server:
        settings["backends"]["spam-v3"]["grpc"] = server.address
        with (
            GatewayProcess(tmp_path, settings) as process,
            grpc.insecure_channel(process.address) as channel,
        ):
            infer_by_grpcio(channel, "spam")
            stats = ReviewServiceStub(channel).Stats
            until(lambda: any(one.open for one in stats(pb.StatsRequest()).queues), "the call is a task", 20)
            for queue, name, label in (
                ("moderation", "ann", "spam"),
                ("moderation", "bob", "ham"),
                ("leads", "lea", "ham"),
            ):
                command = [sys.executable, str(script), process.address, queue, name, label]
                ran = subprocess.run(
                    command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT
                )
                assert ran.returncode == 0, ran.stderr
                assert f"I said {label}, the model" in ran.stdout
            [leads] = stats(pb.StatsRequest(queue="leads")).queues
            assert (leads.open, leads.done) == (0, 1)
