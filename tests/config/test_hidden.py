"""Secrets that stand in the settings themselves never reach the ledger, and are there again when settings are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import read_text
from gateway.config.hidden import hidden_secrets, hide_secrets
from tests.config.examples import EVERYTHING, TEN_LINES


def test_settings_without_secrets_stay_as_they_are() -> None:
    """What people wrote is what they see when they look at a version."""
    assert hide_secrets(TEN_LINES) == TEN_LINES
    assert hidden_secrets(TEN_LINES) == {}


@pytest.mark.parametrize(
    "secret",
    [
        'secrets: {salt: "0123456789abcdef0"}',
        "secrets: {salt: 0123456789abcdef0}",
        "secrets: {salt: 'it''s 0123456789abcdef0'}",
        "secrets:\n  salt: |\n    0123456789abcdef0",
        'secrets: {receipt_keys: ["a key that is 0123456789abcdef0", "file:other"]}',
        "access: {ann: {role: reviewer, token: 0123456789abcdef0123456789abcdef0}}",
        "ledger: postgresql://gateway:0123456789abcdef0@host/db",
    ],
)
def test_a_literal_secret_is_hidden_and_found_again(secret: str, tmp_path: Path) -> None:
    """The copy means the same to this gateway, and nothing to who reads the ledger."""
    (tmp_path / "other").write_text("another key, long enough")
    text = f"{TEN_LINES}{secret}\n"
    hidden = hide_secrets(text)
    assert "0123456789abcdef0" not in hidden
    assert "GATEWAY_SETTINGS_" in hidden
    read = read_text(text, name="g.yaml", folder=tmp_path, env={})
    again = read_text(hidden, name="g.yaml", folder=tmp_path, env=hidden_secrets(text))
    assert again.faults == []
    assert read.settings is not None
    assert again.settings == read.settings
    assert hide_secrets(hidden) == hidden


def test_what_comes_from_the_environment_or_a_file_is_no_secret_of_the_text() -> None:
    """A reference is told to nobody's harm."""
    text = EVERYTHING.replace('"a key that is long enough"', '"file:/run/keys/receipt"')
    assert hide_secrets(text) == text
