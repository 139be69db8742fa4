"""What a user reads: for each kind of mistake the place, what was found, what was wanted, the mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gateway.config import read_text
from gateway.config.expressions import checker_installed
from tests.config.examples import EVERYTHING, TEN_LINES


def faults(text: str, *overrides: str) -> list[str]:
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), overrides=overrides, env={})
    assert (loaded.settings is None) == bool(loaded.faults)
    return [str(fault) for fault in loaded.faults]


def change(old: str, new: str, text: str = TEN_LINES) -> str:
    assert old in text
    return text.replace(old, new, 1)


V4 = '  spam-v4: {grpc: "h:1"}\nroutes:'

MISTAKES = YAML(typ="safe", pure=True).load(Path(__file__).with_name("mistakes.yaml"))


@pytest.mark.parametrize("mistake", MISTAKES["settings"], ids=lambda mistake: mistake["to"].strip()[:50])
def test_one_mistake_is_one_fault_in_words(mistake: dict[str, str]) -> None:
    """One slip gives one line, at its place, and no fault that only follows from it."""
    assert faults(change(mistake["change"], mistake["to"])) == [mistake["fault"]]


def test_a_noise_baseline_is_a_twin_of_who_answers() -> None:
    """Its own answer twice, or the candidate's, would say nothing about how two alike differ."""
    two = change("routes:", V4)
    for noise, words in [
        ("spam-v3", "spam-v3 answers the call itself"),
        ("spam-v4", "spam-v4 is what is compared"),
    ]:
        mirror = f"    mirror: [{{to: spam-v4, noise: {noise}}}]"
        [fault] = faults(change("    confidence: {floor: 0.8}", mirror, two))
        assert f"routes.spam.mirror[0].noise: {words}" in fault


def test_five_faults_are_five_lines() -> None:
    """All at once, in the order of the file: nobody fixes one, runs again, and meets the next."""
    text = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001", modle: spam}
  ham: {answer: {label: ham, score: 7}}
routes:
  spam:
    chain: [spam-v3, ham, spam-lite]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spma}
    rules: [{when: "request.rows >", then: next}]
"""
    found = faults(text)
    assert [re.match(r"g\.yaml:(\d+):\d+: ", fault)[1] for fault in found] == ["2", "3", "6", "7", "8"]  # type: ignore[index]


SAID_OF_SET = """\
--set nonsense: this has no =; wanted path=value, such as routes.spam.confidence.floor=0.9
--set routes.spam.deadline_ms=[: this is not YAML: expected the node content, but found '<stream end>' \
(while parsing a flow node)
--set routes.spam.confidence.flor=1: routes.spam.confidence.flor: there is no setting flor here (did you mean floor?)
--set routes.spam.chain=[nobody]: routes.spam.chain[0]: there is no backend "nobody"; wanted ham or spam-v3
""".splitlines()


def test_faults_of_set_say_so() -> None:
    """A value from the command line has no line in the file."""
    overrides = [
        "routes.spam.confidence.flor=1",
        "nonsense",
        "routes.spam.chain=[nobody]",
        "routes.spam.deadline_ms=[",
    ]
    assert faults(TEN_LINES, *overrides) == SAID_OF_SET


def test_faulty_parts_do_not_hide_the_rest() -> None:
    """What refers to a faulty backend or segment is no fault of its own; what is wrong elsewhere is still seen."""
    text = change('grpc: ["127.0.0.1:8001", "127.0.0.1:8002"]', "grpc: 7", EVERYTHING)
    text = change('device: "metadata:x-device"', "device: nonsense", text)
    text = change("to: spam-lite, share: 0.10", "to: spam-v5, share: 0.10", text)
    assert [fault.split(": ")[1] for fault in faults(text)] == [
        "identity.segments.device",
        "backends.spam-v3.grpc",
        "routes.spam.mirror[0].to",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "there is neither a route nor a default_backend"),
        ("# nothing\n", "there is neither a route nor a default_backend"),
        ("- a\n", "the file holds a list"),
        ("just text", 'the file holds "just text"'),
        ("\ta: 1", "indent with spaces"),
        ("a: b: c", "put the value in quotes"),
        ("a: 1\n--- \nb: 2", "but found another document"),
        ("a: \x01", "this is not YAML"),
        ("[" * 5000, "nested too deeply"),
        ('a: "\\UFFFFFFFF"', "this is not YAML"),
        ("routes: {}\nroutes: {}", "a second time, first in line 1"),
    ],
)  # fmt: skip
def test_files_that_are_no_settings_are_refused_in_words(text: str, wanted: str) -> None:
    """Whatever stands in the file, its reader gets a sentence."""
    assert any(wanted in fault for fault in faults(text)), faults(text)


def test_unfolding_aliases_is_bounded() -> None:
    """A billion laughs are a fault, not a dead gateway."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert any("aliases make this more than" in fault for fault in faults("\n".join(lines)))


@pytest.mark.skipif(not checker_installed(), reason="types are checked where cel-expr-python is installed")
@pytest.mark.parametrize("mistake", MISTAKES["expressions"], ids=lambda mistake: mistake["rule"])
def test_faults_in_cel_have_their_place_in_the_file(mistake: dict[str, str]) -> None:
    """The column is that of the file, through quotes and escapes."""
    assert faults(change("confidence: {floor: 0.8}", f"rules: [{mistake['rule']}]")) == [mistake["fault"]]


@pytest.mark.skipif(not checker_installed(), reason="types are checked where cel-expr-python is installed")
@pytest.mark.parametrize(
    "scalar",
    [
        "|\n          request.rows > 3\n            && metadata.x == 5",
        "|2-  # why\n          request.rows > 3\n            && metadata.x == 5",
        ">-\n          request.rows > 3\n          && metadata.x == 5",
        ">-\n\n          request.rows > 3\n\n          && metadata.x == 5\n",
        '"request.rows > 3 \\\n            && metadata.x == 5"',
        '"request.rows\\t>\\n3 && \\u006detadata.x == 5"',
        "'request.rows > 3\n\n            && metadata[''x''] == 5'",
        "request.rows > 3\n            && metadata.x == 5",
    ],
)  # fmt: skip
def test_faults_in_expressions_of_several_lines_have_their_place(scalar: str) -> None:
    """Block scalars are indented, folded ones lose line breaks, quoted ones have escapes: the file's place is shown."""
    rule = f"    rules:\n      - when: {scalar}\n        then: next\n"
    text = change("    confidence: {floor: 0.8}\n", rule)
    found = faults(text)
    assert len(found) == 1, found
    assert "== does not take (string, int)" in found[0]
    line, column = (int(part) for part in found[0].split(":")[1:3])
    assert text.splitlines()[line - 1][column - 1 :].startswith("== 5")
