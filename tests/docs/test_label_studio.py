"""What docs/label-studio.md shows is good, and it names what there is."""

from __future__ import annotations

import re

import pytest

from gateway.cli.label_studio import Action
from gateway.config import read_text
from gateway.connectors.label_studio.api import LEAST_VERSION
from gateway.connectors.label_studio.payload import MOST_SHOWN
from gateway.connectors.label_studio.runner import WEBHOOK_HEADER
from tests.docs.test_readme import ROOT

PAGE = (ROOT / "docs" / "label-studio.md").read_text()
[BLOCK] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
REST = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001"}
"""


def test_the_settings_of_the_page_are_good(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As they stand there, with a chain and a prediction, and a token that is one."""
    token = tmp_path_factory.mktemp("keys") / "token"
    token.write_text("header.payload.signature\n")
    route = "    chain: [spam-v3]\n    prediction: {scores: p, classes: [ham, spam], positive: spam}\n"
    text = BLOCK.replace("/run/keys/label-studio", str(token)).replace("  spam:\n", f"  spam:\n{route}")
    loaded = read_text(REST + text, env={})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.settings is not None
    assert loaded.settings.label_studio is not None
    assert loaded.settings.label_studio.every_s == 30
    assert loaded.settings.label_studio.hold_h == 24
    assert loaded.settings.label_studio.corrections_h == 168


def test_the_page_names_what_there_is() -> None:
    """Numbers and names of the code."""
    assert set(re.findall(r"gateway label-studio (\w+) ", PAGE)) == {action.value for action in Action}
    assert f"from {'.'.join(map(str, LEAST_VERSION))} on" in PAGE
    assert f"{MOST_SHOWN:,} characters" in PAGE
    assert f"`{WEBHOOK_HEADER}`" in PAGE
