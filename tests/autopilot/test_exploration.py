"""Shares of arms follow what was said about them: within bounds, seldom, with a reason, and only where it is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from gateway.autopilot.exploration import KIND, Exploration
from gateway.autopilot.flow import FLOW
from gateway.ledger import LabelRow, Ledger, Truth, verdicts
from gateway.ledger.verdicts import Verdict
from gateway.quality.evidence import Evidence
from gateway.quality.starvation import FALLS, make_flow
from tests.autopilot.exploring import FACTS, LEARNING, SETTINGS, Explored, decisions
from tests.autopilot.standing import NOW_US


@pytest.fixture
def explored(tmp_path: Path) -> Iterator[Explored]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", clock_us=lambda: NOW_US)
    ledger.open()
    yield Explored(ledger, tmp_path)
    ledger.close()


def test_shares_move_to_the_better_arm_with_a_reason_and_keep_the_floor(explored: Explored) -> None:
    """One policy version and one line in the trail that says what moved and by what."""
    explored.settings()
    assert explored.look() == "shares stay: no reward has come yet"
    explored.say("v3", 30, 20)
    explored.say("v4", 42, 8)
    why = explored.look(60)
    assert why.startswith("arms: v3 0.5 -> 0.05")
    assert why.endswith("by thompson, after 100 labels")
    assert explored.shares == {"v3": 0.05, "v4": 0.95}
    kept = explored.ledger.find_policy()
    assert kept is not None
    assert (kept.author, kept.reason) == ("autopilot", why)
    assert explored.acted() == [("share_arms", "done", why)]
    one = explored.state["arms"]["v4"]
    assert (one["share"], one["labels"], one["snips"]["value"]) == (0.95, 50, pytest.approx(0.84))
    assert one["low"] < one["mean"] < one["high"]


def test_the_cap_holds_until_a_person_moves_it(explored: Explored) -> None:
    """A machine alone gives the newcomers no more than a fifth."""
    explored.settings("algorithm: thompson, cap: 0.2, every_s: 60")
    assert explored.shares == {"v3": 0.8, "v4": 0.2}
    explored.say("v3", 100, 100)
    explored.say("v4", 100, 0)
    assert "stopped: v4 is the best arm" in explored.look(60)
    assert explored.shares == {"v3": 0.8, "v4": 0.2}


def test_shares_move_no_more_often_than_they_may_and_only_by_enough(explored: Explored) -> None:
    """Every move is a version that others wait for."""
    explored.settings()
    explored.say("v3", 30, 20)
    explored.say("v4", 40, 10)
    explored.look(60)
    version = explored.standing.version
    assert version == 2
    explored.say("v3", 60, 0)
    assert "shares stay: they moved less than 3600 s ago" in explored.look(1800)
    assert explored.standing.version == version
    assert explored.look(3600).startswith("arms: ")


def test_a_winner_is_latched_and_shares_stay(explored: Explored) -> None:
    """Later bad luck of the winner starts nothing again; the loser keeps its floor."""
    explored.settings()
    explored.say("v3", 50, 50)
    explored.say("v4", 95, 5)
    explored.look(60)
    assert explored.state["winner"] == "v4"
    assert [act for act, _, _ in explored.acted()] == ["winner", "share_arms"]
    assert explored.shares == {"v3": 0.05, "v4": 0.95}
    explored.say("v4", 0, 400)
    explored.part = explored.restarted()
    assert "stopped: v4 is the best arm (the evidence for it is" in explored.look(7200)
    assert explored.shares == {"v3": 0.05, "v4": 0.95}


def test_until_never_goes_on_following(explored: Explored) -> None:
    """The winner of before is still told of."""
    explored.settings(f"{LEARNING}, until: never")
    explored.say("v3", 50, 50)
    explored.say("v4", 95, 5)
    explored.look(60)
    explored.say("v4", 0, 2000)
    explored.look(7200)
    assert explored.state["winner"] == "v4"
    assert explored.shares == {"v3": 0.95, "v4": 0.05}


def fail_a_gate(explored: Explored) -> None:
    verdict = Verdict(NOW_US, 1, "spam", "holds", "", "fail", 0.4, 0.3, 0.45, 99, "precision 0.40")
    explored.ledger.transact(partial(verdicts.note, verdicts=[verdict])).result()


def starve(explored: Explored) -> None:
    stop_source(explored, "user")


def stop_source(explored: Explored, source: str) -> None:
    """Twenty labels a day, and for ten days none."""
    first = NOW_US // 86_400_000_000 - 10
    flow = make_flow([1000] * 14, [20] * 14, [1.0] * 14)
    evidence = Evidence((1e8,) * len(FALLS), 1e8, first, 10)
    days = [[first + day, 1000, 0, 20.0] for day in range(10)]
    state = {"flow": asdict(flow), "evidence": evidence.as_dict(), "days": days, "day": first + 9}
    explored.ledger.put_states(FLOW, {("spam", source): state})


def kill(explored: Explored) -> None:
    explored.book.kill("spam", revive=False, author="ann", reason="")


def skip(explored: Explored) -> None:
    explored.book.learn("spam", {"skip": ["v3"]}, author="ann", reason="")


def shadow(explored: Explored) -> None:
    explored.book.learn("spam", {"autonomy": "shadow"}, author="ann", reason="")


def stop_exploring(explored: Explored) -> None:
    explored.book.learn("spam", {"arms": {}}, author="ann", reason="")


@pytest.mark.parametrize(
    ("danger", "words"),
    [
        (fail_a_gate, "frozen: the gate holds fails"),
        (starve, "frozen: The source user stopped since 2023-11-04: 0 came where about 200"),
        (kill, "frozen: the kill switch is open"),
        (skip, "frozen: v3 is passed over"),
        (shadow, "nothing is explored: on the level shadow"),
        (stop_exploring, "nothing is explored: a gate or a person stopped it"),
    ],
)
def test_safety_goes_first(explored: Explored, danger: Callable[[Explored], None], words: str) -> None:
    """However clear the rewards are, no share moves; and the reason is told."""
    explored.settings()
    danger(explored)
    version = explored.standing.version
    explored.say("v3", 50, 50)
    explored.say("v4", 99, 1)
    assert words in explored.look(60)
    assert explored.standing.version == version
    assert explored.state["frozen"] == explored.state["why"]


def test_a_source_that_is_none_of_the_rewards_freezes_nothing(explored: Explored) -> None:
    """Somebody removed another button."""
    explored.settings()
    stop_source(explored, "app (clicks)")
    explored.say("v3", 25, 25)
    explored.say("v4", 49, 1)
    assert explored.look(60).startswith("arms: ")


def test_a_gate_that_the_settings_have_no_more_freezes_nothing(explored: Explored) -> None:
    """Its last verdict stays in the history for ever."""
    explored.settings()
    verdict = Verdict(NOW_US, 1, "spam", "gone", "", "fail", 0.4, 0.3, 0.45, 99, "precision 0.40")
    explored.ledger.transact(partial(verdicts.note, verdicts=[verdict])).result()
    explored.say("v3", 25, 25)
    explored.say("v4", 49, 1)
    assert explored.look(60).startswith("arms: ")


def test_what_a_person_takes_back_stays_back_for_as_long_as_a_move_would(explored: Explored) -> None:
    """Else the next cycle would undo the undoing."""
    explored.settings()
    explored.say("v3", 30, 20)
    explored.say("v4", 44, 6)
    explored.look(60)
    explored.book.learn("spam", {"arms": {"v3": 0.5, "v4": 0.5}}, author="ann", reason="undo")
    assert "they moved less than 3600 s ago" in explored.look(3600)
    assert explored.shares == {"v3": 0.5, "v4": 0.5}
    assert explored.look(3600).startswith("arms: v3 0.5 -> 0.05")


def test_rewards_are_weighed_by_the_share_that_was_in_force(explored: Explored) -> None:
    """All got better while v4's share rose: its plain mean is the higher one, and it is not the better arm."""
    explored.settings()
    for shares, v3, v4 in (((0.9, 0.1), (225, 225), (20, 30)), ((0.1, 0.9), (45, 5), (360, 90))):
        explored.book.learn("spam", {"arms": {"v3": shares[0], "v4": shares[1]}}, author="ann", reason="")
        explored.say("v3", *v3)
        explored.say("v4", *v4)
    explored.look(60)
    arms = explored.state["arms"]
    assert (arms["v3"]["snips"]["value"], arms["v4"]["snips"]["value"]) == (
        pytest.approx(0.7),
        pytest.approx(0.6),
    )
    assert explored.shares["v3"] > 0.9


def test_reviewers_labels_weigh_by_their_probability_and_others_do_not_count(explored: Explored) -> None:
    """On a route that is reviewed; what reviewers saw unasked has no probability."""
    explored.settings(more="    review: {share: {flagged: 0.5, low: 0.1}}")
    for arm, right, wrong in (("v3", 30, 20), ("v4", 40, 10)):
        explored.say(arm, right, wrong, source="review", flagged=True, review_pi=0.5)
        explored.say(arm, 19, 1, source="review", flagged=False, review_pi=0.1)
        explored.say(arm, 0, 100, source="review", sampled=False)
        explored.say(arm, 0, 100)
    explored.look(60)
    v3, v4 = explored.state["arms"]["v3"], explored.state["arms"]["v4"]
    assert (v3["labels"], v4["labels"]) == (70, 70)
    assert v3["snips"]["value"] == pytest.approx((60 + 190) / (100 + 200))
    assert v4["snips"]["value"] == pytest.approx((80 + 190) / (100 + 200))


def test_young_predictions_and_late_labels_wait(explored: Explored) -> None:
    """With a delay, every prediction has had the same time for what is said of it."""
    explored.settings(f"{LEARNING}, delay_h: 2")
    explored.say("v3", 30, 0, age_s=3600)
    explored.say("v4", 20, 10, age_s=3 * 3600)
    explored.say("v4", 10, 0, age_s=3 * 3600, after_s=2.5 * 3600)
    explored.look()
    assert [explored.state["arms"][arm]["labels"] for arm in ("v3", "v4")] == [0, 30]
    explored.look(3601)
    assert [explored.state["arms"][arm]["labels"] for arm in ("v3", "v4")] == [30, 30]


def test_a_look_costs_what_a_week_brings_and_nothing_is_counted_twice(explored: Explored) -> None:
    """What is older is settled: it is added once, kept over restarts, and need not be in the ledger any more."""
    explored.settings("algorithm: fixed")
    for _ in range(30):
        explored.say("v3", 3, 1)
        explored.say("v4", 2, 2)
        explored.part = explored.restarted()
        explored.look(24 * 3600)
    assert [explored.state["arms"][arm]["labels"] for arm in ("v3", "v4")] == [120, 120]
    settled = explored.state["settled"]["labels"]
    assert settled == [4 * 23, 4 * 23]
    boundary = explored.state["settled_us"]
    old = sa.text(f"DELETE FROM labels WHERE time_us < {boundary}")
    explored.ledger.transact(lambda connection: connection.execute(old)).result()
    explored.look(3600)
    assert [explored.state["arms"][arm]["labels"] for arm in ("v3", "v4")] == [120, 120]


def test_what_was_corrected_counts_as_it_was_said_last(explored: Explored) -> None:
    """As long as it is not settled."""
    explored.settings()
    explored.say("v3", 20, 0)
    explored.say("v4", 20, 0)
    explored.look(60)
    first = next(decisions)
    row = LabelRow(first.to_bytes(16, "big"), 0, "user", Truth(positive=True), FACTS, NOW_US)
    explored.ledger.submit_labels([row]).result()
    explored.ledger.submit_labels(
        [replace(row, truth=Truth(positive=False), received_us=NOW_US + 1)]
    ).result()
    explored.look(60)
    v3 = explored.state["arms"]["v3"]
    assert v3["labels"] == 21
    assert v3["snips"]["value"] == pytest.approx(20 / 21)


def test_another_model_behind_an_arm_begins_anew(explored: Explored) -> None:
    """What its predecessor deserved is not its own; another cap changes no evidence."""
    explored.settings("algorithm: fixed")
    explored.say("v3", 20, 0)
    explored.look(60)
    explored.settings("algorithm: thompson, cap: 0.5")
    explored.look(60)
    assert explored.state["arms"]["v3"]["labels"] == 20
    explored.settings("algorithm: thompson, cap: 0.5", version="4")
    explored.look(60)
    assert explored.state["arms"]["v3"]["labels"] == 0
    explored.say("v3", 5, 0, age_s=0)
    explored.look(60)
    assert explored.state["arms"]["v3"]["labels"] == 5


def test_what_is_explored_no_more_is_forgotten(explored: Explored) -> None:
    """A report must not go on telling of it."""
    explored.settings("algorithm: fixed")
    explored.say("v3", 5, 0)
    explored.look(60)
    text = SETTINGS.format(explore="algorithm: fixed", more="", version="3").replace(
        "    explore:", "    # explore:"
    )
    explored.book.publish(text, author="ann", reason="")
    explored.part.look(explored.standing, explored.now_us + 1)
    assert explored.ledger.states(KIND) == {}


@pytest.mark.parametrize("reward", ["outcome", "signal:stars"])
def test_numbers_are_rewards_within_their_range(explored: Explored, reward: str) -> None:
    """Values have the unit of the settings; what lies outside does not count, nor another signal."""
    explored.settings(f"{LEARNING}, reward: '{reward}', range: [1, 5]")
    name = reward.partition(":")[2]
    rng = np.random.default_rng(5)
    rows = []
    for arm, mean in (("v3", 3.0), ("v4", 4.0)):
        values = [*(mean + rng.uniform(-1, 1, 60)), 99.0]
        for value in values:
            truth = Truth(value=float(value), signal=name)
            facts = replace(FACTS, arm=arm)
            rows.append(LabelRow(next(decisions).to_bytes(16, "big"), 0, "app", truth, facts, NOW_US))
        other = Truth(value=1.0, signal="clicks")
        rows.append(
            LabelRow(next(decisions).to_bytes(16, "big"), 0, "app", other, replace(FACTS, arm=arm), NOW_US)
        )
    explored.ledger.submit_labels(rows).result()
    explored.look(60)
    v3, v4 = explored.state["arms"]["v3"], explored.state["arms"]["v4"]
    assert (v3["labels"], v4["labels"]) == (60, 60)
    assert v3["snips"]["value"] == pytest.approx(3.0, abs=0.3)
    assert v4["snips"]["value"] == pytest.approx(4.0, abs=0.3)
    assert explored.state["winner"] == "v4"


def test_fixed_shares_are_compared_and_never_moved(explored: Explored) -> None:
    """A plain A/B test: the winner is told."""
    explored.settings("algorithm: fixed")
    explored.say("v3", 50, 50)
    explored.say("v4", 95, 5)
    assert explored.look(60) == "shares are fixed by the settings"
    assert explored.state["winner"] == "v4"
    assert explored.standing.version == 1


def test_a_policy_that_is_not_taken_moves_nothing(explored: Explored) -> None:
    """Said where it is asked why; tried again at the next look."""
    explored.settings()
    explored.say("v3", 30, 20)
    explored.say("v4", 42, 8)

    def refuses(make: Callable[[], int]) -> int:
        from gateway.errors import GatewayError

        raise GatewayError("the data plane is full")

    explored.part = Exploration(explored.ledger, explored.book, refuses)
    assert explored.look(60) == "shares were not moved: the data plane is full"
    assert explored.acted() == []
    explored.part = explored.restarted()
    assert explored.look(60).startswith("arms: ")


def test_two_leaders_one_after_the_other_do_what_one_does(explored: Explored) -> None:
    """A fleet's leader dies: the next one has its sums, its rest and its winner."""
    explored.settings()
    explored.say("v3", 30, 20, age_s=10 * 24 * 3600)
    explored.say("v4", 44, 6)
    explored.look(60)
    before = dict(explored.state)
    explored.part = explored.restarted()
    explored.look(1)
    after = dict(explored.state)
    before.pop("why")
    after.pop("why")
    assert after == before
