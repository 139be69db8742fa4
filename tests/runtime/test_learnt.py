"""What was learnt changes the route's document, and gives way to whoever writes other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway._dataplane import Policy
from gateway.config import Settings, read_text
from gateway.errors import QualityError
from gateway.runtime.document import document
from gateway.runtime.learnt import Learnt

SETTINGS = """\
backends:
  v3: {grpc: "127.0.0.1:8001"}
  v4: {grpc: "127.0.0.1:8002"}
  lite: {grpc: "127.0.0.1:8003"}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [v3, lite, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    confidence: {floor: 0.6, per_label: {spam: 0.9, ham: 0.5}}
    explore: {arms: {v3: 0.5, v4: 0.5}}
    mirror: [{to: v4, share: 0.1, noise: lite}]
    review: {share: 0.01}
"""


def read(text: str = SETTINGS) -> Settings:
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    assert loaded.settings is not None, loaded.faults
    return loaded.settings


def route(learnt: Learnt, text: str = SETTINGS) -> dict[str, Any]:
    import json

    settings = read(text)
    learnt.check(settings.routes["spam"])
    made = document(
        settings, version=1, salt_hex="00" * 32, receipt_keys=[bytes(32)], learnt={"spam": learnt}
    )
    Policy(json.dumps(made))  # the data plane takes it
    found: dict[str, Any] = made["routes"][0]
    return found


def test_nothing_learnt_changes_nothing() -> None:
    """Most routes."""
    settings = read()
    plain = document(settings, version=1, salt_hex="00" * 32, receipt_keys=[bytes(32)])
    assert route(Learnt()) == plain["routes"][0]


def test_a_table_of_scores_reaches_the_data_plane() -> None:
    """Of one model, or of all; no setting stands in its place, so that without one there is nothing."""
    assert "recalibration" not in route(Learnt())
    table = {"x": [0.0, 0.5, 1.0], "y": [0.1, 0.2, 0.9]}
    assert route(Learnt(recalibration=table))["recalibration"] == table | {"backend": None}
    of_one = table | {"backend": "v4"}
    assert route(Learnt(recalibration=of_one))["recalibration"] == of_one


def test_a_threshold_goes_before_that_of_the_settings() -> None:
    assert route(Learnt(threshold=0.7))["prediction"]["threshold"] == 0.7


def test_a_floor_only_raises() -> None:
    """A gate that failed must not make the route surer of what an operator doubted."""
    assert route(Learnt(floor=0.8))["confidence"] == {
        "measure": "max_probability",
        "floor": 0.8,
        "per_label": {"spam": 0.9, "ham": 0.8},
        "per_segment": {},
    }
    bare = SETTINGS.replace("    confidence: {floor: 0.6, per_label: {spam: 0.9, ham: 0.5}}\n", "")
    assert route(Learnt(floor=0.8), bare)["confidence"]["floor"] == 0.8


def test_a_model_that_is_passed_over_is_asked_by_no_way_but_as_a_shadow() -> None:
    """Rolled back means that no caller gets its answer, neither by the chain nor as an arm."""
    made = route(Learnt(skip=("v3",)))
    assert made["chain"] == ["lite", "ham"]
    assert made["explore"] is None  # one arm is none
    assert [(one["to"], one["noise"]) for one in made["mirror"]] == [("v4", None)]


def test_arms_get_the_shares_that_were_learnt_and_none_at_all_stops_exploring() -> None:
    assert route(Learnt(arms={"v3": 0.9, "v4": 0.1}))["explore"]["arms"] == [
        {"backend": "v3", "share": 0.9},
        {"backend": "v4", "share": 0.1},
    ]
    assert route(Learnt(arms={}))["explore"] is None


def test_levels_of_autonomy_change_who_answers_and_what_people_see() -> None:
    """Shadow: the models only get copies. Suggest: every answer is looked at. Assisted: what was below the floor."""
    made = route(Learnt(autonomy="shadow"))
    assert (made["chain"], made["explore"]) == (["lite", "ham"], None)
    assert [(one["to"], one["share"]) for one in made["mirror"]] == [("v3", 1.0), ("v4", 1.0)]
    strata = ("flagged", "unflagged", "near", "fallback", "disagreement")
    both = route(Learnt(autonomy="shadow", skip=("v3",), arms={}))
    assert (both["chain"], both["mirror"][0]["to"]) == (["lite", "ham"], "v3"), "rolled back, and watched"
    suggested = route(Learnt(autonomy="suggest"))
    assert [suggested["review"][name] for name in strata] == [1.0] * 5
    assisted = route(Learnt(autonomy="assisted"))
    assert [assisted["review"][name] for name in strata] == [0.01, 0.01, None, 1.0, None]
    assert route(Learnt(autonomy="autonomous")) == route(Learnt())
    by_settings = SETTINGS + "    autonomy: shadow\n"
    assert route(Learnt(), by_settings)["chain"] == ["lite", "ham"]
    assert route(Learnt(autonomy="autonomous"), by_settings)["chain"] == ["v3", "lite", "ham"]


@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        (Learnt(threshold=1.5), "learnt threshold: found 1.5"),
        (Learnt(floor=-0.1), "learnt floor"),
        (Learnt(skip=("v3", "lite", "ham")), "nothing would be left"),
        (Learnt(arms={"v3": 1.0}), "wanted v3, v4"),
        (Learnt(arms={"v3": 0.5, "v4": 0.6}), "add up to 1.1"),
        (Learnt(autonomy="free"), "wanted one of shadow"),
        (Learnt(recalibration={"x": [0.0, 1.0], "y": [0.5, 0.4]}), "y never falling"),
        (Learnt(recalibration={"x": [0.0], "y": [0.0]}), "2 to 1000"),
        (Learnt(recalibration={"x": [0.0, 1.0], "y": [0.0, 1.0], "backend": "v9"}), "the backend 'v9'"),
    ],
)
def test_what_a_route_cannot_hold_is_refused_in_words(learnt: Learnt, words: str) -> None:
    with pytest.raises(QualityError, match=words):
        learnt.check(read().routes["spam"])


def test_it_is_kept_and_read_again() -> None:
    """Parts that an older or newer gateway knows are passed over."""
    learnt = Learnt(threshold=0.7, skip=("v3",), arms={})
    assert Learnt.of(learnt.kept()) == learnt
    assert Learnt.of({"skip": ["v3"], "of_another_version": 1}) == Learnt(skip=("v3",))
    assert learnt.changed({"threshold": None, "skip": None}) == Learnt(arms={})
    with pytest.raises(QualityError, match="found colour"):
        learnt.changed({"colour": 1})


def test_another_setting_ends_what_stood_in_for_it() -> None:
    """Who writes a threshold wants that one; all else stays."""
    learnt = Learnt(threshold=0.7, floor=0.8, skip=("v3",), arms={}, autonomy="shadow")
    before = read().routes["spam"]
    for text, gone in [
        (SETTINGS.replace("positive: spam}", "positive: spam, threshold: 0.6}"), {"threshold": None}),
        (SETTINGS.replace("floor: 0.6", "floor: 0.7"), {"floor": None}),
        (SETTINGS.replace("[v3, lite, ham]", "[v3, ham]"), {"skip": None}),
        (SETTINGS.replace("{v3: 0.5, v4: 0.5}", "{v3: 0.6, v4: 0.4}"), {"arms": None}),
        (SETTINGS + "    autonomy: suggest\n", {"autonomy": None}),
        (SETTINGS.replace("share: 0.1", "share: 0.2"), {}),
    ]:
        assert learnt.kept_over(before, read(text).routes["spam"]) == learnt.changed(gone)
