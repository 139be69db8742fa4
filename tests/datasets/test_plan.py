"""What may be asked for, and what is said of all else."""

from __future__ import annotations

import pytest

from gateway.datasets import parse_split
from gateway.errors import DataSetError


@pytest.mark.parametrize(
    ("text", "by", "cuts", "names"),
    [
        ("unit:0.8", "unit", (0.8,), ("train", "test")),
        ("time:0.7,0.2", "time", (0.7, 0.9), ("train", "validation", "test")),
        ("unit:.5,.25", "unit", (0.5, 0.75), ("train", "validation", "test")),
    ],
)
def test_shares_name_the_splits(text: str, by: str, cuts: tuple[float, ...], names: tuple[str, ...]) -> None:
    """The rest is always the test set."""
    split = parse_split(text)
    assert (split.by, split.cuts, split.names) == (by, pytest.approx(cuts), names)
    assert parse_split(split.text).cuts == pytest.approx(cuts)


@pytest.mark.parametrize("text", ["time:2026-11-01", "time:2026-11-01T00:00Z", "time:2026-11-01T02:00+02:00"])
def test_a_moment_cuts_by_time(text: str) -> None:
    """So that a data set of next month is cut where this one is."""
    split = parse_split(text)
    assert split.at_us == 1_793_491_200_000_000
    assert split.text == "time:2026-11-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.8", "wanted time:SHARE or unit:SHARE"),
        ("rows:0.8", "wanted time:SHARE or unit:SHARE"),
        ("unit:", "wanted time:SHARE or unit:SHARE"),
        ("unit:0", "one or two shares above 0"),
        ("unit:-0.1", "one or two shares above 0"),
        ("unit:nan", "one or two shares above 0"),
        ("unit:0.1,0.1,0.1", "one or two shares above 0"),
        ("unit:1", "add up to 1, wanted less than 1"),
        ("time:0.8,0.3", "add up to 1.1, wanted less than 1"),
        ("unit:2026-11-01", "'2026-11-01' is no share"),
        ("time:0.5,then", "'then' is no share"),
        ("time:soon", "'soon' is no time"),
    ],
)
def test_what_makes_no_sense_is_said_with_a_mend(text: str, words: str) -> None:
    """Found, wanted, an example."""
    with pytest.raises(DataSetError, match=words):
        parse_split(text)


def test_a_gap_belongs_to_time() -> None:
    """Between units there is none."""
    with pytest.raises(DataSetError, match="a gap belongs to a split by time"):
        parse_split("unit:0.8", gap_us=1)
