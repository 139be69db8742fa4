"""What a fleet cannot do is refused with its place and the mend, before anything listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from gateway.config import Settings, read_text
from gateway.config.fleet import fleet_faults, is_loopback
from gateway.config.foreign import SECRETS, foreign_faults, is_secret
from gateway.errors import SettingsError
from gateway.ledger import Ledger
from gateway.runtime import Secrets
from gateway.services.policies import PolicyBook

GOOD = """\
listen: {control: "127.0.0.1:8081"}
backends:
  m: {grpc: "127.0.0.1:1"}
  ham: {answer: {label: ham}}
routes:
  spam:
    chain: [m, ham]
    prediction: {label: label, classes: [ham, spam]}
"""


PYTHON = '    rules: [{name: r, python: "a:b", otherwise: false, then: {answer: ham}}]\n'
ROUTE, REVIEW = "routes:\n  spam:\n", "    review: {queue: q, capture: [inputs]}\n"
TOOL = (
    'label_studio: {url: "https://tool.example.org", token: literal.token.of-it-all,'
    " webhook_secret: a-literal-secret-of-it, queues: {q: {project: 3}}}\n"
)
EVENTS = '{url: "https://events.example.org/x", token: a-literal-token-of-it}'


def faults(change: str, to: str) -> list[str]:
    assert change in GOOD
    text = GOOD.replace(change, to, 1)
    loaded = read_text(
        text, name="g.yaml", env={"KEY": "a key of some length", "TOKEN": "a.literal.token-of-it"}
    )
    assert not loaded.faults, [str(fault) for fault in loaded.faults]
    return [str(fault) for fault in fleet_faults(loaded, text)]


def test_settings_of_a_fleet_are_good() -> None:
    """The rule must let something through."""
    assert faults("listen", "listen") == []


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        ('{control: "127.0.0.1:8081"}', "{}", "listen: there is no control; wanted where sidecars call"),
        ("127.0.0.1:8081", "0.0.0.0:8081", "plain text on an address that other machines reach"),
        ("127.0.0.1:8081", "0.0.0.0:8081", "nobody in `access` has the role sidecar"),
        ("backends:", "ledger: postgresql://x/y\nbackends:", "there is no salt, and every replica would make its own"),
        ("backends:", "secrets: {salt: a literal salt of it}\nbackends:", "secrets.salt: a secret in"),
        ("backends:", "secrets: {receipt_keys: [a literal key of it]}\nbackends:", "secrets.receipt_keys[0]: a secret"),
        ("backends:", "access: {a: {role: sidecar, token: a literal token of it}}\nbackends:", "a.token: a secret"),
        ("backends:", "secrets: {salt: '${NONE:-a literal salt of it}'}\nbackends:", "secrets.salt: a secret in"),
        (ROUTE, f"{TOOL}{ROUTE}{REVIEW}", "label_studio.token: a secret in"),
        (ROUTE, f"{TOOL}{ROUTE}{REVIEW}", "label_studio.webhook_secret: a secret in"),
        ("backends:", f"telemetry: {{events: {EVENTS}}}\nbackends:", "events.token: a secret in"),
        ("backends:", "ledger: 'postgresql://u:word@h/d'\nbackends:", "ledger: a password in"),
        ("backends:", "ledger: 'postgresql://u@h/d?password=word'\nbackends:", "ledger: a password in"),
        ("backends:", "ledger: '${NONE:-postgresql://u:word@h/d}'\nbackends:", "ledger: a password in"),
        ("backends:", "telemetry: {otlp: 'http://u:word@h:1'}\nbackends:", "telemetry.otlp: a password in"),
    ],
)  # fmt: skip
def test_what_a_fleet_cannot_do_is_refused(change: str, to: str, words: str) -> None:
    """Each with its place, and with what to write instead."""
    assert any(words in fault for fault in faults(change, to)), faults(change, to)


def test_secrets_by_reference_are_good() -> None:
    """They stand in the environment or in files, and the ledger keeps only their names."""
    assert faults("backends:", 'secrets: {salt: "${KEY}", receipt_keys: ["${KEY}"]}\nbackends:') == []
    ledger = "ledger: 'postgresql://u:${KEY}@h/d'"
    assert not [fault for fault in faults("backends:", f"{ledger}\nbackends:") if "password" in fault]


def test_budgets_events_and_a_label_tool_are_good() -> None:
    """What one control does for all, or each for what it gets."""
    budget = REVIEW.replace("queue: q", "queue: q, per_hour: 9")
    tool = TOOL.replace("literal.token.of-it-all", '"${TOKEN}"').replace(
        "a-literal-secret-of-it", '"${TOKEN}"'
    )
    events = EVENTS.replace("a-literal-token-of-it", '"${TOKEN}"')
    assert faults(ROUTE, f"{tool}telemetry: {{events: {events}}}\n{ROUTE}{budget}") == []


def test_people_and_rules_in_python_are_good() -> None:
    """Sidecars ask people at control, and run functions from a folder of their own."""
    assert faults("{answer: {label: ham}}", "{people: {queue: q}}") == []
    assert faults(ROUTE, f"{ROUTE}{PYTHON}") == []


def test_every_secret_of_the_settings_is_known() -> None:
    """One that is new must not be kept in the ledger unseen."""

    def secrets(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        if kind is SecretStr:
            yield path
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                yield from secrets(field.annotation, (*path, name))
        else:
            inner = "*" if get_origin(kind) is Mapping else None
            for part in get_args(kind):
                yield from secrets(part, path if inner is None else (*path, inner))

    found = set(secrets(Settings))
    assert found == set(SECRETS)
    assert all(is_secret(path) for path in found)
    assert not is_secret(("access", "a", "role"))


OWN = "lists: {friends: 'file:friends.txt'}\nlisten: {inference: '${HOST:-127.0.0.1}:8080'}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lists: {a: 'file:/etc/passwd'}", '1:12: lists.a: "file:/etc/passwd" would be looked up'),
        ("lists:\n  a: ['file:keys/salt']", '2:7: lists.a[0]: "file:keys/salt" would be looked up'),
        ("descriptors: [keys/salt]", 'descriptors[0]: "keys/salt" would'),
        ("descriptors: keys/salt", 'descriptors: "keys/salt" would'),
        ("lists: {a: '${SECRET}'}", 'lists.a: "${SECRET}" would'),
        ("routes: {a: {chain: [x, '${SECRET:-b}']}}", 'routes.a.chain[1]: "${SECRET}" would'),
        ("ledger: '${SECRET}'", 'ledger: "${SECRET}" would'),
        ("a: &x {b: '${SECRET}'}\nlisten: {<<: *x}", 'listen.b: "${SECRET}" would'),
        ("listen: {inference: '${HOST}:8081'}", 'listen.inference: "${HOST}:8081" would'),
    ],
)
def test_what_is_published_reads_nothing_else_of_the_machine(text: str, shown: str) -> None:
    """A list or a value would stand in the policy's document, for every viewer."""
    assert any(shown in str(fault) for fault in foreign_faults(text, OWN, "g.yaml")), [
        str(fault) for fault in foreign_faults(text, OWN, "g.yaml")
    ]


@pytest.mark.parametrize(
    "text",
    [
        OWN,
        "secrets: {salt: '${SALT}', receipt_keys: ['${KEY}', 'file:/run/keys/receipt']}",
        "access: {anna: {role: operator, token: '${ANNA}'}}",
        "lists: {a: [x, y], b: '$${NAME}'}",
        "",
    ],
)
def test_what_control_itself_refers_to_may_be_published(text: str) -> None:
    """Secrets are shown to nobody, and the settings file can be published by hand as it is."""
    assert foreign_faults(text, OWN, "g.yaml") == []


def test_a_list_is_not_read_for_whoever_publishes(tmp_path: Path) -> None:
    """Neither its lines nor a variable's value come back, not even in a fault; the settings file's own lists do."""
    (tmp_path / "salt").write_text("the salt itself\n")
    (tmp_path / "friends.txt").write_text("anna\n")
    own = f"lists: {{friends: 'file:friends.txt'}}\n{GOOD}"
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.open()
    try:
        secrets = Secrets(salt_hex="00" * 32, receipt_keys=(bytes(32),))
        book = PolicyBook(ledger, secrets, folder=tmp_path, name="g.yaml", own=lambda: own)
        with pytest.raises(SettingsError) as refused:
            book.publish(own.replace("friends.txt", "salt"), author="anna", reason="")
        assert [fault.line for fault in refused.value.faults] == [1]
        assert "the salt itself" not in str(refused.value)
        assert book.publish(own, author="anna", reason="") == 1
        assert book.in_force() is not None
    finally:
        ledger.close()


def test_a_loopback_address_is_told_from_others() -> None:
    """What only this machine reaches needs neither tokens nor TLS."""
    for address in ("127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1", "unix:/run/x"):
        assert is_loopback(address), address
    for address in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"):
        assert not is_loopback(address), address
