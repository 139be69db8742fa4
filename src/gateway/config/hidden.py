"""Secrets that stand in a settings file itself, kept out of the copy of it that goes to the ledger.

People may read the ledger who must not forge receipts. So in the copy a variable stands for each secret, and what it
means is looked up in the file whenever the copy is read: a version that is rolled back to has today's secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.config.expand import has_variable
from gateway.config.faults import Path
from gateway.config.foreign import is_secret
from gateway.config.ledger_url import has_password
from gateway.config.source import Source, read_yaml, scalars

__all__ = ["hidden_secrets", "hide_secrets"]

_PREFIX: Final = "GATEWAY_SETTINGS_"


def hide_secrets(text: str) -> str:
    """The text with a variable in place of each literal secret; unchanged where there is none."""
    source = read_yaml("settings", text, {})
    # By where they stand: an alias stands where its anchor does.
    at = {source.places[path].start: (source.places[path].end, path) for path, _ in _secrets(source)}
    for start, (end, path) in sorted(at.items(), reverse=True):
        after = "\n" if text[start:end].endswith("\n") else ""  # of a block
        text = f'{text[:start]}"${{{_name(path)}}}"{after}{text[end:]}'
    return text


def hidden_secrets(text: str) -> dict[str, str]:
    """What the variables mean, by the settings file `text`."""
    return {_name(path): value for path, value in _secrets(read_yaml("settings", text, {}))}


def _secrets(source: Source) -> Iterator[tuple[Path, str]]:
    for path, value in scalars(source.tree, ()):
        place = source.places.get(path)
        if place is None or place.end <= place.start or not value:
            continue
        literal = not value.startswith("file:") and not has_variable(source.text[place.start : place.end])
        if literal and (
            is_secret(path) or (path in (("ledger",), ("telemetry", "otlp")) and has_password(value))
        ):
            yield path, value


def _name(path: Path) -> str:
    return _PREFIX + re.sub(r"[^A-Za-z0-9]", "_", "_".join(str(part) for part in path)).upper()
