"""`gateway threshold`: choices from a real ledger, what would change, and what it says when nothing is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from gateway.cli.threshold import RULES, threshold
from gateway.v1.policy_pb2 import PublishPolicyResponse
from tests.report import traffic

SETTINGS = """\
state_dir: .
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    confidence: {floor: 0.8}
    objective: {precision: 0.8, recall: 0.7}
    costs: {false_positive: 1.0, false_negative: 3.0, review: 0.2}
"""


@pytest.fixture(scope="module")
def made() -> traffic.Made:
    return traffic.make(6000, seed=5, pi=(0.8, 0.15))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made: traffic.Made) -> Path:
    """A ledger with the truth of some 1,600 predictions, and settings beside it."""
    where = tmp_path_factory.mktemp("threshold")
    ledger = traffic.write(where, made)
    try:
        sampled = np.flatnonzero(made.sampled)
        rows = [traffic.label(made, int(at), "review", bool(made.truth[at])) for at in sampled]
        ledger.submit_labels(rows).result(30.0)
    finally:
        ledger.close()
    (where / "gateway.yaml").write_text(SETTINGS)
    return where


def run(folder: Path, capsys: pytest.CaptureFixture[str], route: str = "spam", **options: Any) -> str:
    usual: dict[str, Any] = {"precision": None, "recall": None, "sure": 0.9, "hours": 0.0, "overrides": []}
    more = {"json": False, "publish": None, "recalibrate": False, "yes": False, "reason": ""}
    where = {"address": "127.0.0.1:1", "token_file": None, "ca": None}
    threshold(route, folder / "gateway.yaml", **(usual | more | where | options))
    return capsys.readouterr().out


def of_window(made: traffic.Made, at: float) -> tuple[float, float]:
    """True precision and recall of the model's predictions at a threshold."""
    score, truth = made.score[made.counted], made.truth[made.counted]
    return float(truth[score >= at].mean()), float((truth & (score >= at)).sum() / truth.sum())


def test_choices_keep_their_promise_on_the_window(
    folder: Path, made: traffic.Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Targets come from the objective, costs from the route; what is printed holds the window's truth."""
    told = json.loads(run(folder, capsys, json=True))
    assert told["today"]["threshold"] == 0.5
    sure, most = told["guaranteed"]["threshold"], told["recall_first"]["threshold"]
    assert of_window(made, sure)[0] >= 0.8
    assert of_window(made, most)[1] >= 0.7
    for rule in ("guaranteed", "recall_first"):
        precision, recall = of_window(made, told[rule]["threshold"])
        assert told[rule]["precision"]["low"] <= precision <= told[rule]["precision"]["high"]
        assert told[rule]["recall"]["low"] <= recall <= told[rule]["recall"]["high"]
    assert told["cost_optimal"]["calibrated_threshold"] == pytest.approx(0.25)
    curve = told["value_curve"]
    assert curve["along"] == "threshold"
    assert all(one["value"] is None or one["low"] <= one["value"] <= one["high"] for one in curve["points"])
    assert told["people_curve"]["points"][0]["share"] == 0.0
    assert told["calibration"]["reliability"]
    assert told["change"] is None


def test_the_text_has_a_sentence_for_each_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a product manager."""
    text = " ".join(run(folder, capsys).split())
    for words in (
        "route spam: flagged from a score of 0.5 on today",
        "guaranteed: lowest threshold with a precision of at least 0.8, 90% sure",
        "recall first: highest threshold with a recall of at least 0.7",
        "value per 1,000 calls by threshold",
        "value per 1,000 calls by what people handle",
        "scores as probabilities: off by",
    ):
        assert words in text
    assert "nan" not in text.lower().replace("finance", "")


def test_a_dry_run_says_what_would_change_and_publishes_nothing(
    folder: Path, made: traffic.Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers at the address; who says no is not asked to connect."""
    monkeypatch.setattr("typer.confirm", refuse)
    with pytest.raises(typer.Abort):
        run(folder, capsys, publish="0.6")
    text = capsys.readouterr().out
    score = made.score[made.counted]
    flips = ((score >= 0.5) & (score < 0.6)).mean()
    assert "would be published: threshold 0.6" in text
    assert f"{100 * flips:.3g} % of predictions would be decided otherwise" in text


def refuse(_text: str, *, abort: bool) -> None:
    assert abort
    raise typer.Abort


def test_what_is_published_is_asked_of_the_gateway(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request, with the reason; who asks for JSON gets the version in it."""
    asked: list[Any] = []

    class Stub:
        def Learn(self, request: Any, **_how: Any) -> PublishPolicyResponse:  # noqa: N802
            asked.append(request)
            return PublishPolicyResponse(version=7)

    def steered(address: str, _token: Path | None, _ca: Path | None, act: Any) -> Any:
        assert address == "127.0.0.1:1"
        return act(Stub(), {})

    monkeypatch.setattr("gateway.cli.steering.steered", steered)
    assert "policy 7 is in force" in run(folder, capsys, publish="0.6", yes=True, reason="fewer flags")
    [request] = asked
    assert (request.route, json.loads(request.changes), request.reason) == (
        "spam",
        {"threshold": 0.6},
        "fewer flags",
    )


def test_a_table_of_scores_leaves_flags_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threshold moves with the scores; what is below the floor may change, and is told."""
    sent: list[Any] = []
    monkeypatch.setattr(
        "gateway.cli.threshold_publish.carry_out", lambda change, *_, **__: sent.append(change)
    )
    run(folder, capsys, recalibrate=True, yes=True)
    [change] = sent
    table = change.changes["recalibration"]
    assert np.all(np.diff(table["x"]) > 0)
    assert np.interp(0.5, table["x"], table["y"]) == pytest.approx(change.changes["threshold"], abs=1e-5)
    assert change.flips == 0.0
    assert change.unsure is not None
    assert change.unsure[0] != change.unsure[1]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"publish": "guaranteed", "precision": 0.995, "sure": 0.999}, 1),
        ({"publish": "guaranteed"}, None),
    ],
)
def test_what_is_not_shown_is_not_published(
    folder: Path,
    options: dict[str, Any],
    code: int | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    """Exit 1, with the reason and the number of labels that would do."""
    sent: list[Any] = []
    monkeypatch.setattr(
        "gateway.cli.threshold_publish.carry_out", lambda change, *_, **__: sent.append(change)
    )
    if code is None:
        run(folder, capsys, **options)
        assert sent
        return
    with pytest.raises(typer.Exit) as found:
        run(folder, capsys, **options)
    assert found.value.exit_code == code
    assert "nothing to publish" in capsys.readouterr().out
    assert not sent


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"route": "ham"}, "found 'ham', wanted one of spam"),
        ({"precision": 1.0}, "--precision: found 1"),
        ({"sure": 0.4}, "--sure: found 0.4"),
        ({"publish": "luck"}, "--publish: found 'luck'"),
        ({"publish": "2"}, "--publish: found '2'"),
        ({"publish": "0.6", "json": True}, "say --yes"),
    ],
)
def test_what_makes_no_sense_is_named(
    folder: Path, options: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        run(folder, capsys, **options)


def test_every_rule_has_its_choice() -> None:
    """The words of --publish are those of the choices."""
    assert set(RULES) == {"guaranteed", "recall_first", "cost_optimal"}
