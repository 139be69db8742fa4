"""What a fleet cannot do is refused with its place and the mend, before anything listens."""

from __future__ import annotations

import pytest

from gateway.config import read_text
from gateway.config.fleet import fleet_faults, is_loopback

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


PYTHON = 'rules: [{name: r, python: "a:b", otherwise: false, then: {answer: ham}}]'


def faults(change: str, to: str) -> list[str]:
    assert change in GOOD
    text = GOOD.replace(change, to, 1)
    loaded = read_text(text, name="g.yaml", env={"KEY": "a key of some length"})
    assert not loaded.faults
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
        ("{answer: {label: ham}}", "{people: {queue: q}}", "backends.ham.people: a call cannot wait for people"),
        ("    chain", f"    {PYTHON}\n    chain", "rules[0].python: a rule in Python"),
        ("    chain", "    review: {per_hour: 9}\n    chain", "a number of reviews an hour is not kept in a fleet"),
        ("backends:", "secrets: {salt: a literal salt of it}\nbackends:", "secrets.salt: a secret in the settings"),
        ("backends:", "secrets: {receipt_keys: [a literal key of it]}\nbackends:", "secrets.receipt_keys[0]: a secret"),
        ("backends:", "access: {a: {role: sidecar, token: a literal token of it}}\nbackends:", "a.token: a secret"),
    ],
)  # fmt: skip
def test_what_a_fleet_cannot_do_is_refused(change: str, to: str, words: str) -> None:
    """Each with its place, and with what to write instead."""
    assert any(words in fault for fault in faults(change, to)), faults(change, to)


def test_secrets_by_reference_are_good() -> None:
    """They stand in the environment or in files, and the ledger keeps only their names."""
    assert faults("backends:", 'secrets: {salt: "${KEY}", receipt_keys: ["${KEY}"]}\nbackends:') == []


def test_a_loopback_address_is_told_from_others() -> None:
    """What only this machine reaches needs neither tokens nor TLS."""
    for address in ("127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1", "unix:/run/x"):
        assert is_loopback(address), address
    for address in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"):
        assert not is_loopback(address), address
