"""Rewards of arms as the database adds them up: on both databases, what counts and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gateway.ledger import LabelRow, Ledger, Truth
from gateway.ledger.arms import ArmRewards, Rewarded, Stretch, arm_rewards
from tests.ledger.making import FACTS, HOUR_US, NOW_US, label

ALL = Stretch(0, NOW_US + HOUR_US)


def said(
    number: int,
    truth: Truth,
    arm: str | None = "v4",
    source: str = "users",
    after_s: float = 0.0,
    **of: object,
) -> LabelRow:
    facts = replace(FACTS, arm=arm, propensity=0.25, **of)  # type: ignore[arg-type]
    row = label(number, True, received_us=NOW_US + round(after_s * 1e6))
    return replace(row, truth=truth, facts=facts, source=source)


def test_labels_are_right_or_wrong_by_arm_and_probability(ledger: Ledger) -> None:
    """Right is what was flagged and is positive, or neither; without an arm nothing was explored."""
    yes, no = Truth(positive=True), Truth(positive=False)
    ledger.submit_labels(
        [
            said(1, yes),
            said(2, no),
            said(3, no, flagged=False),
            said(4, yes, flagged=None),
            said(5, yes, arm=None),
            said(6, yes, route="fraud", arm="v3"),
            said(7, yes, source="review", review_pi=0.5),
            said(8, yes, source="review", sampled=False),
            said(9, Truth(value=1.0, signal="thumbs")),
        ]
    ).result()
    wanted = {"spam": Rewarded("label"), "fraud": Rewarded("label"), "idle": Rewarded("label")}
    found = arm_rewards(ledger.reader, wanted, ALL)
    assert set(found) == {"spam", "fraud"}
    assert rows(found["spam"]) == [("v4", 0.25, 1.0, 3, 2.0, 2.0)]
    assert rows(found["fraud"]) == [("v3", 0.25, 1.0, 1, 1.0, 1.0)]
    found = arm_rewards(ledger.reader, {"spam": Rewarded("label", source="review")}, ALL)
    assert rows(found["spam"]) == [("v4", 0.25, 0.5, 1, 1.0, 1.0)]


def test_numbers_count_within_their_range_and_by_their_name(ledger: Ledger) -> None:
    """Of signals the one that is named, of outcomes those without a name; of a source, if one is named."""
    ledger.submit_labels(
        [
            said(1, Truth(value=2.0, signal="stars")),
            said(2, Truth(value=4.0, signal="stars")),
            said(3, Truth(value=99.0, signal="stars")),
            said(4, Truth(value=3.0, signal="stars"), source="crawler"),
            said(5, Truth(value=1.0, signal="clicks")),
            said(6, Truth(value=5.0)),
        ]
    ).result()
    stars = Rewarded("signal", "stars", "users", 1, 5)
    assert rows(arm_rewards(ledger.reader, {"spam": stars}, ALL)["spam"]) == [("v4", 0.25, 1.0, 2, 6.0, 20.0)]
    everybody = replace(stars, source=None)
    assert rows(arm_rewards(ledger.reader, {"spam": everybody}, ALL)["spam"]) == [
        ("v4", 0.25, 1.0, 3, 9.0, 29.0)
    ]
    outcome = Rewarded("outcome", low=1, high=5)
    assert rows(arm_rewards(ledger.reader, {"spam": outcome}, ALL)["spam"]) == [
        ("v4", 0.25, 1.0, 1, 5.0, 25.0)
    ]


def test_what_came_late_or_was_corrected_counts_no_more(ledger: Ledger) -> None:
    """Within the time that every prediction has; the last word of each source."""
    ledger.submit_labels(
        [said(1, Truth(positive=True)), said(2, Truth(positive=True), after_s=3601)]
    ).result()
    ledger.submit_labels([said(1, Truth(positive=False), after_s=5)]).result()
    reward = {"spam": Rewarded("label")}
    assert rows(arm_rewards(ledger.reader, reward, ALL)["spam"]) == [("v4", 0.25, 1.0, 2, 1.0, 1.0)]
    within = replace(ALL, within_us=HOUR_US)
    assert rows(arm_rewards(ledger.reader, reward, within)["spam"]) == [("v4", 0.25, 1.0, 1, 0.0, 0.0)]
    assert arm_rewards(ledger.reader, reward, Stretch(0, NOW_US)) == {}


def rows(found: ArmRewards) -> list[tuple[object, ...]]:
    columns = (found.arm, found.propensity, found.pi, found.count, found.total, found.squares)
    return sorted(zip(*(np.asarray(column).tolist() for column in columns), strict=True))
