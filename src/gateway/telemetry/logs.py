"""Log lines: JSON where a machine reads them, short and coloured where a person does.

structlog would do this too, and be one more dependency in every sidecar for the hundred lines below. What is
logged as `extra` becomes fields. Payloads do not belong in logs: bytes are shown by their length only, long
text is cut, and control characters are escaped, because names in messages come from callers and a terminal
obeys what it is sent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["JsonLines", "TerminalLines", "configure_logs"]

LONGEST_TEXT = 2000
"""Characters of one field; a model's answer or a tensor printed by accident stops here."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS: Mapping[int, str] = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_RESET = "\x1b[0m"
_CHATTY = ("alembic", "uvicorn", "watchfiles", "opentelemetry")
"""Libraries whose INFO is about themselves; their warnings are wanted."""


def configure_logs(level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Send the whole process's logs to `stream` (stderr), in the form that suits it. May be called again."""
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    if out.isatty():
        handler.setFormatter(TerminalLines(colour="NO_COLOR" not in os.environ))
    else:
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if getattr(handler, "_gateway", False)]:
        root.removeHandler(old)
    handler._gateway = True  # type: ignore[attr-defined]  # marks what a later call may replace
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the extra fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, _plain(value))
        if record.exc_info:
            line["error"] = _cut(self.formatException(record.exc_info), end=True)
        # Surrogates from undecodable names are escaped by the default ensure_ascii.
        return json.dumps(line, separators=(",", ":"), default=_plain)


class TerminalLines(logging.Formatter):
    """`12:34:56 warning gateway.config: message name=value`."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = record.levelname.lower()
        if self._colour:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{_RESET}"
        fields = "".join(f" {name}={_visible(_plain(value))}" for name, value in _fields(record).items())
        line = f"{at} {level} {record.name}: {_visible(_plain(record.getMessage()))}{fields}"
        if record.exc_info:
            trace = _cut(self.formatException(record.exc_info), end=True)
            line += "\n" + "\n".join(_visible(part) for part in trace.splitlines())
        return line


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _plain(value: object) -> str | int | float | bool | list[Any] | dict[str, Any] | None:
    """The value as JSON can say it, without payloads."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return _cut(str(value))


def _cut(text: str, *, end: bool = False) -> str:
    """At most LONGEST_TEXT characters; a trace's end says more than its beginning."""
    if len(text) <= LONGEST_TEXT:
        return text
    kept = text[-LONGEST_TEXT:] if end else text[:LONGEST_TEXT]
    left_out = f"<{len(text) - LONGEST_TEXT} more characters>"
    return f"{left_out}{kept}" if end else f"{kept}{left_out}"


def _visible(value: object) -> str:
    """Text with control characters escaped."""
    text = str(value)
    return text if text.isprintable() else "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
