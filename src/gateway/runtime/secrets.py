"""The salt of every random choice and the keys of receipts: given in the settings, or made once and kept.

Why they are kept: with a new salt, held-out units would meet the model after a restart; with a new key, feedback to
receipts given before it would be refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets as random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config import Settings

__all__ = ["Secrets", "kept_secrets"]

LEAST_CHARACTERS: Final = 16
"""A kept secret is linked into place when it is whole, so a shorter one was damaged."""

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,}\Z")


@dataclass(frozen=True, slots=True)
class Secrets:
    """`salt_hex`: 64 hex digits. `receipt_keys`: the first signs, all verify."""

    salt_hex: str = field(repr=False)
    receipt_keys: tuple[bytes, ...] = field(repr=False)


def kept_secrets(settings: Settings, *, make: bool = True) -> Secrets:
    """The secrets of the settings, else those in `state_dir`, else new ones, written there with mode 0600.

    With `make=False` nothing is written: new ones live as long as this process (for `explain` and `check`).
    Raises: OSError, if `state_dir` cannot be read or written.
    """
    salt = settings.secrets.salt
    keys = tuple(_key(key.get_secret_value()) for key in settings.secrets.receipt_keys)
    salt_text = salt.get_secret_value() if salt is not None else _kept(settings.state_dir / "salt", make)
    return Secrets(
        salt_hex=_salt(salt_text),
        receipt_keys=keys or (_key(_kept(settings.state_dir / "receipt-key", make)),),
    )


def _key(text: str) -> bytes:
    return bytes.fromhex(text) if _HEX.match(text) else text.encode()


def _salt(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> str:
    try:
        held = file.read_text("ascii").strip()
    except UnicodeDecodeError:
        held = ""
    if len(held) >= LEAST_CHARACTERS:
        return held
    # Not replaced: with another key or salt, receipts are refused and held-out units meet the model.
    words = "is not the text that was kept there; put that back, or remove the file for a new one"
    raise OSError(errno.EINVAL, words, str(file))


def _kept(file: Path, make: bool) -> str:
    with contextlib.suppress(FileNotFoundError):
        return _read(file)
    made = random.token_hex(32)
    if not make:
        return made
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{random.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(made + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            # a link does not replace: of two that start at once, both end up with the first one's
            os.link(draft, file)
        except FileExistsError:
            return _read(file)
        except PermissionError:
            # a file system without links
            draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return made
