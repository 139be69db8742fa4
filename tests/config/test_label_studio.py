"""Label Studio in the settings: what contradicts it, by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Loaded, read_text
from gateway.config.label_studio import queue_classes

SETTINGS = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001"}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    review: {queue: moderation, capture: [inputs]}
label_studio:
  url: "https://studio/path/"
  token: "head.payload.signature"
  queues: {moderation: {project: 3}}
"""


def read(*changes: tuple[str, str], folder: Path | None = None) -> Loaded:
    text = SETTINGS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read_text(text, env={}, folder=folder)


def test_ten_lines_are_enough(tmp_path: Path) -> None:
    """The address loses its last stroke, secrets may stand in files, and none is shown."""
    (tmp_path / "token").write_text("head.payload.signature\n")
    (tmp_path / "hook").write_text("a-secret-of-some-length\n")
    more = '"file:token"\n  webhook_secret: "file:hook"'
    loaded = read(('"head.payload.signature"', more), folder=tmp_path)
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []
    assert loaded.settings is not None
    block = loaded.settings.label_studio
    assert block is not None
    assert block.url == "https://studio/path"
    assert block.webhook_secret is not None
    assert block.webhook_secret.get_secret_value() == "a-secret-of-some-length"
    assert "signature" not in repr(loaded.settings)
    assert queue_classes(loaded.settings, "moderation") == ("ham", "spam")
    assert queue_classes(loaded.settings, "other") == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"https://studio/path/"', "studio", 'label_studio.url: "studio" is no address of a Label Studio'),
        ('"https://studio/path/"', '"https://a@studio"', "wanted"),
        ('"head.payload.signature"', '"0123456789abcdef0123"', "legacy tokens do not do"),
        ('"head.payload.signature"', '"a.b.c"', "a secret of 5 characters"),
        ('  token: "head.payload.signature"\n', "", "label_studio.token: token is missing"),
        ('"head.payload.signature"', '"file:absent"', "cannot read absent"),
        ("{moderation: {project: 3}}", "{}", "label_studio.queues"),
        ("project: 3", "project: 0", "label_studio.queues.moderation.project"),
        ("{moderation: {project: 3}}", "{moderatoin: {project: 3}}", "did you mean moderation?"),
        ("{moderation: {project: 3}}", "{moderation: {project: 3, limit: 5}}", "limit"),
        ("classes: [ham, spam], positive: spam}", "positive: spam}", "the route spam names no classes"),
        (", capture: [inputs]", "", "the route spam captures nothing"),
        (
            "  ham: {answer",
            "  people: {people: {queue: moderation}}\n  ham: {answer",
            "calls of people wait for this queue",
        ),
    ],
)
def test_faults_say_where_and_the_mend(old: str, new: str, words: str) -> None:
    """All of it before anything starts, and no secret in it."""
    loaded = read((old, new))
    told = "\n".join(str(fault) for fault in loaded.faults)
    assert words in told
    assert "head.payload" not in told


def test_a_project_is_of_one_queue() -> None:
    """Two queues in one project would get each other's choices."""
    route = """  mail:
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    review: {queue: other, capture: [inputs]}
"""
    second = ("label_studio:", f"{route}label_studio:")
    loaded = read(second, ("{project: 3}}", "{project: 3}, other: {project: 3}}"))
    [fault] = loaded.faults
    assert "project 3 is that of the queue moderation too" in str(fault)
    assert "label_studio.queues.other.project" in str(fault)
