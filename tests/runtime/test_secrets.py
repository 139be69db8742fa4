"""Secrets are made once and kept."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.config import Settings, read_text
from gateway.runtime.secrets import kept_secrets
from tests.config.examples import TEN_LINES


def settings(folder: Path, more: str = "") -> Settings:
    made = read_text(TEN_LINES + more, folder=folder, env={}).settings
    assert made is not None
    return made


def test_secrets_survive_a_restart(tmp_path: Path) -> None:
    """With another salt held-out units would meet the model; with another key feedback would be refused."""
    first = kept_secrets(settings(tmp_path))
    assert kept_secrets(settings(tmp_path)) == first
    assert len(bytes.fromhex(first.salt_hex)) == 32
    assert len(first.receipt_keys[0]) == 32


def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    """Nobody else on the machine may forge a receipt, and nothing shows them by chance."""
    secrets = kept_secrets(settings(tmp_path))
    files = sorted((tmp_path / "state").iterdir())
    assert [file.name for file in files] == ["receipt-key", "salt"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert secrets.salt_hex not in repr(secrets)


def test_given_secrets_are_used_and_nothing_is_made(tmp_path: Path) -> None:
    """Replicas share what the settings give: hex is bytes, other text is itself, a salt is hashed to its length."""
    more = (
        f"secrets: {{salt: sixteen characters, receipt_keys: ['{'0f' * 16}', a passphrase of some length]}}\n"
    )
    secrets = kept_secrets(settings(tmp_path, more))
    assert secrets.salt_hex == hashlib.sha256(b"sixteen characters").hexdigest()
    assert secrets.receipt_keys == (b"\x0f" * 16, b"a passphrase of some length")
    assert not (tmp_path / "state").exists()


def test_explaining_leaves_nothing_behind(tmp_path: Path) -> None:
    """`gateway explain` is a look, not a start."""
    kept_secrets(settings(tmp_path), make=False)
    assert not (tmp_path / "state").exists()


def test_gateways_that_start_at_once_agree(tmp_path: Path) -> None:
    """Of several first starts on one folder, all end up with the same secrets."""
    made = settings(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len({kept.salt_hex for kept in pool.map(lambda _: kept_secrets(made), range(16))}) == 1


def test_a_kept_secret_that_is_damaged_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    """With a new one receipts would be refused and held-out units would meet the model, and nobody would know."""
    made = settings(tmp_path)
    kept_secrets(made)
    file = tmp_path / "state" / "receipt-key"
    file.write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(OSError, match="receipt-key"):
        kept_secrets(made)
    assert file.read_bytes() == b"\xff\xfe" * 20
