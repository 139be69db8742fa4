"""What docs/people.md shows is what happens, with a reviewer and a caller as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.docs.test_readme import ENVIRONMENT, ROOT, gateway
from tests.wire.gateway_process import GatewayProcess

PAGE = (ROOT / "docs" / "people.md").read_text()
SETTINGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
REVIEWER, CALLER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_people_answer_before_there_is_a_model(tmp_path: Path) -> None:
    """In the few commands of the page; a reader who types them gets what it says."""
    file = tmp_path / "gateway.yaml"
    file.write_text(SETTINGS)
    checked = gateway("check", str(file), "--offline")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "moderators (people, 20 s) -> ham (static)" in checked.stdout
    with GatewayProcess(tmp_path, YAML(typ="safe").load(SETTINGS)) as process:
        for name, text in (("reviewer.py", REVIEWER), ("caller.py", CALLER)):
            assert "127.0.0.1:8080" in text
            (tmp_path / name).write_text(text.replace("127.0.0.1:8080", process.address))
        reviewer = subprocess.Popen([sys.executable, str(tmp_path / "reviewer.py")], env=ENVIRONMENT)
        try:
            caller = [sys.executable, str(tmp_path / "caller.py")]
            called = subprocess.run(
                caller, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT
            )
        finally:
            reviewer.kill()
            reviewer.wait()
    assert called.returncode == 0, called.stderr + process.logged()
    assert f"# {called.stdout.strip()}" in CALLER
