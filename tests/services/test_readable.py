"""What reviewers see of messages that no generated code exists for."""

from __future__ import annotations

import base64
import json

from gateway.services import Messages
from tests.wire.described import PREDICT, SCORE, SET, message, tensor


def messages(*sets: bytes) -> Messages:
    routes = [("scorer", SCORE), ("serving", PREDICT), ("spam", None), ("gone", "/no.Service/Method")]
    return Messages(
        {
            "descriptors": [base64.b64encode(one).decode() for one in sets],
            "routes": [
                {"name": name, "match": {"method": method}, "prediction": {}} for name, method in routes
            ],
        }
    )


def test_a_request_is_shown_by_its_name_and_as_json() -> None:
    """The names are those of the .proto, so that they are the ones of the paths."""
    asked = message("scoring.ScoreRequest", request_id="r-1")
    asked.items.add(subject="hello")
    shown = messages(SET, SET).request("scorer", asked.SerializeToString())
    assert shown.type == "scoring.ScoreRequest"
    assert json.loads(shown.json) == {"request_id": "r-1", "items": [{"subject": "hello"}]}


def test_maps_and_tensors_are_shown() -> None:
    answer = message("tensorflow.serving.PredictResponse")
    answer.outputs["probabilities"].CopyFrom(tensor([[0.25, 0.75]]))
    shown = messages(SET).answer("serving", answer.SerializeToString())
    assert json.loads(shown.json)["outputs"]["probabilities"]["float_val"] == [0.25, 0.75]


def test_what_cannot_be_read_is_left_out() -> None:
    """A reviewer's lease must not fail for it."""
    assert messages(SET).request("scorer", b"\xff").type == "scoring.ScoreRequest"
    assert messages(SET).request("scorer", b"\xff").json == ""
    for route in ("spam", "gone", "nobody"):
        assert messages(SET).request(route, b"").type == ""
    assert messages().request("scorer", b"").type == ""
