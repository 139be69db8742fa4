"""What is done where a gate fails: once, within its limits, by whom it may be, and taken back when somebody says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.autopilot.acting import Acting, Failure
from gateway.config.gates import Gate
from gateway.errors import LedgerError, NotFound, PolicyConflict
from gateway.ledger import Ledger, acts
from gateway.runtime.learnt import Learnt
from tests.autopilot.standing import HOUR_US, NOW_US, Ruled


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.open()
    yield Ruled(ledger, tmp_path)
    ledger.close()


def acting(ruled: Ruled, change: Callable[[Callable[[], int]], int] | None = None) -> Acting:
    return Acting(ruled.ledger, ruled.book, change or ruled.change, lambda: ruled.now)


def failure(then: Any = "roll_back", since_us: int = NOW_US, **gate: Any) -> Failure:
    made = Gate.model_validate({"name": "holds", "metric": "precision", "at_least": 0.9, "then": then} | gate)
    return Failure("spam", made, "", since_us, "precision 0.80 [0.74, 0.86], wanted at least 0.90")


def trail(ruled: Ruled) -> list[tuple[str, str, str]]:
    found = ruled.ledger.reader.snapshot(partial(acts.history, route="spam"))
    return [(one.act, one.state, one.actor) for one in found]


@pytest.mark.parametrize(
    ("then", "learnt", "words"),
    [
        ("roll_back", Learnt(skip=("v3",), arms={}), "lite answers in place of v3"),
        ({"roll_back": "ham"}, Learnt(skip=("v3", "lite"), arms={}), "ham answers in place of v3"),
        ("raise_floor", Learnt(floor=0.8), "raised to 0.8"),
        ("stop_exploring", Learnt(arms={}), "v3 gets every call"),
    ],
)
def test_a_failed_gate_changes_the_policy_and_says_so(
    ruled: Ruled, then: Any, learnt: Learnt, words: str
) -> None:
    """One act, one version, one line in the trail that tells why."""
    [act] = acting(ruled).consider([failure(then)], NOW_US + 1)
    assert ruled.learnt("spam") == learnt
    assert (act.state, act.before, act.after) == ("done", 1, 2)
    assert words in act.words
    assert act.words.startswith("precision 0.80")
    kept = ruled.ledger.find_policy()
    assert kept is not None
    assert (kept.author, kept.reason) == ("autopilot", f"holds: {act.details['what']}")


def test_a_kill_stops_the_route_and_an_undo_lets_it_go_on(ruled: Ruled) -> None:
    [act] = acting(ruled).consider([failure("kill")], NOW_US + 1)
    assert ruled.now.stopped == {"spam"}
    acting(ruled).undo(act.id, actor="ann", reason="it was the labels", now_us=NOW_US + 2)
    assert ruled.now.stopped == frozenset()


def test_a_kill_of_what_was_stopped_before_is_not_undone(ruled: Ruled) -> None:
    """Whoever stopped it did not ask for it to go on."""
    ruled.book.kill("spam", revive=False, author="ann", reason="mine")
    [act] = acting(ruled).consider([failure("kill")], NOW_US + 1)
    with pytest.raises(LedgerError, match="changed nothing"):
        acting(ruled).undo(act.id, actor="bob", reason="", now_us=NOW_US + 2)
    assert ruled.now.stopped == {"spam"}


def test_what_is_only_told_changes_nothing(ruled: Ruled) -> None:
    [act] = acting(ruled).consider([failure("notify")], NOW_US + 1)
    assert (act.state, act.after, ruled.changes) == ("done", None, 0)


def test_a_failure_is_acted_on_once_and_a_later_one_after_its_cool_down(ruled: Ruled) -> None:
    """The labels behind a verdict were of the model that has been rolled back: acting on them twice would skip all."""
    one = acting(ruled)
    assert len(one.consider([failure()], NOW_US + 1)) == 1
    assert one.consider([failure()], NOW_US + 9 * HOUR_US) == []
    again = failure(since_us=NOW_US + 2 * HOUR_US)
    assert one.consider([again], NOW_US + 3 * HOUR_US) == []
    assert len(one.consider([again], NOW_US + 7 * HOUR_US)) == 1
    assert ruled.learnt("spam").skip == ("v3", "lite")


def test_no_more_than_its_maximum_a_day(ruled: Ruled) -> None:
    one = acting(ruled)
    for hour, done in [(0, 1), (1, 1), (2, 0), (23, 0), (25, 1)]:
        at = NOW_US + hour * HOUR_US
        made = failure("notify", since_us=at, cooldown_h=0, max_per_day=2)
        assert len(one.consider([made], at + 1)) == done, hour


def test_a_dry_run_says_what_would_be_done(ruled: Ruled) -> None:
    [act] = acting(ruled).consider([failure(dry_run=True)], NOW_US + 1)
    assert (act.state, ruled.changes) == ("dry_run", 0)
    assert "lite answers in place of v3" in act.words
    assert acting(ruled).consider([failure(dry_run=True)], NOW_US + 2) == []


def test_a_proposal_waits_and_is_done_or_refused_by_a_person(ruled: Ruled) -> None:
    one = acting(ruled)
    [act] = one.consider([failure(approval=True)], NOW_US + 1)
    assert (act.state, ruled.changes) == ("proposed", 0)
    later = failure(since_us=NOW_US + HOUR_US, approval=True)
    assert one.consider([later], NOW_US + 2 * HOUR_US) == [], "one question at a time"
    done = one.approve(act.id, actor="ann", now_us=NOW_US + 2)
    assert (done.state, done.actor, ruled.learnt("spam").skip) == ("done", "ann", ("v3",))
    with pytest.raises(LedgerError, match="answered before"):
        one.approve(act.id, actor="bob", now_us=NOW_US + 3)
    [second] = one.consider([failure(since_us=NOW_US + 9 * HOUR_US, approval=True)], NOW_US + 10 * HOUR_US)
    one.refuse(second.id, actor="bob", reason="a holiday", now_us=NOW_US + 11 * HOUR_US)
    with pytest.raises(NotFound, match="no proposal 99"):
        one.refuse(99, actor="bob", reason="", now_us=NOW_US)
    assert ruled.learnt("spam").skip == ("v3",)
    assert [state for _, state, _ in trail(ruled)] == ["proposed", "begun", "done", "proposed", "refused"]


def test_what_was_done_is_undone_once_and_what_was_learnt_since_stays(ruled: Ruled) -> None:
    one = acting(ruled)
    [act] = one.consider([failure()], NOW_US + 1)
    ruled.book.learn("spam", {"threshold": 0.7}, author="ann", reason="")
    one.undo(act.id, actor="ann", reason="", now_us=NOW_US + 2)
    assert ruled.learnt("spam") == Learnt(threshold=0.7)
    with pytest.raises(LedgerError, match="undone before"):
        one.undo(act.id, actor="ann", reason="", now_us=NOW_US + 3)
    assert one.consider([failure()], NOW_US + 4) == [], "who undid it knows of this failure"
    assert [state for _, state, _ in trail(ruled)] == ["begun", "done", "undone"]


def test_an_act_that_was_cut_off_is_brought_to_its_end(ruled: Ruled) -> None:
    """kill -9 between the entry and the policy: done once, and still undone to what was before."""

    def dies(make: Callable[[], int]) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acting(ruled, dies).consider([failure()], NOW_US + 1)
    assert [state for _, state, _ in trail(ruled)] == ["begun"]
    [act] = acting(ruled).consider([failure()], NOW_US + 2)
    assert (act.state, ruled.learnt("spam").skip, ruled.changes) == ("done", ("v3",), 1)
    acting(ruled).undo(act.id, actor="ann", reason="", now_us=NOW_US + 3)
    assert ruled.learnt("spam") == Learnt()


def test_an_act_that_cannot_be_done_is_told_and_tried_again(ruled: Ruled) -> None:
    def conflict(make: Callable[[], int]) -> int:
        raise PolicyConflict("somebody was first")

    [act] = acting(ruled, conflict).consider([failure()], NOW_US + 1)
    assert act.state == "failed"
    assert "not done: somebody was first" in act.words
    assert acting(ruled).consider([failure()], NOW_US + 2) == [], "not at once"
    [again] = acting(ruled).consider([failure()], NOW_US + HOUR_US)
    assert again.state == "done"


def test_what_has_nowhere_to_go_back_to_says_so(ruled: Ruled) -> None:
    ruled.book.learn("spam", {"skip": ["v3", "lite"]}, author="ann", reason="")
    [act] = acting(ruled).consider([failure()], NOW_US + 1)
    assert "nothing is left in the chain" in act.words
    assert act.after is None
