"""Up on evidence alone, one level at a time; down at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.autopilot.autonomy import Mover, decide
from gateway.config.autonomy import Autonomy
from gateway.ledger import Ledger, acts
from gateway.ledger.verdicts import Verdict
from tests.autopilot.standing import HOUR_US, NOW_US, Ruled

UP = Autonomy.model_validate({"level": "suggest", "most": "autonomous", "min_labels": 200, "rest_h": 24})
LATER = NOW_US + 25 * HOUR_US


def verdict(said: str = "pass", labels: int = 300, time_us: int = LATER, gate: str = "holds") -> Verdict:
    return Verdict(time_us, 1, "spam", gate, "", said, 0.95, 0.93, 0.97, labels, f"{gate} {said}")


@pytest.mark.parametrize(
    ("level", "verdicts", "failing", "now_us", "after"),
    [
        ("suggest", [verdict()], False, LATER, "assisted"),
        ("assisted", [verdict()], False, LATER, "autonomous"),
        ("autonomous", [verdict()], False, LATER, None),
        ("shadow", [verdict()], False, LATER, None),  # nothing that is labelled is its answer
        ("suggest", [verdict(), verdict("inconclusive", gate="recall")], False, LATER, None),
        ("suggest", [verdict(labels=199)], False, LATER, None),
        ("suggest", [verdict(time_us=NOW_US)], False, LATER, None),  # said of the level before
        ("suggest", [], False, LATER, None),  # without a gate there is no evidence
        ("suggest", [verdict()], False, NOW_US + 23 * HOUR_US, None),
        ("autonomous", [verdict("fail")], True, LATER, "assisted"),
        ("suggest", [verdict("fail", time_us=NOW_US + 1)], True, NOW_US + 2, "shadow"),
        ("suggest", [verdict("fail", time_us=NOW_US)], True, NOW_US + 2, None),  # led here
        ("shadow", [verdict("fail")], True, LATER, None),
        ("suggest", [verdict("fail")], False, LATER, None),  # not as often in a row as it must
    ],
)
def test_a_level_is_left_for_the_one_that_the_evidence_asks_for(
    level: str, verdicts: list[Verdict], failing: bool, now_us: int, after: str | None
) -> None:
    move = decide(UP, level, NOW_US, verdicts, failing, now_us)
    assert (None if move is None else move.after) == after


def test_without_leave_no_evidence_moves_it_up() -> None:
    """`autonomy: suggest` is where it stays."""
    only = Autonomy.model_validate({"level": "suggest"})
    assert decide(only, "suggest", NOW_US, [verdict()], False, LATER) is None


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.open()
    yield Ruled(ledger, tmp_path, "    autonomy: {level: suggest, most: autonomous}")
    ledger.close()


def test_moves_are_policies_with_their_reason_and_the_rest_begins_anew(ruled: Ruled) -> None:
    mover = Mover(ruled.ledger, ruled.book, ruled.change, lambda: ruled.now)

    def consider(now_us: int, failing: bool = False, **said: Any) -> list[str]:
        made = mover.consider(
            [verdict(time_us=now_us, **said)],
            frozenset({"spam"} if failing else ()),
            now_us,
        )
        return [one.words.partition(":")[0] for one in made]

    assert consider(NOW_US) == []  # its rest begins with the first look
    assert consider(NOW_US + 25 * HOUR_US) == ["suggest -> assisted"]
    assert consider(NOW_US + 26 * HOUR_US) == []
    assert consider(NOW_US + 27 * HOUR_US, failing=True, said="fail") == ["assisted -> suggest"]
    assert ruled.learnt("spam").autonomy == "suggest"
    found = ruled.ledger.reader.snapshot(partial(acts.history, route="spam"))
    assert [(one.act, one.state, one.before, one.after) for one in found] == [
        ("autonomy", "done", 1, 2),
        ("autonomy", "done", 2, 3),
    ]
