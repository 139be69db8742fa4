"""The client SDK: hand the truth back to the gateway, when you learn it.

In: a receipt (or whatever has one: a gRPC call, tritonclient's result) and what is true about it. Out: what became of
it. Never: needs more of the gateway than its generated code, loses an item without saying so, or retries what would be
refused again.

    FeedbackClient, AsyncFeedbackClient     send, in batches and again where that helps
    label, positive, outcome, signal        make items for `submit` and `add`
    receipt_of                              finds the receipt of an answer
"""

from gateway.client.exchange import Result
from gateway.client.feedback import AsyncFeedbackClient, FeedbackClient
from gateway.client.items import label, outcome, positive, signal
from gateway.client.receipts import receipt_of

__all__ = [
    "AsyncFeedbackClient",
    "FeedbackClient",
    "Result",
    "label",
    "outcome",
    "positive",
    "receipt_of",
    "signal",
]
