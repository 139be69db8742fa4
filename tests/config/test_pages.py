"""What the docs and examples show is what works."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.config import json_schema, read, read_text
from gateway.config.schema import blocks_with
from tests.config import reference

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "settings").glob("*.yaml"))
BLOCKS = re.findall(r"```yaml\n(.*?)```", reference.PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_are_good(file: Path) -> None:
    """Who copies an example gets a gateway, without a warning."""
    loaded = read(file, env={})
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []


@pytest.mark.parametrize(
    "text",
    BLOCKS,
    ids=[
        "ten lines",
        "routes and backends",
        "when a backend fails",
        "what an answer must be",
        "what is remembered",
        "chance",
        "review queues",
    ],
)
def test_settings_of_the_page_are_good(text: str) -> None:
    """The page's settings are settings."""
    loaded = read_text(text, env={})
    assert [str(fault) for fault in loaded.faults] == []


def test_starter_file_is_good() -> None:
    """`gateway init` writes a file that passes, also with what it has in comments."""
    text = files("gateway.config").joinpath("starter.yaml").read_text("utf-8")
    assert [str(fault) for fault in read_text(text, env={}).faults] == []
    everything = re.sub(r"^( *)# ((?:  - |[a-z_]+: ).*)$", r"\1\2", text, flags=re.MULTILINE)
    everything = everything.replace("routes:\n", '  spam-v4: {grpc: "127.0.0.1:8004"}\nroutes:\n', 1)
    assert [str(fault) for fault in read_text(everything, env={}).faults] == []
    settings = read_text(everything, env={}).settings
    assert settings is not None
    assert settings.routes["spam"].review is not None
    assert settings.telemetry.otlp is not None


def test_tables_of_the_page_are_those_of_the_models() -> None:
    """A setting that is added stands in the docs: `python -m tests.config.reference` writes them."""
    assert reference.PAGE.read_text("utf-8") == reference.page()


def test_faults_shown_on_the_page_are_real() -> None:
    """The page promises these very lines."""
    text = BLOCKS[0].replace("[spam-v3, ham]", "[spam-v3, hamm]").replace("floor: 0.8", "floor: 80")
    shown = re.findall(r"^gateway\.yaml:\d.*$", reference.PAGE.read_text("utf-8"), re.MULTILINE)
    assert [str(fault) for fault in read_text(text, name="gateway.yaml", env={}).faults] == shown


def test_schema_names_every_setting() -> None:
    """Editors complete what the gateway reads, and mark what it refuses."""
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {"listen", "routes", "backends", "telemetry"}
    route = schema["$defs"]["Route"]
    assert route["required"] == ["chain"]
    assert json.dumps(schema)
    assert list(blocks_with("floor")) == ["routes.<name>.confidence", "routes.<name>.explore"]


def test_schema_takes_short_forms() -> None:
    """One endpoint need not be a list, a share of review need not be a block."""
    definitions = json_schema()["$defs"]
    assert {"type": "string"} in definitions["Backend"]["properties"]["grpc"]["anyOf"][0]["anyOf"]
    assert any(form.get("type") == "number" for form in definitions["Review"]["properties"]["share"]["anyOf"])
