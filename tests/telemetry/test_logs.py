"""Log lines for machines and for people, neither of which ever see a payload."""

from __future__ import annotations

import io
import json
import logging

import pytest

from gateway.telemetry import configure_logs
from gateway.telemetry.logs import LONGEST_TEXT, JsonLines, TerminalLines


def record(message: str, *values: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("gateway.config").makeRecord(
        "gateway.config", logging.WARNING, "f.py", 1, message, values, None, extra=extra
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def root() -> object:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield root
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_a_machine_gets_one_json_object_a_line() -> None:
    """With the extra fields beside the message, so that nothing has to be parsed out of text."""
    line = JsonLines().format(record("reloaded %s\nand more", "spam", policy=7, faults=["a", b"xyz"]))
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == "reloaded spam\nand more"
    assert (found["level"], found["logger"], found["policy"]) == ("warning", "gateway.config", 7)
    assert found["faults"] == ["a", "<3 bytes>"]
    assert found["time"].endswith("+00:00")


def test_payloads_are_shown_by_their_length_only() -> None:
    """A tensor logged by accident does not leave the process."""
    secret = b"secret-tensor"
    line = JsonLines().format(record("answer", body=secret, view=memoryview(secret), nested={"x": secret}))
    assert "secret" not in line
    assert json.loads(line)["nested"] == {"x": "<13 bytes>"}
    long = json.loads(JsonLines().format(record("x" * (LONGEST_TEXT + 7))))["message"]
    assert long.endswith("<7 more characters>")


def test_a_terminal_cannot_be_driven_by_a_name() -> None:
    """Names come from callers; an escape sequence in one must stay text, and forge no line."""
    line = TerminalLines(colour=False).format(record("model %s", "\x1b[2J\nforged", queue="a\rb"))
    assert line.isprintable()
    assert line.endswith(r"warning gateway.config: model \x1b[2J\nforged queue=a\rb")


def test_an_error_comes_with_its_trace() -> None:
    """In both forms."""
    error = ValueError("why")
    one = record("failed")
    one.exc_info = (ValueError, error, None)
    assert "ValueError: why" in json.loads(JsonLines().format(one))["error"]
    assert TerminalLines(colour=True).format(one).splitlines()[-1] == "ValueError: why"


def test_the_form_follows_the_stream(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour for a terminal that wants it, JSON for everything else; a second call replaces the first."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    pipe, terminal, plain = io.StringIO(), Terminal(), Terminal()
    configure_logs("INFO", pipe)
    logging.getLogger("gateway").info("one")
    configure_logs("WARNING", terminal)
    logging.getLogger("gateway").info("two")
    logging.getLogger("gateway").warning("three")
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logs("INFO", plain)
    logging.getLogger("gateway").info("four")
    assert [json.loads(line)["message"] for line in pipe.getvalue().splitlines()] == ["one"]
    assert "\x1b[33mwarning\x1b[0m gateway: three" in terminal.getvalue()
    assert "two" not in terminal.getvalue()
    assert "\x1b" not in plain.getvalue()
