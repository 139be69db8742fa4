"""The card is true: every number of it is counted once more, from the files by polars, or from the ledger by SQL."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from gateway.datasets import Plan, parse_split
from gateway.datasets.tally import BY, MOST_VALUES, OTHER, Agreement, SplitTally
from tests.datasets.making import DAY_US, HOUR_US, calls, feedback, made, opened, review, write
from tests.ledger.making import decision

PLANS = {
    "whole": Plan(),
    "by unit": Plan(split=parse_split("unit:0.6,0.2"), unknown_units="call"),
    "by time": Plan(split=parse_split("time:0.5", gap_us=36 * HOUR_US), unknown_units="call"),
    "known units only": Plan(split=parse_split("unit:0.5"), inputs=False),
}


def counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """Rows by value, null as ""."""
    text = pl.col(column).cast(pl.String).fill_null("")
    return dict(frame.group_by(text.alias("value")).len().iter_rows())


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
def test_every_number_of_a_split_is_in_its_file(filled: str, tmp_path: Path, plan: Plan) -> None:
    """Recounted from the Parquet files alone; a number that is not recounted here may not be on the card."""
    made(filled, tmp_path / "out", plan)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert {file.stem for file in (tmp_path / "out").glob("*.parquet")} == set(card["splits"])
    total = 0
    for name, said in card["splits"].items():
        frame = pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
        assert frame["split"].unique().to_list() == [name]
        assert said == recounted(frame, said)
        total += len(frame)
    assert card["rows"] == total > 100


def recounted(frame: pl.DataFrame, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a card must say of a file."""
    weighted = frame.filter(pl.col("weight").is_not_null())
    weight = weighted["weight"]
    known = weighted.filter(pl.col("positive").is_not_null())
    kish = weight.sum() ** 2 / (weight**2).sum() if len(weight) else None
    share = (known["weight"] * known["positive"]).sum() / known["weight"].sum() if len(known) else None
    shared = frame.filter(pl.col("reviews") > 1)
    delay = frame["label_time"] - frame["time"]
    delays, before = {}, 0
    for word, longest in (("1 h", 1), ("1 d", 24), ("7 d", 168), ("30 d", 720)):
        below = int((delay < timedelta(hours=longest)).sum())
        delays[word], before = below - before, below
    delays["longer"] = len(frame) - before
    inputs = [name for name in frame.columns if name.startswith("input.") or name == "request"]
    for column in ("time", "label_time"):
        assert [moment(one) for one in said[column]] == [frame[column].min(), frame[column].max()]
    return {
        "rows": len(frame),
        "predictions": frame.select("decision", "row").n_unique(),
        "calls": frame["decision"].n_unique(),
        "by": {name: counts(frame, name) for name in BY},
        "segments": {
            name.removeprefix("segment."): counts(frame, name)
            for name in frame.columns
            if name.startswith("segment.")
        },
        "time": said["time"],
        "label_time": said["label_time"],
        "label_delay": delays,
        "weights": {
            "rows": len(weighted),
            "sum": pytest.approx(weight.sum(), rel=1e-12),
            "effective_sample_size": kish and pytest.approx(kish, rel=1e-12),
            "design_effect": kish and pytest.approx(len(weighted) / kish, rel=1e-12),
            "positive_share": share if share is None else pytest.approx(share, rel=1e-12),
        },
        "several_reviews": {
            "rows": len(shared),
            "mean_agreement": pytest.approx(shared["agreement"].mean()) if len(shared) else None,
        },
        "inputs": {name: len(frame) - frame[name].null_count() for name in inputs},
        "explored": int((frame["propensity"] < 1).sum()),
        "least_propensity": frame["propensity"].min(),
        "corrected": int((frame["revision"] > 1).sum()),
        "never_sampled": int((frame["inclusion_probability"] == 0).sum()),
        "unknown_unit": frame["unit"].null_count(),
    }


def test_reviewers_who_do_not_agree_are_told_of(filled: str, tmp_path: Path) -> None:
    """Labels that were not of one mind are worth less; how many, and how far."""
    card, frame = made(filled, tmp_path / "out", Plan())
    assert frame.filter(pl.col("reviews") == 3)["agreement"].to_list() == pytest.approx(
        [2 / 3, 1.0] * 5 + [2 / 3]
    )
    shared = card["splits"]["all"]["several_reviews"]
    assert shared == {"rows": 11, "mean_agreement": pytest.approx((6 * 2 / 3 + 5) / 11)}
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"| all | 11 | {shared['mean_agreement']:.1%} |" in text


def test_agreement_is_that_of_the_rows(filled: str, tmp_path: Path) -> None:
    """Pairs of sources about one prediction, by a join of the file with itself."""
    card, frame = made(filled, tmp_path / "out", Plan())
    wanted = []
    sources = sorted(frame["source"].unique())
    for one, other in combinations(sources, 2):
        pair = frame.filter(source=one).join(frame.filter(source=other), on=["decision", "row"])
        wanted.append(
            {
                "sources": [one, other],
                "predictions": len(pair),
                "agree": int((pair["label"] == pair["label_right"]).sum()),
            }
        )
    assert card["agreement"] == wanted
    assert all(pair["predictions"] > pair["agree"] > 0 for pair in wanted)


def test_coverage_is_that_of_the_ledger(filled: str, tmp_path: Path) -> None:
    """What the rows are a part of cannot be read from the files; counted from the ledger's tables in another way."""
    records = calls(1, 300)
    card, frame = made(filled, tmp_path / "out", Plan())
    (of,) = card["coverage"].values()
    assert of["predictions"] == len(records)
    assert sum(of["by_outcome"].values()) == len(records)
    assert of["by_outcome"]["holdout"] == sum(one["outcome"] == 4 for one in records)
    assert of["labelled"] == frame.select("decision", "row").n_unique()
    for stratum, number in (("low", 0), ("flagged", 1)):
        drawn = [one for one in records if one["sampled"] and one["stratum"] == number]
        assert of["review"][stratum]["sampled"] == len(drawn)
        assert of["review"][stratum]["mean_probability"] == pytest.approx((0.25, 0.75)[number])
        reviewed = frame.filter(source="review", stratum=stratum)
        assert of["review"][stratum]["reviewed"] == len(reviewed) > 0


def test_left_out_rows_and_written_ones_are_all_there_are(filled: str, tmp_path: Path) -> None:
    """Nothing is lost between the ledger and the files without being counted."""
    engine = sa.create_engine(filled)
    with engine.connect() as connection:
        newest = "SELECT DISTINCT decision, row, source FROM labels WHERE kind = 'label'"
        labels = connection.execute(sa.text(f"SELECT count(*) FROM ({newest}) AS known")).scalar_one()
    engine.dispose()
    for name, plan in PLANS.items():
        card, frame = made(filled, tmp_path / name, plan)
        assert len(frame) + sum(card["dropped"].values()) == labels
        assert any(card["dropped"].values()) == (plan.split is not None and name != "by unit")


def test_the_text_says_what_the_data_says(filled: str, tmp_path: Path) -> None:
    """Every number of README.md is one of card.json."""
    card, frame = made(
        filled,
        tmp_path / "out",
        PLANS["by unit"],
        command="gateway export gateway.yaml --out out --split unit:0.6,0.2",
    )
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"# {len(frame):,} labelled decisions" in text
    assert "gateway export gateway.yaml --out out --split unit:0.6,0.2" in text
    for name, one in card["splits"].items():
        (line,) = re.findall(rf"^\| `{name}.parquet` \| (.*) \|$", text, re.MULTILINE)
        weights = one["weights"]
        assert line.split(" | ") == [
            *(f"{one[count]:,}" for count in ("rows", "predictions", "calls")),
            *one["time"],
            f"{weights['rows']:,}",
            f"{weights['effective_sample_size']:,.1f}",
        ]
    for number, name in enumerate(("class", "source", "outcome", "segment.device"), 0):
        table = re.search(
            rf"\| {re.escape(name)} \| train \| validation \| test \|\n\|.*\|\n((?:\|.*\n)+)", text
        )
        assert table, name
        column = ("label", "source", "outcome", "segment.device")[number]
        for row in table[1].splitlines():
            value, *found = row.strip("| ").split(" | ")
            value = "" if value == "(none)" else value
            for split, count in zip(card["splits"], found, strict=True):
                rows = frame.filter(pl.col("split") == split)
                assert counts(rows, column).get(value, 0) == int(count)
    for sentence in card["biases"]:
        assert f"- {sentence}" in text


def test_biases_are_said_where_they_hold_and_nowhere_else(sqlite_url: str, tmp_path: Path) -> None:
    """A warning that always stands there is read by nobody."""
    ledger = opened(sqlite_url)
    try:
        records = [{**one, "outcome": 0, "arm": 0xFFFF, "propensity": 1.0} for one in calls(3, 40)]
        write(ledger, records)
        review(ledger, records)
        clean, _ = made(sqlite_url, tmp_path / "clean", Plan())
        assert clean["biases"] == []
        feedback(ledger, records, 5)
        told, frame = made(sqlite_url, tmp_path / "told", Plan())
    finally:
        ledger.close()
    given = len(frame.filter(pl.col("source") != "review"))
    corrected = len(frame.filter(pl.col("revision") > 1))
    assert told["biases"][0].startswith(
        f"{given:,} of {len(frame):,} rows are feedback. Who answers is not random"
    )
    assert told["biases"][1].startswith(f"{corrected:,} labels were corrected")


def test_more_values_than_are_counted_by_name_are_counted_together() -> None:
    """Callers name labels where a route does not: a card stays small."""
    import pyarrow as pa

    tally = SplitTally()
    for start in (0, 800):
        column = pa.chunked_array([[str(number) for number in range(start, start + 800)]])
        tally._count(tally.by.setdefault("label", Counter()), column)
    assert len(tally.by["label"]) == MOST_VALUES + 1
    assert sum(tally.by["label"].values()) == 1600
    assert tally.by["label"][OTHER] == 600


def test_agreement_is_counted_across_portions() -> None:
    """The labels of a prediction may come in two portions; yes and no count where no label is named."""
    agreement = Agreement()
    agreement.add([decision(1), decision(2)], [0, 0], ["app", "app"], ["spam", None], [True, False])
    agreement.add(
        [decision(2), decision(2), decision(3)], [0, 1, 1], ["review"] * 3, ["ham"] * 3, [False] * 3
    )
    assert agreement.as_list() == [{"sources": ["app", "review"], "predictions": 1, "agree": 1}]


def test_the_window_is_cut_at_whole_hours_as_everywhere(filled: str, tmp_path: Path) -> None:
    """So that labels and the predictions they are a part of are the same ones."""
    from gateway.ledger import Window
    from tests.ledger.making import NOW_US

    since = NOW_US + 5 * DAY_US + 17
    card, frame = made(filled, tmp_path / "out", Plan(window=Window(since, since + 9 * DAY_US)))
    start, end = moment(card["window"]["since"]), moment(card["window"]["until"])
    assert start.timestamp() * 1e6 <= since < start.timestamp() * 1e6 + HOUR_US
    assert end - start == timedelta(days=9, hours=1)
    assert start <= frame["time"].min() <= frame["time"].max() < end
    (of,) = card["coverage"].values()
    hour = start.timestamp() * 1e6
    assert of["predictions"] == sum(hour <= one["time_us"] < end.timestamp() * 1e6 for one in calls(1, 300))
