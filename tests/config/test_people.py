"""People in the settings: what contradicts them, and what is probably not meant."""

from __future__ import annotations

import pytest

from gateway.config import Loaded, read_text

SETTINGS = """\
backends:
  moderators: {people: {queue: moderation, timeout_s: 20, redact: [inputs.email]}}
  spam-v3: {grpc: "127.0.0.1:8001"}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [spam-v3, moderators, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
"""


def read(*changes: tuple[str, str]) -> Loaded:
    text = SETTINGS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read_text(text, env={})


def test_people_stand_wherever_a_backend_can() -> None:
    """In the chain, in rules, as the way out of a loop, as the answer of the holdout; before a static answer."""
    more = (
        "    holdout: {share: 0.1, answer: moderators}\n"
        "    loop_guard: {limit: 3, within_s: 60, on: [same_negative], then: moderators}\n"
        "    rules:\n"
        "      - {when: 'request.rows > 2', then: {to: moderators}}\n"
        "      - {when: 'request.rows > 3', then: {answer: moderators}}\n"
    )
    loaded = read(
        ("    prediction:", f"{more}    prediction:"),
        ("backends:", 'identity: {unit: "metadata:u"}\nbackends:'),
    )
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("timeout_s: 20", "timeout_s: 0", "backends.moderators.people.timeout_s"),
        ("[inputs.email]", "[email]", "write inputs.email"),
        ("{people: {", '{grpc: "127.0.0.1:1", people: {', "both grpc and people"),
        ("{people: {", "{timeout_ms: 5, people: {", "timeout_ms beside people"),
        (
            "{scores: probabilities, classes: [ham, spam], positive: spam}",
            "{value: v}",
            "are people, who answer with a label",
        ),
        (
            "    prediction:",
            "    mirror: [{to: moderators}]\n    prediction:",
            "moderators are people; wanted spam-v3",
        ),
        ("backends:", "default_backend: moderators\nbackends:", "moderators are people"),
        ("moderators, ham]", "ham, moderators]", "moderators is never reached"),
        (
            "  spam:\n",
            "  spam:\n    match: {method: /a.B/C}\n",
            "moderators redact inputs of the Open Inference Protocol",
        ),
    ],
)
def test_what_contradicts_people_is_a_fault(old: str, new: str, words: str) -> None:
    """Before a call meets it."""
    found = "\n".join(map(str, read((old, new)).faults))
    assert words in found, found


@pytest.mark.parametrize(
    "where", ["chain: [moderators, ham]", "chain: [ham]\n    holdout: {share: 0.1, answer: moderators}"]
)
def test_a_deadline_that_leaves_people_no_time_is_a_warning(where: str) -> None:
    """Wherever they stand."""
    loaded = read(("chain: [spam-v3, moderators, ham]", f"{where}\n    deadline_ms: 250"))
    assert loaded.faults == []
    assert any("they hardly ever answer in time" in str(warning) for warning in loaded.warnings)
