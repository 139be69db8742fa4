"""What docs/feedback.md shows is what happens, and its codes are those of the proto."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.test_readme import ENVIRONMENT, README, ROOT
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess
from tests.wire.servers import ScriptedServer, scores

PAGE = (ROOT / "docs" / "feedback.md").read_text()
[SCRIPT] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[SHOWN] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(folder: Path, script: str) -> list[str]:
    """The script's lines, run against a gateway that serves the route `spam`."""
    assert "127.0.0.1:8080" in script
    with ScriptedServer() as server:
        server.reset(scores(0.97))
        settings = {
            "backends": {
                "main": {"grpc": server.address, "model": "spam"},
                "ham": {"answer": {"label": "ham", "score": 0.0}},
            },
            "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"]}},
        }
        with GatewayProcess(folder, settings) as gateway:
            file = folder / "said.py"
            file.write_text(script.replace("127.0.0.1:8080", gateway.address))
            done = subprocess.run(
                [sys.executable, str(file)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env=ENVIRONMENT,
            )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_page_and_the_readme_hand_a_receipt_back(tmp_path: Path) -> None:
    """As they stand there, but for the port; the README's is that of the page, without what it prints."""
    printed = run(tmp_path, SCRIPT)
    assert f"It prints {', '.join(f'`{word}`' for word in printed)}." in PAGE
    (tmp_path / "readme").mkdir()
    assert run(tmp_path / "readme", SHOWN) == []


def test_every_code_has_its_line() -> None:
    """Of the proto, and of those that a whole call may fail with."""
    proto = (ROOT / "protos" / "gateway" / "v1" / "feedback.proto").read_text()
    [listed] = re.findall(r"one of: (.*?)\n  string code", proto, re.DOTALL)
    codes = set(re.findall(r"\w+", listed.replace("//", "")))
    assert len(codes) > 15
    table = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## What is refused") : PAGE.index("## The SDK")]))
    assert {*codes, "rate_limited", "ledger_unavailable"} - table == set()
