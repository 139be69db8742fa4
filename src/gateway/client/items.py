"""What can be said about a prediction, as items of a request."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from gateway.client.receipts import receipt_of
from gateway.v1 import feedback_pb2 as pb

__all__ = ["label", "outcome", "positive", "signal"]

_UUID: Final = (8, 13, 18, 23)


def label(of: Any, true_label: str, **about: Any) -> pb.FeedbackItem:
    """The true class. For `of` and further arguments see `_item`."""
    item = _item(of, **about)
    item.label = true_label
    return item


def positive(of: Any, is_positive: bool, **about: Any) -> pb.FeedbackItem:
    """Whether the truth is the route's positive class."""
    item = _item(of, **about)
    item.positive = is_positive
    return item


def outcome(of: Any, value: float, **about: Any) -> pb.FeedbackItem:
    """What came of it, as a number: for the comparison with the holdout."""
    item = _item(of, **about)
    item.value = value
    return item


def signal(of: Any, name: str, value: float = 1.0, **about: Any) -> pb.FeedbackItem:
    """What somebody did about it: a click, thumbs, a conversion with its value."""
    item = _item(of, **about)
    item.signal.name, item.signal.value = name, value
    return item


def _item(
    of: Any,
    *,
    row: int = 0,
    at: datetime | None = None,
    after_s: float | None = None,
    source: str = "",
) -> pb.FeedbackItem:
    """An item that says nothing yet.

    Args:
        of: a receipt, a decision id (a UUID), or whatever `receipt_of` finds a receipt in.
        row: of a batch.
        at: when it happened, with its zone. after_s: or how many seconds after the prediction. Of two statements that
            both say when, the later one counts, in whatever order they arrive.
        source: who says so, instead of the client's.
    Raises: ReceiptError, no receipt in `of`; ValueError, `at` without a zone, or both times.
    """
    text = of if isinstance(of, str) else receipt_of(of)
    item = pb.FeedbackItem(row=row, source=source)
    if len(text) == 36 and all(text[index] == "-" for index in _UUID):
        item.decision_id = text
    else:
        item.receipt = text
    if at is not None and after_s is not None:
        raise ValueError("at and after_s both say when it happened; give one of them")
    if at is not None:
        if at.tzinfo is None:
            raise ValueError(f"at is {at!r}, without a zone; wanted one such as datetime.now(UTC)")
        item.time_ms = round(at.timestamp() * 1000)
    if after_s is not None:
        item.delay_s = after_s
    return item
