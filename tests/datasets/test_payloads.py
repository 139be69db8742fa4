"""Captured requests as columns: which there are, what is taken out, and what is counted as not there."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from gateway.datasets import Plan, Redaction
from gateway.datasets.payloads import MOST_INPUTS, cut
from gateway.ledger import Ledger
from tests.datasets.making import STRINGS, by_call, calls, capture, infer_request, made, opened, review
from tests.ledger.making import batch
from tests.wire.described import SCORE, SET, message


def captured(ledger: Ledger, requests: list[bytes], rows: int = 1) -> None:
    """A reviewed call for each request."""
    records = calls(1, len(requests), rows=[rows])
    for one in records:
        one["sampled"] = 1
    captures = [
        capture(call, request) for call, request in zip(by_call(records), requests, strict=True) if request
    ]
    ledger.write_batch(batch(records, strings=STRINGS, captures=captures))
    assert ledger.flush(30.0)
    assert review(ledger, records) > 0


@pytest.fixture
def ledger(sqlite_url: str) -> Any:
    made_one = opened(sqlite_url)
    yield made_one
    made_one.close()


def test_inputs_are_typed_columns_with_their_shapes(filled: str, tmp_path: Path) -> None:
    """Every captured row has the very values that were sent; all others null."""
    _, frame = made(filled, tmp_path / "out", Plan())
    assert frame.schema["input.features"] == pl.List(pl.Float32)
    assert frame.schema["input.text"] == pl.List(pl.Binary)
    assert frame.schema["input.once"] == pl.List(pl.Int64)
    records = {one["id_lo"]: one for one in calls(1, 300)}
    seen = 0
    for row in frame.filter(pl.col("input.features").is_not_null()).iter_rows(named=True):
        number = int(row["decision"].replace("-", ""), 16)
        size = records[number]["rows"]
        values = np.random.default_rng(number).random((size, 4)).astype("<f4")
        assert row["input.features"] == values[row["row"]].tolist()
        assert row["input_shape.features"] == [4]
        assert row["input.text"] == [b"text %d" % row["row"]]
        assert row["input_shape.text"] == []
        assert row["input.once"] == [7, number]
        seen += 1
    assert seen > 100
    not_captured = frame.filter(pl.col("input.features").is_null())
    assert set(not_captured["source"]) <= {"app", "support"}


def test_an_input_of_two_datatypes_has_two_columns(ledger: Ledger, sqlite_url: str, tmp_path: Path) -> None:
    """A new model may want another type; nothing is converted, and nothing lost."""
    small = infer_request({"x": ("FP32", np.array([[0.1]], "<f4"))})
    large = infer_request({"x": ("FP64", np.array([[0.1]], "<f8"))})
    captured(ledger, [small, large, large])
    _, frame = made(sqlite_url, tmp_path / "out", Plan())
    assert frame["input.x:FP32"].drop_nulls().to_list() == [[np.float32(0.1).item()]]
    assert frame["input.x:FP64"].drop_nulls().to_list() == [[0.1], [0.1]]


def test_names_that_callers_invent_are_bounded(ledger: Ledger, sqlite_url: str, tmp_path: Path) -> None:
    """The most frequent ones have columns; what has none is counted and not passed over in silence."""
    usual = {"x": ("FP32", np.array([[1.0]], "<f4"))}
    odd = {f"odd-{number:03}": ("FP32", np.array([[1.0]], "<f4")) for number in range(MOST_INPUTS + 10)}
    captured(
        ledger, [infer_request(usual), infer_request({**usual, **odd}), infer_request({"\0": usual["x"]})]
    )
    card, frame = made(sqlite_url, tmp_path / "out", Plan())
    names = [name for name in frame.columns if name.startswith("input.")]
    assert len(names) == MOST_INPUTS
    assert frame["input.x"].null_count() == 1
    assert card["inputs"]["unread"] == {"more_inputs": 2}
    assert "2 rows: captured with inputs that got no column" in (tmp_path / "out" / "README.md").read_text()


def test_what_cannot_be_read_is_counted(ledger: Ledger, sqlite_url: str, tmp_path: Path) -> None:
    """And the row stays, as its label is good."""
    good = infer_request({"x": ("FP32", np.array([[1.0]], "<f4"))})
    captured(ledger, [good, b"\xff garbage", good])
    card, frame = made(sqlite_url, tmp_path / "out", Plan())
    assert len(frame) == 3
    assert frame["input.x"].to_list() == [[1.0], None, [1.0]]
    assert card["inputs"]["unread"] == {"inputs_unreadable": 1}


def test_what_cannot_be_read_at_all_is_not_called_absent(
    ledger: Ledger, sqlite_url: str, tmp_path: Path
) -> None:
    """A card that said nothing was captured would be wrong."""
    captured(ledger, [b"\xff garbage"])
    card, _ = made(sqlite_url, tmp_path / "out", Plan())
    assert card["inputs"]["unread"] == {"inputs_unreadable": 1}
    assert "Of what was captured nothing could be read." in (tmp_path / "out" / "README.md").read_text()


def test_what_was_captured_under_a_policy_that_is_gone_is_left_out(
    ledger: Ledger, sqlite_url: str, tmp_path: Path
) -> None:
    """Which service's message it was, only that policy said: read as another's it would be something else."""
    captured(ledger, [infer_request({"x": ("FP32", np.array([[1.0]], "<f4"))})])
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM policies WHERE version = 7"))
    engine.dispose()
    card, frame = made(sqlite_url, tmp_path / "out", Plan())
    assert not [name for name in frame.columns if name.startswith("input.")]
    assert card["inputs"]["unread"] == {"policy_not_kept": 1}


def test_inputs_are_left_out_where_nobody_wants_them(filled: str, tmp_path: Path) -> None:
    """Labels may go where texts may not."""
    card, frame = made(filled, tmp_path / "out", Plan(inputs=False))
    assert not [name for name in frame.columns if name.startswith(("input", "request"))]
    assert card["inputs"]["written"] is False


def test_what_is_redacted_today_stays_out_of_what_was_captured_before(filled: str, tmp_path: Path) -> None:
    """Redaction that was added because something was kept that should not have been must hold for what was kept."""
    before = b"".join(file.read_bytes() for file in files(filled, tmp_path / "before", Redaction()))
    assert b"ann@example.org" in before
    redaction = Redaction(routes={"spam": ("inputs.email",)})
    after = files(filled, tmp_path / "after", redaction)
    assert not any(b"ann@example.org" in file.read_bytes() for file in after)
    frame = pl.read_parquet(tmp_path / "after" / "*.parquet")
    assert [name for name in frame.columns if "email" in name] == []
    assert frame["input.text"].null_count() < len(frame)
    card = json.loads((tmp_path / "after" / "card.json").read_text())
    assert card["inputs"]["redacted"] == {"spam": ["inputs.email", "inputs.phone"]}


def files(url: str, out: Path, redaction: Redaction) -> list[Path]:
    """An export that is not compressed, so that a text in it would be found."""
    import pyarrow.parquet as pq

    made(url, out, Plan(), redaction=redaction)
    for file in out.glob("*.parquet"):
        pq.write_table(pq.read_table(file), file, compression="none")
    return list(out.iterdir())


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (
            "id",
            {
                "customer": {"email": "e", "tags": ["t"]},
                "items": [{"text": "a", "n": 1}, {"n": 2}],
                "by": {"k": 1},
            },
        ),
        ("customer.email", {"customer": {"tags": ["t"]}, "id": "1"}),
        ("customer", {"id": "1"}),
        ("items[].text", {"items": [{"n": 1}, {"n": 2}]}),
        ("items.text", {"items": [{"n": 1}, {"n": 2}]}),
        ("items[0].text", {"id": "1", "customer": {"email": "e", "tags": ["t"]}}),
        ('by["k"]', {"by": {}}),
        ("by", {"id": "1"}),
        ("people.name", {"people": {"ann": {"age": 1}, "bob": {"age": 2}}}),
        ('people["ann"].name', {"people": {"ann": {"age": 1}, "bob": {"name": "b", "age": 2}}}),
        ("nothing.there", {"id": "1", "by": {"k": 1}}),
    ],
)
def test_paths_are_cut_out_of_json(path: str, left: Mapping[str, Any]) -> None:
    """As the data plane cuts them out of messages: of every element, and of every value of a map."""
    whole = {
        "id": "1",
        "customer": {"email": "e", "tags": ["t"]},
        "items": [{"text": "a", "n": 1}, {"n": 2}],
        "by": {"k": 1},
        "people": {"ann": {"name": "a", "age": 1}, "bob": {"name": "b", "age": 2}},
    }
    found = json.loads(cut(json.dumps(whole), [path]) or "")
    assert {key: found[key] for key in left} == left
    gone = {"id": "id", "customer": "customer", "by": "by", "items[0].text": "items"}.get(path)
    assert set(found) == set(whole) - ({gone} if gone else set())


def test_a_path_that_is_not_understood_leaves_nothing() -> None:
    """Nobody can say what it should have taken out."""
    assert cut('{"a": 1}', ["a..b"]) is None


def test_described_services_are_json(sqlite_url: str, tmp_path: Path) -> None:
    """Read by the descriptors of the policy that the call met, and redacted by today's settings."""
    routes = [{"name": "spam", "match": {"method": SCORE}, "prediction": {}, "review": None}]
    ledger = opened(sqlite_url, descriptors=[base64.b64encode(SET).decode()], routes=routes)
    try:
        asked = message("scoring.ScoreRequest", request_id="r-1")
        asked.items.add(subject="hello")
        captured(ledger, [asked.SerializeToString(), b"\xff", asked.SerializeToString()])
    finally:
        ledger.close()
    card, frame = made(sqlite_url, tmp_path / "out", Plan())
    wanted = {"request_id": "r-1", "items": [{"subject": "hello"}]}
    assert [one and json.loads(one) for one in frame["request"]] == [wanted, None, wanted]
    assert card["inputs"]["unread"] == {"request_unreadable": 1}
    assert [name for name in frame.columns if name.startswith("input")] == []
    redaction = Redaction(routes={"spam": ("request.items[].subject",)})
    _, less = made(sqlite_url, tmp_path / "less", Plan(), redaction=redaction)
    assert json.loads(less["request"][0]) == {"request_id": "r-1", "items": [{}]}
    _, none = made(
        sqlite_url, tmp_path / "none", Plan(), redaction=Redaction(routes={"spam": ("request.items[",)})
    )
    assert none["request"].to_list() == [None, None, None]
    card = json.loads((tmp_path / "none" / "card.json").read_text())
    assert card["inputs"]["unread"] == {"request_unreadable": 1, "request_withheld": 2}
