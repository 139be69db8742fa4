"""docs/limits.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway._dataplane import Dataplane, Policy
from gateway.config.listening import ListenLimits
from tests.wire.plane import document

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text()
SOURCE = ROOT / "src" / "dataplane" / "src"
ROWS = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| ([^|]+) \|", PAGE, re.M)
CONST = re.compile(r"^\s*(?:pub )?const ([A-Z_]+): (?:u\d+|usize|Duration) = ([^;]+);", re.M)


def constants(room: Path) -> dict[str, str]:
    """Expressions of a room's constants, by name."""
    files = [path for path in sorted(room.rglob("*.rs")) if "tests" not in path.parts]
    return dict(pair for path in files for pair in CONST.findall(path.read_text()))


def value(expression: str, names: dict[str, str]) -> tuple[int, str]:
    """The number, and `ms` for a time."""
    for unit, factor in (("from_secs", 1000), ("from_millis", 1)):
        found = re.fullmatch(rf"(?:std::time::)?Duration::{unit}\((\w+)\)", expression)
        if found:
            return int(found[1]) * factor, "ms"
    product = 1
    for part in expression.split("*"):
        word = part.strip()
        product *= value(names[word], names)[0] if word in names else int(word.replace("_", ""))
    return product, ""


def said(text: str) -> tuple[int, str]:
    number, _, unit = text.strip().partition(" ")
    factor, kind = {
        "": (1, ""), "KiB": (1024, ""), "MiB": (1 << 20, ""), "s": (1000, "ms"), "ms": (1, "ms")
    }[unit]  # fmt: skip
    return int(number) * factor, kind


@pytest.mark.parametrize(("name", "room", "text"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_limit_is_what_the_page_says(name: str, room: str, text: str) -> None:
    names = constants(SOURCE / room)
    assert name in names, f"{room} has no constant {name}: correct docs/limits.md"
    assert value(names[name], names) == said(text)


def test_every_limit_of_a_connection_stands_on_the_page() -> None:
    file = SOURCE / "forward" / "transport" / "limits.rs"
    missing = {name for name, _ in CONST.findall(file.read_text())} - {name for name, _, _ in ROWS}
    # These two are settings.
    assert missing == {"MAX_CONCURRENT_STREAMS", "MAX_HEADER_LIST_BYTES"}


def test_defaults_of_the_settings_are_those_of_the_data_plane() -> None:
    """What a policy document of before had no word for goes on as it was."""
    text = (SOURCE / "forward" / "transport" / "limits.rs").read_text()
    names = constants(SOURCE / "forward" / "transport")
    default = text.partition("impl Default for Listening")[2].partition("\n}\n")[0]
    found = dict(re.findall(r"(\w+): ([A-Z0-9_]+),", default))
    assert {name: value(number, names)[0] if number.isupper() else int(number.replace("_", ""))
            for name, number in found.items()} == ListenLimits().document()  # fmt: skip


def test_the_data_plane_takes_the_settings_limits_and_no_others() -> None:
    options = {
        "inference": "127.0.0.1:0",
        "workers": 1,
        "control_socket": None,
        "ring_rows": 1,
        "capture_bytes": 1,
    }
    policy = Policy(json.dumps(document([])))
    Dataplane(json.dumps(options | {"listening": ListenLimits(keepalive_s=0.25).document()}), policy)
    with pytest.raises(ValueError, match="unknown field `call`"):
        Dataplane(json.dumps(options | {"listening": {"call": 1}}), policy)
