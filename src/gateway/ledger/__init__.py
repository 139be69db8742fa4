"""What is kept: labels, review tasks, policies, who did what, and additive tallies of everything else.

In: batches of records from the data plane, labels, reviewers' answers, policies. Out: numpy columns for the
report (see `reading`: `Reader.calls`, `.overhead`, `.shadows`, `.labelled`, `.population`). Never:
acknowledges what is not on disk, blocks the thread that brings a batch, or grows without a named limit.

For the report: `reader = Reader.open(url)`; every method takes a `Window(since_us, until_us, route)`. Strata
of a route's review sample are the distinct `(flagged, pi)` of `population()`; their sizes N_h are sums of
`rows`; their labels are the rows of `labelled(window, source="review")` with the same `(flagged, pi)`.
"""

from gateway.ledger.grid import NO_SCORE, OVERHEAD_BUCKETS, SCORE_BINS, overhead_edges_us, score_edges
from gateway.ledger.labels import REVIEW, Facts, Kept, LabelRow, RouteClasses, Truth, truth_of
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Limits
from gateway.ledger.pending import PendingRow, Resolved
from gateway.ledger.reading import Calls, Labelled, Overhead, Population, Reader, Shadows, Window
from gateway.ledger.review import (
    Lease,
    NothingForYou,
    QueueRule,
    QueueStats,
    Revealed,
    ReviewRules,
    TaskRule,
    rules_of,
)
from gateway.ledger.urgent import Urgent

__all__ = [
    "NO_SCORE",
    "OVERHEAD_BUCKETS",
    "REVIEW",
    "SCORE_BINS",
    "Calls",
    "Facts",
    "Kept",
    "LabelRow",
    "Labelled",
    "Lease",
    "Ledger",
    "Limits",
    "NothingForYou",
    "Overhead",
    "PendingRow",
    "Population",
    "QueueRule",
    "QueueStats",
    "Reader",
    "Resolved",
    "Revealed",
    "ReviewRules",
    "RouteClasses",
    "Shadows",
    "TaskRule",
    "Truth",
    "Urgent",
    "Window",
    "overhead_edges_us",
    "rules_of",
    "score_edges",
    "truth_of",
]
