"""Rules and ways out that lead back are found before they run, with their line and the mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway._dataplane import Policy
from gateway.config import read_text
from gateway.runtime.document import document

TEXT = """\
identity: {unit: "metadata:x-user-id"}
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam}
  lite: {grpc: "127.0.0.1:8002", model: spam}
  big: {grpc: "127.0.0.1:8003", model: spam}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    REST
"""


def read(rest: str) -> tuple[list[str], list[str]]:
    text = TEXT.replace("    chain: [spam-v3, ham]\n", "") if "chain:" in rest else TEXT
    loaded = read_text(text.replace("REST", rest), name="g.yaml", folder=Path("/nowhere"), env={})
    used = ("ham", "lite", "big", "spam-v3")
    warnings = [
        str(one) for one in loaded.warnings if not any(f"backends.{name}:" in str(one) for name in used)
    ]
    return [str(fault) for fault in loaded.faults], warnings


def rules(*texts: str) -> str:
    """Rules on predictions, a line each from line 12 on."""
    return "rules:\n" + "\n".join(f"      - {{on: prediction, {text}}}" for text in texts)


V3, LITE, BIG = 'backend == "spam-v3"', 'backend == "lite"', 'backend == "big"'


@pytest.mark.parametrize(
    ("rest", "wanted"),
    [
        (
            "loop_guard: {then: spam-v3}",
            ("g.yaml:11:24: routes.spam.loop_guard.then: spam-v3 is whom the unit is stuck with: this leads back to "
            "it; wanted another backend than the first of the chain (for example a static answer, or another model)"),
        ),
        (
            "loop_guard: {then: lit}",
            ('g.yaml:11:24: routes.spam.loop_guard.then: there is no backend "lit"; wanted big, ham, lite or spam-v3 '
            "(did you mean lite?)"),
        ),
        (
            "loop_guard: {limit: 3}",
            ("g.yaml:11:17: routes.spam.loop_guard.then: then is missing; "
            "wanted the way out: a backend that is not the first of the chain"),
        ),
        (
            "loop_guard: {limit: 300, then: lite}",
            "g.yaml:11:25: routes.spam.loop_guard.limit: found 300; wanted at most 255",
        ),
        (
            "loop_guard: {then: lite, on: fallbak}",
            ("g.yaml:11:34: routes.spam.loop_guard.on: found \"fallbak\"; wanted fallback or same_negative "
            "(did you mean fallback?)"),
        ),
        (
            "loop_guard: {then: lite, negative: spma}",
            ('g.yaml:11:40: routes.spam.loop_guard.negative[0]: there is no class "spma"; wanted ham or spam '
            "(did you mean spam?)"),
        ),
        (
            rules(f"when: '{V3} && prediction.score > 0.5', then: {{to: lite}}", f"when: '{LITE}', then: {{to: lite}}"),
            ("g.yaml:13:64: routes.spam.rules[1].then.to: lite has just made the prediction: this leads back to it; "
            "wanted another backend (write then: next to go on along the chain)"),
        ),
        (
            rules("when: 'request.rows > 3', then: {to: lite}"),
            ("g.yaml:12:63: routes.spam.rules[0].then.to: the rule holds for what lite answers as well: this leads "
            'back to it; wanted a condition that names the prediction or the backend (write && backend == "spam-v3", '
            "or on: request)"),
        ),
        (
            rules(f"when: '{LITE}', then: {{to: big}}", f"when: '{BIG}', then: {{to: lite}}"),
            ("g.yaml:13:63: routes.spam.rules[1].then.to: these rules lead in a circle: big -> lite -> big; "
            "wanted each backend once (write then: next to go on along the chain)"),
        ),
        (
            rules(f"when: '{V3}', then: {{to: spam-v3}}"),
            ("g.yaml:12:67: routes.spam.rules[0].then.to: spam-v3 has just made the prediction: this leads back to it; "
            "wanted another backend than the first of the chain (write then: next to go on along the chain)"),
        ),
    ],
)  # fmt: skip
def test_what_leads_back_is_a_fault_with_its_mend(rest: str, wanted: str) -> None:
    """One line for the one rule that closes the circle."""
    assert read(rest)[0] == [wanted]


@pytest.mark.parametrize(
    "rest",
    [
        "loop_guard: {then: lite}",
        "loop_guard: {limit: 5, within_s: 60, then: ham, on: same_negative, negative: [ham]}",
        rules("when: prediction.score < 0.6, then: {to: lite}"),
        rules(f"when: '{V3}', then: {{to: lite}}", f"when: '{LITE}', then: {{to: big}}"),
        rules("when: 'prediction.margin < 0.2', then: {to: lite}", f"when: '{LITE}', then: {{to: big}}"),
        rules("when: 'metadata[\"x\"] == \"backend\" && backend != \"lite\"', then: {to: lite}"),
    ],
)  # fmt: skip
def test_what_leads_on_is_none(rest: str) -> None:
    """A cascade from model to model is what rules are for."""
    assert read(rest) == ([], [])


@pytest.mark.parametrize(
    ("rest", "place", "words"),
    [
        ("loop_guard: {then: ham}", "11:24", "this leads back to what was met"),
        ("session: {idle_s: 60}", "11:14", "no rule names session"),
        (
            "rules: [{on: prediction, when: stats.calls > 9, then: next}]\n    chain: [spam-v3, lite, ham]",
            "10:59",
            "every one of the chain is passed over",
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning(rest: str, place: str, words: str) -> None:
    """Allowed, and said."""
    faults, (warning,) = read(rest)
    assert faults == []
    assert warning.startswith(f"g.yaml:{place}: ")
    assert words in warning


def test_a_guard_without_units_is_a_warning() -> None:
    """Each call would be a unit of its own."""
    text = TEXT.replace('identity: {unit: "metadata:x-user-id"}\n', "")
    text = text.replace(
        "REST", "loop_guard: {then: lite}\n    rules: [{when: session.calls > 3, then: next}]"
    )
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    words = [str(one) for one in loaded.warnings if "identity.unit" in str(one)]
    assert len(words) == 2, words


def test_the_document_says_what_is_counted() -> None:
    """Defaults stand in Python: a route without a negative answer counts fallbacks alone."""
    for prediction, counted in (("", ["fallback", "same_negative"]), (", positive: spam", ["fallback"])):
        text = TEXT.replace(prediction, "").replace("REST", "loop_guard: {then: lite}")
        settings = read_text(text, env={}).settings
        assert settings is not None
        made = document(settings, version=1, salt_hex="00" * 32, receipt_keys=[])
        assert made["routes"][0]["loop_guard"]["on"] == counted
        assert made["limits"]["units"] == 262_144
        Policy(json.dumps(made))
