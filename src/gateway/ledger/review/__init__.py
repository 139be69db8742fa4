"""The review queue: who has which task, what was said about it, and what that comes to.

    rules       what the settings say about queues
    counts      additive counts by queue
    events      what happened to a task, in order
    finding     free tasks, by their indexes
    leasing     who has which task, until when
    taking      a lease in one statement, where the server has one for it
    answering   answers, skips and what is taken back; when a task is done
    gold        tasks whose truth is known
    stats       how a queue stands, how far reviewers agree, how often each is right

In: reviewers' calls, each with the connection of a transaction. Out: events, leases, labels. Never: two holders of one
task, an answer of a lost lease, a task that vanishes.
"""

from gateway.ledger.review.answering import Revealed, reveal, skip, submit, undo
from gateway.ledger.review.events import facts_of, find_facts
from gateway.ledger.review.gold import GoldTask
from gateway.ledger.review.leasing import Lease, NothingForYou, Stage, heartbeat, lease
from gateway.ledger.review.rules import QueueRule, ReviewRules, TaskRule, rules_of
from gateway.ledger.review.stats import Accuracy, QueueStats, accuracy, agreement, stats

__all__ = [
    "Accuracy",
    "GoldTask",
    "Lease",
    "NothingForYou",
    "QueueRule",
    "QueueStats",
    "Revealed",
    "ReviewRules",
    "Stage",
    "TaskRule",
    "accuracy",
    "agreement",
    "facts_of",
    "find_facts",
    "heartbeat",
    "lease",
    "reveal",
    "rules_of",
    "skip",
    "stats",
    "submit",
    "undo",
]
