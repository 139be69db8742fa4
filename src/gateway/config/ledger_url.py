"""Where a ledger lives, as a text: what may stand there, and how it is shown without its password."""

from __future__ import annotations

import re
from typing import Final

from gateway.config.faults import did_you_mean, quoted
from gateway.config.fields import wrong

__all__ = ["WANTED", "has_password", "ledger_place", "without_password"]

WANTED: Final = "sqlite, sqlite:///path/to/file.db, or postgresql://USER@HOST/DATABASE"

_PASSWORD = re.compile(r"(?<=://)([^:@/\s]*):\S*@")
_IN_QUERY = re.compile(r"(?<=[?&])(password|sslpassword)=[^&\s]*")
_FORM = re.compile(
    r"postgresql://(?:[^:/@]*(?::[^@]*)?@)?(?:\[[^\]]*\]|[^/:?@]*)(?::(?P<port>[^/?@]*))?"
    r"(?:/(?P<database>[^?@/]*))?(?:\?[^@]*)?\Z"
)
"""As SQLAlchemy reads it; this room does without that."""

_MEND = "keep passwords out of it: ${VARIABLE}, PGPASSWORD or PGPASSFILE"


def without_password(text: str) -> str:
    """The text with three stars for each password of a URL in it."""
    return _IN_QUERY.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text))


def has_password(text: str) -> bool:
    """Whether a URL in the text has a password that is not empty."""
    return re.search(r"://[^:@/\s]*:[^@\s]+@|[?&](password|sslpassword)=[^&\s]", text) is not None


def ledger_place(value: str) -> str:
    """The value, if a ledger could live there; whether it can, `gateway check` tries.

    Raises: a fault of the settings, without the password.
    """
    if value == "sqlite" or value.startswith("sqlite:///"):
        return value
    shown = quoted(without_password(value), limit=100)
    if value.startswith("postgres://"):
        raise wrong(f"{shown} has a scheme that was given up", "postgresql://", "write postgresql://")
    if not value.startswith("postgresql://"):
        raise wrong(shown, WANTED, did_you_mean(value, ("sqlite",)))
    parts = _FORM.match(value)
    if parts is None:
        mend = "a @ in the password is written %40" if value.count("@") > 1 else _MEND
        raise wrong(f"{shown} is no such URL", WANTED, mend)
    if not parts["database"]:
        raise wrong(f"{shown} names no database", "postgresql://USER@HOST/DATABASE")
    port = parts["port"]
    if port is not None and not (port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise wrong(f"{shown} has port {quoted(port)}", "a port from 1 to 65535")
    return value
