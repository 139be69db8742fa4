"""Review queues as metrics: what is told of each."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.sources import LedgerSource
from gateway.ledger import Ledger, Limits
from tests.ledger.reviewers import fill, lease, review, rule


def test_tasks_are_told_by_queue_and_state(tmp_path: Path) -> None:
    """Done, leased and disputed ones, beside how many are open."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01))
    ledger.open()
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2, 3)
    review(ledger, "ann", True)
    review(ledger, "bob", False)
    for reviewer in ("cat", "dan"):
        review(ledger, reviewer, True)
    review(ledger, "dan", True)
    lease(ledger, "eve")
    source = LedgerSource(ledger)
    source.refresh()
    told = {
        point.attributes["state"]: point.value
        for point in source.points()
        if point.name == "gateway.review.tasks"
    }
    [queue] = ledger.review_stats()
    assert told == {
        "done": queue.done,
        "leased": 1,
        "disputed": queue.disputed,
        "skipped": 0,
        "aside": 0,
        "overdue": 0,
    }
    assert queue.done + queue.disputed >= 1
    ledger.close()
