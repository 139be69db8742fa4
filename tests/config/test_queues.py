"""Review queues in the settings: what contradicts them, and what is probably not meant."""

from __future__ import annotations

import pytest

from gateway.config import Loaded, read_text
from gateway.ledger import rules_of

SETTINGS = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001"}
routes:
  spam:
    chain: [spam-v3]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    review: {queue: moderation, capture: [inputs], priority: 2, deadline_h: 24}
queues:
  moderation: {reviews_required: 2, adjudicate_in: leads, gold_share: 0.05}
  leads: {reviewers: [lea@example.org], lease_s: 600, blind: true}
"""


def read(*changes: tuple[str, str]) -> Loaded:
    text = SETTINGS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read_text(text, env={})


def test_what_is_written_is_what_the_queue_works_by() -> None:
    """And what is not written is as before there were queues in the settings."""
    loaded = read()
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []
    assert loaded.settings is not None
    rules = rules_of(loaded.settings)
    moderation, leads, other = (rules.queue(name) for name in ("moderation", "leads", "other"))
    assert (moderation.reviews_required, moderation.adjudicate_in, moderation.gold_share) == (
        2,
        "leads",
        0.05,
    )
    assert (leads.reviewers, leads.lease_s, leads.blind) == (frozenset({"lea@example.org"}), 600.0, True)
    assert (other.reviews_required, other.adjudicate_in, other.gold_share, other.reviewers) == (
        1,
        None,
        0.0,
        frozenset(),
    )
    assert (rules.route("spam").priority, rules.route("spam").deadline_us) == (2, 24 * 3_600_000_000)
    assert (rules.route("other").priority, rules.route("other").deadline_us) == (5, None)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("adjudicate_in: leads", "adjudicate_in: moderation", "queues.moderation.adjudicate_in", "itself"),
        ("required: 2", "required: 0", "queues.moderation.reviews_required", ""),
        ("required: 2", "required: 10", "queues.moderation.reviews_required", ""),
        ("gold_share: 0.05", "gold_share: 0.6", "queues.moderation.gold_share", "0.5 at most"),
        ("gold_share: 0.05", "gold: 0.05", "queues.moderation", "gold_share"),
        ("lease_s: 600", "lease_s: 3601", "queues.leads.lease_s", ""),
        ("[lea@example.org]", "[lea, lea]", "queues.leads.reviewers", "stands there already"),
        ("[lea@example.org]", '[""]', "queues.leads.reviewers", "0 characters"),
        ("lease_s: 600", "reviews_required: 2", "queues.leads.reviewers", "can never give 2 answers"),
        ("priority: 2", "priority: 0", "routes.spam.review.priority", ""),
        ("priority: 2", "priority: 10", "routes.spam.review.priority", ""),
        ("deadline_h: 24", "deadline_h: 0", "routes.spam.review.deadline_h", ""),
    ],
)
def test_a_queue_that_cannot_work_is_a_fault(old: str, new: str, place: str, words: str) -> None:
    """With its place and line, before anybody reviews by it."""
    [fault] = read((old, new)).faults
    assert place in str(fault)
    assert words in str(fault)
    assert fault.line is not None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  moderation: {", "  moderatoin: {", "no task ever comes to moderatoin"),
        ("reviewers: [lea@example.org], ", "", "anybody may settle what comes to leads"),
        (
            "adjudicate_in: leads, gold_share: 0.05",
            "reviewers: [ann, bob]",
            "nobody is left who could settle it",
        ),
    ],
)
def test_a_queue_that_is_probably_not_meant_is_a_warning(old: str, new: str, words: str) -> None:
    """It works, but not as somebody would expect."""
    loaded = read((old, new))
    assert list(loaded.faults) == []
    assert any(words in str(warning) for warning in loaded.warnings)
