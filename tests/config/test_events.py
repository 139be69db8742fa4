"""`telemetry.events`: what is refused, and that its secret is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import read, read_text
from gateway.config.changes import changes

SETTINGS = 'backends: {m: {grpc: "127.0.0.1:8001"}}\nroutes: {spam: {chain: [m]}}\n'


def told(events: str, env: dict[str, str] | None = None) -> list[str]:
    return [
        str(fault) for fault in read_text(f"{SETTINGS}telemetry: {{events: {events}}}", env=env or {}).faults
    ]


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ("{}", "url"),
        ("{url: collector.example.org}", 'wanted "https://HOST/path" (write https://collector.example.org)'),
        ('{url: "ftp://a/b"}', "is no address that takes events"),
        ('{url: "https://me:pass@a/b"}', "give what proves who you are as token"),
        ('{url: "https://a/", token: short}', "a secret of 5 characters"),
        ('{url: "https://a/", token: "a b c d e f g h i j"}', "a secret with blanks in it"),
        ('{url: "https://a/", send: []}', "send"),
        ('{url: "https://a/", send: [answers]}', "send"),
        ('{url: "https://a/", source: "a b"}', "a URI reference without blanks"),
        ('{url: "https://a/", queue_bytes: 10}', "queue_bytes"),
        ('{url: "https://a/", timeout_s: 0}', "timeout_s"),
    ],
)
def test_faults_say_what_is_wanted(events: str, found: str) -> None:
    faults = told(events)
    assert faults
    assert any(found in fault for fault in faults), faults


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    """Not in a fault, a settings dump or a change; from the environment and from a file alike."""
    token = "0123456789abcdef-token"
    (tmp_path / "token").write_text(token)
    made = []
    for name, value in (("a", "file:token"), ("b", "${TOKEN}"), ("c", "another-token-0123456")):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f'{SETTINGS}telemetry: {{events: {{url: "https://a/", token: "{value}"}}}}')
        loaded = read(file, env={"TOKEN": token})
        assert loaded.settings is not None, loaded.faults
        made.append(loaded.settings)
    assert [one.telemetry.events.token.get_secret_value() == token for one in made] == [True, True, False]
    [change] = changes(made[0], made[2])
    for shown in (repr(made[0]), made[0].model_dump_json(), str(change), repr(change.as_dict())):
        assert token not in shown
    assert change.restart


def test_an_empty_token_counts_as_none() -> None:
    assert told('{url: "https://a/", token: "${TOKEN:-}"}') == []
