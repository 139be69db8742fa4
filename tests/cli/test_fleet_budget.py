"""One budget for a fleet, whichever control its predictions come to and whichever of them leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.fleet_budget import GONE_US, KIND, FleetBudget
from gateway.ledger import Ledger, Limits
from gateway.ledger.review_budget import kept_budgets
from gateway.runtime import FIRST_SHARES, Secrets
from gateway.services.policies import InForce, PolicyBook
from tests.autopilot.stream import Clock, batch

SETTINGS = """\
backends: {{ham: {{answer: {{label: ham, score: 0.0}}}}}}
routes:
  spam:
    chain: [ham]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    review: {{queue: q, per_hour: {per_hour}}}
listen: {{drain_s: {drain_s}}}
"""
PER_HOUR = 3600


class Control:
    """One control's part: a ledger, a book and a budget of its own."""

    def __init__(self, url: str, folder: Path, clock: Clock) -> None:
        self.ledger = Ledger(url, Limits(linger_s=0.01))
        self.ledger.open()
        self.now_us = 1_800_000_000_000_000
        self.budget = FleetBudget(self.ledger, lambda: self.book, lambda: None, lambda: self.now_us, clock)
        secrets = Secrets("0" * 64, (b"k" * 32,))
        self.book = PolicyBook(self.ledger, secrets, folder=folder, name="settings", budgets=self.budget.kept)

    def in_force(self) -> InForce:
        found = self.book.in_force()
        assert found is not None
        self.budget.takes_over(found)
        return found

    def look(self) -> InForce:
        """As the leader does every ten seconds; the policy in force after it."""
        self.budget.look(self.in_force())
        return self.in_force()

    def told(self, what: str) -> float | None:
        found = [one.value for one in self.budget.points() if one.attributes.get("what") == what]
        return found[0] if found else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def controls(ledger_url: str, tmp_path: Path, clock: Clock) -> Iterator[tuple[Control, Control]]:
    made = Control(ledger_url, tmp_path, clock), Control(ledger_url, tmp_path, clock)
    made[0].book.publish(SETTINGS.format(per_hour=PER_HOUR, drain_s=1), author="ann", reason="start")
    for one in made:
        one.in_force()
    yield made
    for one in made:
        one.ledger.close()


def traffic(control: Control, unflagged: int, flagged: int = 0) -> None:
    control.budget.seen(batch(unflagged, flagged))
    control.budget.keep()


def test_the_leader_divides_by_what_came_to_all_controls(
    controls: tuple[Control, Control], clock: Clock
) -> None:
    """It sees a quarter of the traffic itself: shares by that alone would ask four times as much of people."""
    leader, other = controls
    leader.budget.leads(True)
    first = leader.look()
    assert first.shares == {"spam": FIRST_SHARES}
    for _ in range(6):
        traffic(leader, 900, 100)
        traffic(other, 2_700, 300)
        clock.now += 10
        leader.look()
    found = leader.look()
    shares = found.shares["spam"]
    assert shares.flagged * 40 + shares.low * 360 == pytest.approx(PER_HOUR / 3600, rel=0.3)
    assert leader.told("wanted") == PER_HOUR
    assert list(other.budget.points()) == [], "shares are the fleet's, and told once"
    kept = kept_budgets(other.ledger.reader)["spam"]
    assert kept["shares"] == shares._asdict()
    assert sum(map(sum, kept["rates"])) == pytest.approx(400, rel=0.01)


def test_the_next_leader_goes_on_from_there_and_counts_nothing_twice(
    controls: tuple[Control, Control], clock: Clock
) -> None:
    """A night's change of leaders must not put every call of the morning before people."""
    first, second = controls
    first.budget.leads(True)
    first.look()
    for _ in range(6):
        traffic(first, 4_000)
        clock.now += 10
        first.look()
    before = first.in_force()
    second.budget.leads(True)
    assert second.look().version == before.version, "it has the same shares"
    rate = 3600 * 400
    for _ in range(3):
        traffic(second, 4_000)
        clock.now += 10
        second.look()
    assert second.told("wanted") == PER_HOUR
    loads = second.budget._budget.loads()["spam"]
    assert loads.predictions_per_hour == pytest.approx(rate, rel=0.05)
    assert second.in_force().shares["spam"].low == pytest.approx(before.shares["spam"].low, rel=0.5)


def test_another_budget_counts_at_once_and_an_operators_policy_keeps_the_shares(
    controls: tuple[Control, Control], clock: Clock
) -> None:
    """What was learnt from traffic does not go with a new settings file."""
    leader, other = controls
    leader.budget.leads(True)
    leader.look()
    for _ in range(6):
        traffic(leader, 4_000)
        clock.now += 10
        leader.look()
    learnt = leader.in_force().shares["spam"]
    other.book.publish(SETTINGS.format(per_hour=PER_HOUR, drain_s=2), author="ann", reason="other")
    version = leader.in_force().version
    assert leader.look().version == version
    assert leader.in_force().shares["spam"] == learnt
    assert kept_budgets(leader.ledger.reader)["spam"]["per_hour"] == PER_HOUR
    leader.book.publish(SETTINGS.format(per_hour=2 * PER_HOUR, drain_s=2), author="ann", reason="more people")
    twice = leader.look()
    assert twice.version == version + 2
    assert twice.shares["spam"].low == pytest.approx(min(1.0, 2 * learnt.low))


def test_two_that_believe_they_lead_do_not_undo_each_other(
    controls: tuple[Control, Control], clock: Clock
) -> None:
    """For some seconds a leader does not know that it is none any more."""
    first, second = controls
    for one in controls:
        one.budget.leads(True)
    first.look()
    stale = first.in_force()
    second.look()
    for _ in range(2):
        traffic(first, 4_000)
        clock.now += 70
        second.look()
    newest = second.in_force()
    assert newest.version > stale.version
    first.budget.look(stale)
    assert second.in_force().version == newest.version


def test_the_sums_of_a_control_that_is_gone_are_taken_away(
    controls: tuple[Control, Control], clock: Clock
) -> None:
    """Each start of a control has a name of its own; those of last month are of no use."""
    leader, gone = controls
    leader.budget.leads(True)
    traffic(leader, 10)
    traffic(gone, 10)
    leader.look()
    assert len(leader.ledger.states(KIND)) == 2
    leader.now_us += GONE_US + 1
    leader.budget.keep()  # it lives: what has not grown is kept anew all the same
    leader.look()
    assert [name for _, name in leader.ledger.states(KIND)] == [leader.budget._name]
