"""`gateway gold` and `gateway reviews`, on a ledger that a gateway would have beside them."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path

from gateway.ledger import Ledger, Limits
from tests.ledger.making import Clock, decision
from tests.ledger.reviewers import answer, fill, lease, review, rule
from tests.wire.gateway_process import run_gateway


def test_gold_is_made_listed_and_retired_and_reviewers_are_told_of(tmp_path: Path) -> None:
    """As docs/review.md shows it: of what reviewers agreed on, and by hand; wrong use says what was wanted."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", Limits(linger_s=0.01), Clock(), random.Random(1))
    ledger.open()
    rule(ledger, reviews_required=2)
    fill(ledger, 1, 2)
    for reviewer in ("ann", "bob"):
        review(ledger, reviewer)
    review(ledger, "ann", True)
    state = str(tmp_path)
    made = run_gateway("gold", state, "--queue", "moderation", "--agreed", "50", "--json")
    assert made.returncode == 0, made.stderr
    [one] = json.loads(made.stdout)["gold"]
    assert (one["decision"], one["label"], one["retired"]) == (
        str(uuid.UUID(bytes=decision(1))),
        "spam",
        False,
    )
    fill(ledger, 3)
    rule(ledger, gold_share=1.0)
    answer(ledger, lease(ledger, "cat"), "cat", True)
    told = run_gateway("reviews", state)
    assert "cat: 1 of 1 gold right, 100% (21% to 100%), 0 skipped" in told.stdout, told.stdout + told.stderr
    assert "agreement: 100% over 1 tasks; no kappa" in told.stdout
    retired = run_gateway("gold", state, "--retire", str(one["number"]))
    assert retired.stdout.rstrip().endswith("retired")
    for wrong in (
        ["--agreed", "5"],
        ["--decision", "x"],
        ["--label", "spam"],
        ["--agreed", "1", "--retire", "1"],
    ):
        refused = run_gateway("gold", state, *wrong)
        assert refused.returncode == 2, wrong
        assert "wanted" in refused.stderr
    ledger.close()
